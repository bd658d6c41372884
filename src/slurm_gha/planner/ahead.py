"""Runners kept free ahead of demand: which of the unneeded ones stay, which are replaced, and which make room. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from slurm_gha.domain.pool import Policy, Pool
from slurm_gha.domain.runner import Runner
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.domain.warm import LAST_MOMENT
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Cause, Submit, Waiting, Withdraw
from slurm_gha.planner.census import Place, places
from slurm_gha.planner.serving import Serving
from slurm_gha.planner.verdicts import Rank, Use, Verdict


@dataclass(frozen=True, slots=True)
class Reserve:
    """One pool's free runners in one scope: ``kept`` (best first), ``missing``, and ``worn`` ones to take away now.

    ``yielding``: those of the kept that may make room for a job, in that order.
    """

    pool: Pool
    scope: str
    kept: tuple[Runner, ...] = ()
    missing: int = 0
    worn: tuple[Runner, ...] = ()
    yielding: tuple[Runner, ...] = ()


def reserves(
    world: World,
    policy: Policy,
    verdicts: Mapping[str, Verdict],
    needed: Collection[str],
    now: float,
) -> tuple[Reserve, ...]:
    """What each pool that keeps runners ready has of them in each scope. ``needed``: names that jobs count on."""
    warm = [(pool, wanted) for pool in policy.pools if (wanted := pool.warm.wanted(now)) > 0]
    if not warm:
        return ()
    free: dict[tuple[str, str], list[Runner]] = {}
    for runner in world.runners:
        record = runner.record
        if runner.name not in needed and verdicts[runner.name].use is Use.FREE:
            free.setdefault((record.pool, record.scope), []).append(runner)
    found = []
    for pool, wanted in warm:
        for scope in sorted(pool.scopes & world.scopes.keys()):
            plain = [
                runner
                for runner in free.get((pool.name, scope), ())
                # Runners that were made to measure for some job fit few others.
                if runner.record.labels == pool.labels
                and runner.record.scale_set == ((scope, pool.name) in policy.scale_sets)
            ]
            found.append(_reserve(pool, scope, wanted, plain, verdicts, now))
    return tuple(found)


def _reserve(
    pool: Pool, scope: str, wanted: int, runners: Iterable[Runner], verdicts: Mapping[str, Verdict], now: float
) -> Reserve:
    def rank(runner: Runner) -> int:
        known = verdicts[runner.name].rank
        return known.value if known is not None else Rank.SUBMITTED.value

    # Of equals the youngest: it will be the last to be replaced.
    ordered = sorted(runners, key=lambda runner: (rank(runner), -runner.record.intended_at, runner.name))
    idle = {runner.name for runner in ordered if verdicts[runner.name].rank is Rank.IDLE}
    old = [r for r in ordered if r.name in idle and age(r, now) >= pool.warm.recycle_after]
    fresh = [r for r in ordered if r not in old][:wanted]
    ready = sum(runner.name in idle for runner in fresh)
    lasting = [r for r in old if age(r, now) < LAST_MOMENT * pool.warm.recycle_after]
    standing_in = lasting[: max(0, wanted - ready)]
    worn = [r for r in old if r not in standing_in and _movable(r)]
    kept = (*fresh, *standing_in)
    # One that is just starting is left alone: it may have been registered already.
    yielding = [r for r in kept if verdicts[r.name].rank in (Rank.IDLE, Rank.PENDING) and _movable(r)]
    yielding.sort(key=lambda runner: -rank(runner))
    return Reserve(pool, scope, kept, max(0, wanted - len(fresh)), tuple(worn), tuple(yielding))


def _movable(runner: Runner) -> bool:
    return runner.slurm is None or runner.slurm.stage is not SlurmStage.UNKNOWN


def age(runner: Runner, now: float) -> float:
    """Seconds since its credentials were made."""
    record = runner.record
    return now - next(at for at in (record.minted_at, record.online_at, record.intended_at) if at is not None)


def withdrawals(
    found: Iterable[Reserve],
    crowded_out: Iterable[tuple[int, tuple[frozenset[Place], ...]]],
    world: World,
    verdicts: Mapping[str, Verdict],
    may_try: Callable[[str], bool],
) -> Iterator[Withdraw]:
    """The worn ones, and those whose room is needed: where a limit holds jobs back, they come before the reserve.

    ``crowded_out`` is :meth:`slurm_gha.planner.admission.Admission.crowded_out`.
    """
    found = tuple(found)
    if not found or not world.slurm.readable:
        return
    short = [_Shortage(number, ways) for number, ways in crowded_out]
    for runner in world.runners:
        if verdicts[runner.name].use is Use.LEAVING:  # its room will be there soon
            _relieved(short, runner.record.pool, runner.record.scope)
    for reserve in found:
        view = world.scopes[reserve.scope]
        if not (view.jobs_readable and view.runners_readable):
            continue
        for runner in reserve.worn:
            if may_try(runner.name):
                lasted = reserve.pool.warm.recycle_after
                yield Withdraw(runner.name, f"idle for more than {lasted:.0f} s: a fresh runner takes its place")
        for runner in reserve.yielding:
            if may_try(runner.name) and _relieved(short, reserve.pool.name, reserve.scope):
                yield Withdraw(runner.name, "kept ready, but a queued job needs its room")


@dataclass(slots=True)
class _Shortage:
    """So many jobs would get a runner if one went that counts to all limits of one of the ``ways``."""

    jobs: int
    ways: tuple[frozenset[Place], ...]


def _relieved(short: Iterable[_Shortage], pool: str, scope: str) -> bool:
    """Whether a runner that goes makes room for a job; that job is then no longer short of it."""
    room = frozenset(places(pool, scope))
    shortage = next((s for s in short if s.jobs > 0 and any(way <= room for way in s.ways)), None)
    if shortage is None:
        return False
    shortage.jobs -= 1
    return True


def submissions(
    found: Iterable[Reserve],
    waiting: Iterable[Waiting],
    world: World,
    serving: Serving,
    admit: Callable[[Pool, str], Submit | None],
) -> Iterator[Submit]:
    """Runners for what is missing, as far as there is room.

    None where a repository is held back by a limit of its own: its jobs would take them, one after the other.
    """
    found = tuple(reserve for reserve in found if reserve.missing)
    if not found:
        return
    closed = {
        (option.pool.name, entry.job.scope)
        for entry in waiting
        if entry.cause is Cause.REPOSITORY_LIMIT
        for option in serving.options(entry.job)
    }
    for reserve in found:
        view = world.scopes[reserve.scope]
        if not (view.jobs_readable and view.runners_readable) or (reserve.pool.name, reserve.scope) in closed:
            continue
        for _ in range(reserve.missing):
            submit = admit(reserve.pool, reserve.scope)
            if submit is None:
                break
            yield submit
