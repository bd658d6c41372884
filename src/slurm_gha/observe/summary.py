"""From the controller's world to the status: what is shown, and nothing decided. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from slurm_gha.domain.job import Job
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import Phase, Runner
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.domain.world import ScopeView, World
from slurm_gha.observe.status import (
    BudgetStatus,
    PoolStatus,
    RunnerStatus,
    ScaleSetStatus,
    ScopeStatus,
    SlurmStatus,
    Status,
    WaitingJob,
)


def summarise(
    world: World,
    policy: Policy,
    waiting: Iterable[WaitingJob],
    *,
    at: float,
    version: str,
    pid: int,
    started_at: float,
    budgets: Mapping[str, BudgetStatus] | None = None,
    explain: Callable[[str], str] = str,
    scale_sets: Iterable[ScaleSetStatus] = (),
    sources: Mapping[str, tuple[str, ...]] | None = None,
    deliveries: Mapping[str, float] | None = None,
) -> Status:
    """The status of a moment. ``budgets``, ``sources`` and last ``deliveries`` by scope.

    ``explain`` turns Slurm's reason for waiting into a sentence.
    """
    runners = tuple(runner_status(runner, explain) for runner in world.runners)
    budgets = budgets or {}
    return Status(
        installation=policy.installation,
        version=version,
        pid=pid,
        at=at,
        started_at=started_at,
        draining=world.draining,
        jobs=tuple(waiting),
        runners=runners,
        pools=_pools(world, policy, runners),
        scopes=tuple(
            _scope(view, budgets.get(name), (sources or {}).get(name, ("poll",)), (deliveries or {}).get(name))
            for name, view in world.scopes.items()
        ),
        scale_sets=tuple(scale_sets),
        slurm=SlurmStatus(readable=world.slurm.readable, last_read=world.slurm.at, error=world.slurm.error),
    )


def waiting_job(
    job: Job,
    why: str,
    runner: str | None = None,
    unservable: bool = False,
    *,
    refused: bool = False,
    cause: str = "",
) -> WaitingJob:
    """A queued job and what the plan says of it."""
    return WaitingJob(
        id=job.id,
        repository=job.repository,
        name=job.name,
        scope=job.scope,
        since=job.created_at,
        why=why,
        labels=tuple(sorted(job.labels)),
        runner=runner,
        unservable=unservable,
        refused=refused,
        cause=cause,
    )


def runner_status(runner: Runner, explain: Callable[[str], str] = str) -> RunnerStatus:
    """A runner as it is shown."""
    record, slurm = runner.record, runner.slurm
    waits = slurm is not None and slurm.stage in (SlurmStage.PENDING, SlurmStage.HELD) and slurm.reason
    return RunnerStatus(
        name=record.name,
        pool=record.pool,
        scope=record.scope,
        phase=runner.phase.value,
        since=since(runner),
        slurm_id=record.slurm_id,
        slurm_state=slurm.state if slurm is not None else "",
        slurm_reason=explain(slurm.reason) if slurm is not None and waits else "",
        held=slurm is not None and slurm.stage is SlurmStage.HELD,
        node=slurm.node if slurm is not None else "",
        job_id=runner.taken_job if runner.taken_job is not None else record.job_id,
        repository=record.repository,
        withdrawn_because=record.withdrawn_because,
    )


def since(runner: Runner) -> float:
    """When the runner's phase began, as nearly as is known (seconds since the epoch)."""
    record, slurm = runner.record, runner.slurm
    started = slurm.started_at if slurm is not None else None
    submitted = record.submitted_at or (slurm.submitted_at if slurm is not None else None)
    match runner.phase:
        case Phase.SUBMITTED:
            times = [record.submitted_at]
        case Phase.PENDING:
            times = [submitted]
        case Phase.STARTING:
            times = [started, record.claimed_at, submitted]
        case Phase.IDLE:
            times = [record.online_at, record.claimed_at, started]
        case Phase.BUSY:
            times = [record.busy_at, record.online_at, started]
        case Phase.ENDED:
            times = [slurm.ended_at if slurm is not None else None, record.finished_at, record.busy_at]
    return next((time for time in times if time is not None), record.intended_at)


def _pools(world: World, policy: Policy, runners: tuple[RunnerStatus, ...]) -> tuple[PoolStatus, ...]:
    """The configured pools in their order, then those that only runners still remember; these have limit 0."""
    counts: dict[str, Counter[str]] = {pool.name: Counter() for pool in policy.pools}
    for runner in runners:
        counts.setdefault(runner.pool, Counter())[runner.phase] += 1
    found = []
    for name, phases in counts.items():
        pool, trouble = policy.pools_by_name.get(name), world.troubles.get(name)
        limit = pool.max_runners if pool is not None else 0
        if trouble is None:
            found.append(PoolStatus(name=name, limit=limit, phases=dict(phases)))
        else:
            found.append(
                PoolStatus(
                    name=name,
                    limit=limit,
                    phases=dict(phases),
                    until=trouble.until,
                    failures=trouble.failures,
                    reason=trouble.reason,
                )
            )
    return tuple(found)


def _scope(
    view: ScopeView, budget: BudgetStatus | None, sources: tuple[str, ...], delivered: float | None
) -> ScopeStatus:
    read = None if view.jobs_at is None or view.runners_at is None else min(view.jobs_at, view.runners_at)
    return ScopeStatus(
        name=view.name,
        readable=view.jobs_readable and view.runners_readable,
        last_read=read,
        error=view.jobs_error or view.runners_error,
        budget=budget,
        sources=sources,
        last_delivery=delivered,
    )
