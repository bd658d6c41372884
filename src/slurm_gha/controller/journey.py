"""The story told from one world to the next: events for what changed, never a decision."""

from __future__ import annotations

from collections.abc import Callable

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.runner import Phase
from slurm_gha.domain.world import TroubleKind, World
from slurm_gha.observe.events import Bus, JobGone, JobRefused, JobSeen, JobUnservable, PhaseChanged
from slurm_gha.planner.actions import Cause, Plan, Waiting


class Journey:
    """Remembers the last world's phases and jobs, to tell what is new. ``recovered`` hears of pools that work again."""

    def __init__(self, bus: Bus, recovered: Callable[[str, TroubleKind], None]) -> None:
        self._bus = bus
        self._recovered = recovered
        self._phases: dict[str, Phase] = {}
        self._queued: dict[int, Job] = {}
        self._told: dict[int, str] = {}

    def follow(self, world: World, now: float) -> None:
        """Tell of phases and jobs that are not what they were."""
        phases = {runner.name: runner.phase for runner in world.runners}
        for runner in world.runners:
            before, after = self._phases.get(runner.name), phases[runner.name]
            if before is after:
                continue
            self._bus.emit(
                PhaseChanged(
                    at=now,
                    name=runner.name,
                    before=before.value if before else "",
                    after=after.value,
                    pool=runner.record.pool,
                    slurm_id=runner.record.slurm_id,
                    job_id=runner.taken_job,
                )
            )
            if after in (Phase.IDLE, Phase.BUSY):
                self._recovered(runner.record.pool, TroubleKind.FAILING)
        self._phases = phases
        self._follow_jobs(world, now)

    def _follow_jobs(self, world: World, now: float) -> None:
        queued = {job.id: job for job in world.jobs if job.status is JobStatus.QUEUED}
        running = {job.id: job for job in world.jobs if job.status is JobStatus.IN_PROGRESS}
        for job_id in sorted(queued.keys() - self._queued.keys()):
            job = queued[job_id]
            self._bus.emit(
                JobSeen(
                    at=now,
                    job_id=job.id,
                    repository=job.repository,
                    scope=job.scope,
                    job_name=job.name,
                    labels=tuple(sorted(job.labels)),
                    created_at=job.created_at,
                )
            )
        for job_id in sorted(self._queued.keys() - queued.keys()):
            job = running.get(job_id, self._queued[job_id])
            started = job.started_at if job.started_at is not None and job_id in running else now
            self._bus.emit(
                JobGone(
                    at=now,
                    job_id=job.id,
                    repository=job.repository,
                    scope=job.scope,
                    waited=max(0.0, started - job.created_at),
                    runner_name=job.runner_name,
                )
            )
        self._queued = queued

    def explain(self, plan: Plan, now: float) -> None:
        """Tell once, with the reason, of each job that no pool can serve or lets run."""
        told: dict[int, str] = {}
        for waiting in plan.waiting:
            if not waiting.unservable and waiting.cause is not Cause.REFUSED:
                continue
            told[waiting.job.id] = waiting.reason
            if self._told.get(waiting.job.id) != waiting.reason:
                self._bus.emit(_without_pool(waiting, now))
        self._told = told


def _without_pool(waiting: Waiting, now: float) -> JobUnservable | JobRefused:
    job = waiting.job
    if waiting.cause is Cause.REFUSED:
        ground = waiting.ruling.ground if waiting.ruling is not None else None
        return JobRefused(
            at=now,
            job_id=job.id,
            repository=job.repository,
            scope=job.scope,
            ground=ground.value if ground is not None else "",
            job_name=job.name,
            reason=waiting.reason,
        )
    return JobUnservable(
        at=now,
        job_id=job.id,
        repository=job.repository,
        scope=job.scope,
        job_name=job.name,
        reason=waiting.reason,
        obstacle=waiting.cause.value if waiting.cause is not None else "",
    )
