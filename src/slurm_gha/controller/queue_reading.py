"""One scale set as it was last heard of, and what that says of jobs and runners. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from slurm_gha.domain.labels import Labels
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.scaleset import AssignedJob, JobNews, NewsKind, Place, ScaleSet, Statistics
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.world import ScopeView
from slurm_gha.planner.level import Taker


class Standing(StrEnum):
    """BEGINNING: not read yet. CONFLICT: another controller reads the queue. FAILING: no answer, or a refusal."""

    BEGINNING = "beginning"
    LISTENING = "listening"
    CONFLICT = "conflict"
    FAILING = "failing"


@dataclass(slots=True)
class Reading:
    """One scale set. Times are seconds since the epoch.

    ``dropped``: labels that GitHub did not keep. ``heard_at``: the latest answer; ``quiet_at``: when no message was
    waiting. ``settled``: none that was waiting when the session began is left, so that a message's count is of the
    present.
    """

    place: Place
    name: str
    scale_set: ScaleSet | None = None
    dropped: Labels = frozenset()
    standing: Standing = Standing.BEGINNING
    trouble: str | None = None
    session_id: str | None = None
    session_since: float | None = None
    heard_at: float | None = None
    quiet_at: float | None = None
    statistics: Statistics | None = None
    statistics_at: float = 0.0
    latest: Statistics | None = None
    settled: bool = False
    conflicts: int = 0
    jobs: dict[str, AssignedJob] = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        """What a job's ``runs-on`` may use for it; nothing while it does not exist."""
        return self.scale_set.labels if self.scale_set is not None else frozenset()


def merged(one: ScopeView, other: ScopeView) -> ScopeView:
    """A scope that is read in two ways is as old as the older reading, and as wrong as either."""
    return ScopeView(
        one.name,
        None if one.jobs_at is None or other.jobs_at is None else min(one.jobs_at, other.jobs_at),
        None if one.runners_at is None or other.runners_at is None else min(one.runners_at, other.runners_at),
        one.jobs_error or other.jobs_error,
        one.runners_error or other.runners_error,
    )


def assigned(news: JobNews, now: float, before: AssignedJob | None = None) -> AssignedJob:
    """The job of an item; ``before`` is what was known of it. Assigned again, it has not started."""
    if before is not None:
        return before if news.kind is NewsKind.STARTED else replace(before, started_at=None, runner_name=None)
    queued_at = news.queued_at if news.queued_at is not None and news.queued_at < now else now
    return AssignedJob(
        news.job_id,
        news.repository,
        news.name,
        news.workflow_ref,
        news.run_id,
        news.event,
        news.labels,
        queued_at,
    )


def over(record: RunnerRecord, slurm: SlurmJob | None) -> bool:
    """Whether the runner has ended, by the node's word or by Slurm's."""
    return record.finished_at is not None or (
        slurm is not None and slurm.stage in (SlurmStage.ENDED, SlurmStage.ENDING)
    )


def taker(record: RunnerRecord, slurm: SlurmJob | None, now: float) -> Taker | None:
    """A runner that has, or had, a job: seen busy, come to a good end by itself, or adopted with a registration."""
    if record.minted_at is None or record.withdrawn_at is not None:
        return None
    if record.busy_at is not None:
        return Taker(record.name, record.busy_at)
    if record.claimed_at == record.minted_at and not over(record, slurm):
        # Adopted: its node's reports are not believed any more.
        return Taker(record.name, record.minted_at)
    if slurm is not None and slurm.state == "COMPLETED":
        return Taker(record.name, slurm.ended_at if slurm.ended_at is not None else now)
    return None
