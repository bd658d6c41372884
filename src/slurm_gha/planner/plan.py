"""plan(): a frozen world in, the round's actions out. No I/O, no clock, no randomness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import Labels
from slurm_gha.domain.pool import Handover, Policy
from slurm_gha.domain.runner import Runner, name_prefix
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.domain.world import ScopeView, World
from slurm_gha.planner.actions import Action, Adopt, CancelStray, Deregister, Forget, Plan, Renew, Withdraw
from slurm_gha.planner.admission import Admission
from slurm_gha.planner.ahead import Reserve, reserves, withdrawals
from slurm_gha.planner.ahead import submissions as ahead_submissions
from slurm_gha.planner.endings import close
from slurm_gha.planner.matching import Free, Matching, Want, match
from slurm_gha.planner.serving import Serving
from slurm_gha.planner.verdicts import Rank, Use, Verdict, judge, oldest_queued, registration_gone


def plan(world: World, policy: Policy, now: float) -> Plan:
    """Decide one round. ``now`` is seconds since the epoch; the result does not depend on the order of the inputs."""
    runners = tuple(sorted(world.runners, key=lambda runner: runner.name))
    world = replace(world, runners=runners)
    oldest = oldest_queued(world)
    verdicts = {runner.name: judge(runner, world, policy, now, oldest) for runner in runners}
    serving = Serving(policy)
    matchings = match_scopes(world, serving, verdicts)
    actions: list[Action] = []
    surplus_since: dict[str, float] = {}
    failing: dict[str, str] = {}
    matched = _matched(matchings)
    ahead = reserves(world, policy, verdicts, matched, now)
    doubtful = _matched(_match_in_doubt(world, serving, verdicts))
    wanted = matched | doubtful | _kept(ahead)
    for runner in runners:
        verdict = verdicts[runner.name]
        if (verdict.use is Use.FREE and runner.name not in wanted) or _deserted(runner, verdict, world):
            surplus_since[runner.name] = world.surplus_since.get(runner.name, now)
        action = _next_for(runner, verdict, world, policy, now, surplus_since.get(runner.name))
        # Forgotten while its job is still listed as queued, it would leave that job to a second runner.
        if action is None or (isinstance(action, Forget) and runner.name in matched):
            continue
        actions.append(action)
        match action:
            case Withdraw(reason=why, failure=True) | Forget(detail=why, failure=True):
                failing[runner.record.pool] = why
    actions += _strays(world, policy, now)
    actions += _orphans(world, policy, now)
    admission = Admission(world, policy, serving, now, verdicts, failing)
    by_name = {runner.name: runner for runner in runners}
    submissions, waiting = admission.admit(matchings, by_name)
    settled = doubtful | {action.name for action in actions if isinstance(action, Withdraw)}
    crowded_out = admission.crowded_out() if ahead else ()
    free = withdrawals(ahead, crowded_out, world, verdicts, lambda name: _may_try(name, world, policy, now))
    actions += [action for action in free if action.name not in settled]
    early = ahead_submissions(ahead, waiting, world, serving, admission.admit_ahead)
    return Plan((*actions, *submissions, *early), waiting, MappingProxyType(surplus_since), admission.turns)


def needed(world: World, policy: Policy, now: float, name: str) -> bool:
    """Whether a runner that is about to start is still counted on. In doubt (nothing readable), it is."""
    runner = next((runner for runner in world.runners if runner.name == name), None)
    if runner is None or not _scope(world, runner).jobs_readable:
        return True
    scope = runner.record.scope
    rivals = [other for other in world.runners if other.record.scope == scope]
    oldest = oldest_queued(world)
    verdicts = {other.name: judge(other, world, policy, now, oldest) for other in rivals}
    if verdicts[name].use is not Use.FREE:
        return verdicts[name].use is Use.OCCUPIED
    # A runner that has just taken a job may have taken one that is no longer listed: that does not settle it.
    sure = tuple(other for other in rivals if verdicts[other.name].rank is not Rank.TAKING)
    seen = replace(world, runners=sure, scopes={scope: world.scopes[scope]})
    matching = match_scopes(seen, Serving(policy), verdicts)[scope]
    if name not in matching.surplus:
        return True
    return name in _kept(reserves(seen, policy, verdicts, set(matching.pairs.values()), now))


def match_scopes(world: World, serving: Serving, verdicts: Mapping[str, Verdict]) -> dict[str, Matching]:
    """Each scope's queued jobs that some pool could serve, matched with its free runners."""
    offers: dict[str, dict[tuple[Labels, str, bool], Free]] = {scope: {} for scope in world.scopes}
    jobs: dict[str, list[Job]] = {scope: [] for scope in world.scopes}
    free: dict[str, list[Free]] = {scope: [] for scope in world.scopes}
    for runner in world.runners:
        verdict = verdicts[runner.name]
        record = runner.record
        if verdict.rank is not None and record.scope in free:
            offer = Free(
                record.name, record.labels, verdict.rank.value, record.intended_at, record.pool, record.scale_set
            )
            free[record.scope].append(offer)
            offers[record.scope].setdefault((offer.labels, offer.pool, offer.scale_set), offer)
    servable: dict[tuple[str, Want], bool] = {}
    for job in world.jobs:
        if job.status is not JobStatus.QUEUED or job.scope not in jobs:
            continue
        want = serving.want(job)
        key = (job.scope, want)
        if key not in servable:
            servable[key] = bool(serving.options(job)) or any(map(want.fits, offers[job.scope].values()))
        if servable[key]:
            jobs[job.scope].append(job)
    return {scope: match(jobs[scope], free[scope], serving.want) for scope in sorted(world.scopes)}


