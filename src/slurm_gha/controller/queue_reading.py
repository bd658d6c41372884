"""One scale set as it was last heard of, and what that says of jobs and runners. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from slurm_gha.domain.labels import Labels
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.scaleset import AssignedJob, JobNews, NewsKind, Place, ScaleSet, Statistics
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.world import ScopeView
from slurm_gha.observe.status import ScaleSetStatus
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

    def status(self) -> ScaleSetStatus:
        """As it is shown."""
        return ScaleSetStatus(
            scope=self.place.scope,
            pool=self.place.pool,
            name=self.name,
            standing=self.standing.value,
            labels=tuple(sorted(self.labels)),
            dropped=tuple(sorted(self.dropped)),
            trouble=self.trouble,
            session_since=self.session_since if self.standing is Standing.LISTENING else None,
            counts=asdict(self.latest or self.statistics or Statistics()),
        )


def view(scope: str, readings: Collection[Reading], now: float) -> ScopeView:
    """When a scope's queues last held nothing that was not known here, and what is wrong with one of them.

    Runners are known as of now: what is removed too late is no error, and what is busy is not removed.
    """
    times = [reading.quiet_at for reading in readings]
    heard = min((at for at in times if at is not None), default=None) if None not in times else None
    trouble = next((f"scale set {r.name}: {r.trouble}" for r in readings if r.trouble is not None), None)
    queues = {r.place.pool: _view(scope, r.quiet_at, r.trouble, now) for r in readings}
    return replace(_view(scope, heard, trouble, now), queues=MappingProxyType(queues))


def _view(scope: str, heard: float | None, trouble: str | None, now: float) -> ScopeView:
    return ScopeView(scope, heard, now if heard is not None else None, trouble, trouble)


def merged(one: ScopeView, other: ScopeView) -> ScopeView:
    """A scope that is read in two ways is as old as the older reading, and as wrong as either."""
    return replace(
        one,
        jobs_at=None if one.jobs_at is None or other.jobs_at is None else min(one.jobs_at, other.jobs_at),
        runners_at=None
        if one.runners_at is None or other.runners_at is None
        else min(one.runners_at, other.runners_at),
        jobs_error=one.jobs_error or other.jobs_error,
        runners_error=one.runners_error or other.runners_error,
        queues={**one.queues, **other.queues},
    )


def assigned(news: JobNews, now: float, before: AssignedJob | None = None) -> AssignedJob:
    """The job of an item; ``before`` is what was known of it. Assigned again, it has not started."""
    if before is not None:
        before = replace(before, taken_back_at=None)
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
