"""A GitHub workflow job, as last read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.domain.labels import Labels


class JobStatus(StrEnum):
    """GitHub's ``workflow_job`` status; a word GitHub invents later reads as UNKNOWN."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    WAITING = "waiting"
    REQUESTED = "requested"
    PENDING = "pending"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus:
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class Origin:
    """What set a job's run going. ``branch``: of its head. ``fork``: whether its head lies in another repository.

    None stands for what GitHub has not told.
    """

    event: str | None = None
    branch: str | None = None
    actor: str | None = None
    fork: bool | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One workflow job. Times are seconds since the epoch.

    ``origin`` is None where only the job itself is known yet, not its run. ``scale_set`` is the pool to whose scale
    set GitHub has assigned it: no other pool's runner can get it.
    """

    id: int
    scope: str
    repository: str
    run_id: int
    run_attempt: int
    name: str
    workflow: str
    labels: Labels
    status: JobStatus
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    conclusion: str | None = None
    runner_id: int | None = None
    runner_name: str | None = None
    origin: Origin | None = None
    scale_set: str | None = None
