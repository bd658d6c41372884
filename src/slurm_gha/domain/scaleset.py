"""Runner scale sets as frozen values: what GitHub's message queue tells, and the jobs that it has assigned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.labels import Labels


class NewsKind(StrEnum):
    """What a message says of a job. AVAILABLE waits to be acquired (GitHub Enterprise Server)."""

    AVAILABLE = "JobAvailable"
    ASSIGNED = "JobAssigned"
    STARTED = "JobStarted"
    COMPLETED = "JobCompleted"


@dataclass(frozen=True, slots=True)
class Statistics:
    """GitHub's count of a scale set's jobs and runners. ``assigned`` are the waiting and the running jobs together."""

    available: int = 0
    acquired: int = 0
    assigned: int = 0
    running: int = 0
    registered: int = 0
    busy: int = 0
    idle: int = 0


@dataclass(frozen=True, slots=True)
class JobNews:
    """One item of a message. Times are seconds since the epoch, None where GitHub left them out.

    ``job_id`` is the job's identity; ``request_id`` and ``run_id`` may be 0. ``repository`` is ``owner/name``.
    """

    kind: NewsKind
    job_id: str
    request_id: int = 0
    repository: str = ""
    name: str = ""
    workflow_ref: str = ""
    run_id: int = 0
    event: str | None = None
    labels: Labels = frozenset()
    queued_at: float | None = None
    runner_name: str | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the queue. ``unknown``: types of items that this version does not know."""

    id: int
    news: tuple[JobNews, ...] = ()
    statistics: Statistics | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScaleSet:
    """A scale set as GitHub keeps it: with the labels that a job's ``runs-on`` may use for it."""

    id: int
    name: str
    group_id: int
    labels: Labels = frozenset()
    disable_update: bool | None = None


@dataclass(frozen=True, slots=True)
class AssignedJob:
    """A job that GitHub has assigned to a scale set and not called completed, as far as the messages tell.

    ``started_at``: when GitHub said that ``runner_name`` has it (seconds since the epoch).
    """

    job_id: str
    repository: str
    name: str
    workflow_ref: str
    run_id: int
    event: str | None
    labels: Labels
    queued_at: float
    started_at: float | None = None
    runner_name: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a scale set belongs: there is one for each pool in each scope that uses them."""

    scope: str
    pool: str


def synthetic_id(place: Place, job_id: str) -> int:
    """A job's number where GitHub gives none: negative, the same each time, and exact in any JSON reader."""
    text = "\0".join((place.scope, place.pool, job_id))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return -1 - (int.from_bytes(digest[:8], "big") >> 12)


def origin_of(event: str | None, workflow_ref: str) -> Origin:
    """A run's origin as far as a message tells it. Whether a pull request comes from a fork, none does."""
    _, _, ref = workflow_ref.rpartition("@")
    branch = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else None
    from_elsewhere = event is None or event.startswith("pull_request") or event == "workflow_run"
    return Origin(event=event, branch=branch, actor=None, fork=None if from_elsewhere else False)


def workflow_of(workflow_ref: str) -> str:
    """The workflow's file in a reference such as ``owner/name/.github/workflows/ci.yml@refs/heads/main``."""
    return workflow_ref.partition("@")[0].rpartition("/")[2]


def as_job(job: AssignedJob, place: Place) -> Job:
    """The job in the planner's terms."""
    running = job.started_at is not None
    return Job(
        id=synthetic_id(place, job.job_id),
        scope=place.scope,
        repository=job.repository,
        run_id=job.run_id,
        run_attempt=1,
        name=job.name,
        workflow=workflow_of(job.workflow_ref),
        labels=job.labels,
        status=JobStatus.IN_PROGRESS if running else JobStatus.QUEUED,
        created_at=job.queued_at,
        started_at=job.started_at,
        runner_name=job.runner_name if running else None,
        origin=origin_of(job.event, job.workflow_ref),
        scale_set=place.pool,
    )