def _match_in_doubt(world: World, serving: Serving, verdicts: Mapping[str, Verdict]) -> dict[str, Matching]:
    """The matching if the job of each runner that is just taking one has left the listing already.

    Such a runner keeps a job from getting a second runner; it is no reason to take a waiting one out of Slurm's queue.
    """
    if all(verdict.rank is not Rank.TAKING for verdict in verdicts.values()):
        return {}
    certain = {n: replace(v, rank=None) if v.rank is Rank.TAKING else v for n, v in verdicts.items()}
    return match_scopes(world, serving, certain)


def _kept(found: Iterable[Reserve]) -> set[str]:
    return {runner.name for reserve in found for runner in reserve.kept}


def _matched(matchings: Mapping[str, Matching]) -> set[str]:
    return {name for matching in matchings.values() for name in matching.pairs.values()}


def _next_for(
    runner: Runner, verdict: Verdict, world: World, policy: Policy, now: float, surplus_since: float | None
) -> Action | None:
    """The one thing to do about a runner this round, if any."""
    if runner.slurm is not None and runner.slurm.stage is SlurmStage.UNKNOWN and verdict.use is not Use.LEAVING:
        return None
    match verdict.use:
        case Use.ENDED:
            return close(runner, world, policy, now)
        case Use.LOST:
            return Forget(runner.name, "never submitted", "Slurm does not know it, and its sbatch gave no answer")
        case Use.LEAVING:
            due = world.slurm.readable and _may_try(runner.name, world, policy, now)
            return Withdraw(runner.name, runner.record.withdrawn_because or "withdrawn") if due else None
        case Use.OCCUPIED:
            return _overstaying(runner, world, policy, now, surplus_since)
        case Use.FREE:
            return (
                _stuck(runner, verdict, world, policy, now)
                or _surplus(runner, verdict, world, policy, now, surplus_since)
                or _ageing(runner, verdict, world, policy, now)
            )


def _deserted(runner: Runner, verdict: Verdict, world: World) -> bool:
    """A Slurm job that lives on although its runner is gone from GitHub, or never came to be registered."""
    if verdict.use is not Use.OCCUPIED or not verdict.spent or runner.registration is not None:
        return False
    return runner.record.minted_at is None or registration_gone(runner, world)


def _overstaying(
    runner: Runner, world: World, policy: Policy, now: float, deserted_since: float | None
) -> Action | None:
    if deserted_since is None or not (_scope(world, runner).runners_readable and world.slurm.readable):
        return None
    # It may have been surplus long before: the wait begins with the last sign of life.
    signs = (at for at in (runner.record.busy_at, runner.record.finished_at) if at is not None)
    if now - max((deserted_since, *signs)) >= policy.start_timeout and _may_try(runner.name, world, policy, now):
        return Withdraw(runner.name, "its runner is gone from GitHub, but its Slurm job has not ended")
    return None


def _stuck(runner: Runner, verdict: Verdict, world: World, policy: Policy, now: float) -> Action | None:
    """Runners that will never come online by waiting."""
    slurm, record = runner.slurm, runner.record
    if slurm is None or not world.slurm.readable or not _may_try(runner.name, world, policy, now):
        return None
    if slurm.stage is SlurmStage.HELD:
        return Withdraw(record.name, f"held by Slurm: {slurm.reason or slurm.state}", failure=True)
    starting = verdict.rank is Rank.STARTING and slurm.stage is SlurmStage.RUNNING and slurm.started_at is not None
    if starting and _scope(world, runner).runners_readable and now - (slurm.started_at or now) > policy.start_timeout:
        return Withdraw(record.name, f"not online {policy.start_timeout:.0f} s after its start", failure=True)
    return None


def _surplus(
    runner: Runner, verdict: Verdict, world: World, policy: Policy, now: float, since: float | None
) -> Action | None:
    """A free runner that no queued job needs. One that is just starting is told so at its claim instead."""
    view = _scope(world, runner)
    if since is None or not (view.jobs_readable and world.slurm.readable):
        return None
    record = runner.record
    if not _may_try(record.name, world, policy, now):
        return None
    if verdict.rank is Rank.PENDING and now - since >= policy.withdraw_after:
        return Withdraw(record.name, "no queued job needs it any more")
    if verdict.rank is Rank.IDLE and view.runners_readable:
        pool = policy.pools_by_name.get(record.pool)
        timeout = pool.idle_timeout if pool is not None else 0.0
        idle_since = record.online_at if record.online_at is not None else now
        if now - max(idle_since, since) >= timeout:
            return Withdraw(record.name, f"idle for {timeout:.0f} s with no job to take")
    return None


def _ageing(runner: Runner, verdict: Verdict, world: World, policy: Policy, now: float) -> Action | None:
    """A configuration handed over at submission, while its Slurm job waits longer than GitHub would accept it."""
    minted = runner.record.minted_at
    if runner.record.handover is not Handover.STDIN or verdict.rank is not Rank.PENDING or minted is None:
        return None
    due = now - minted > policy.handover_max_age and world.slurm.readable
    return Renew(runner.name) if due and _may_try(runner.name, world, policy, now) else None


def _strays(world: World, policy: Policy, now: float) -> list[Action]:
    """Slurm jobs with our name that the journal does not hold open: it was lost, or an sbatch came very late."""
    if not world.slurm.readable:
        return []
    actions: list[Action] = []
    for slurm in sorted(world.strays, key=lambda job: job.id):
        if not slurm.name.startswith(name_prefix(policy.installation)):
            continue
        if slurm.stage in (SlurmStage.PENDING, SlurmStage.HELD) and _may_try(slurm.name, world, policy, now):
            actions.append(CancelStray(slurm.id, slurm.name))
        elif slurm.stage in (SlurmStage.RUNNING, SlurmStage.ENDING):
            actions.append(Adopt(slurm))
    return actions


def _orphans(world: World, policy: Policy, now: float) -> list[Action]:
    """Registrations with our name, no open record and no Slurm job: removed once they have been seen for a while."""
    if not world.slurm.readable or world.slurm.at is None:
        return []
    alive = {slurm.name for slurm in world.strays if slurm.stage is not SlurmStage.ENDED}
    alive |= {runner.name for runner in world.runners}
    return [
        Deregister(orphan.scope, orphan.registration.id, orphan.registration.name)
        for orphan in sorted(world.orphans, key=lambda o: (o.scope, o.registration.id))
        if orphan.registration.name.startswith(name_prefix(policy.installation))
        and orphan.registration.name not in alive
        and not orphan.registration.busy
        and orphan.scope in world.scopes
        and world.scopes[orphan.scope].runners_readable
        and world.slurm.at > orphan.first_seen
        and now - orphan.first_seen >= policy.retry_after
        and _may_try(orphan.registration.name, world, policy, now)
    ]


def _may_try(name: str, world: World, policy: Policy, now: float) -> bool:
    return now - world.last_tried.get(name, float("-inf")) >= policy.retry_after


def _scope(world: World, runner: Runner) -> ScopeView:
    return world.scopes.get(runner.record.scope, ScopeView(runner.record.scope))
