"""What holds for every plan, in whatever world it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from types import MappingProxyType

from hypothesis import event, given
from hypothesis import strategies as st
from tests.properties.strategies import NOW, Scene, readable, reference_maximum, scenes

from slurm_gha.domain.allow import Answer
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import satisfies
from slurm_gha.domain.pool import Policy, Pool
from slurm_gha.domain.runner import Phase, Runner, RunnerRecord
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.domain.world import ScopeView, Trouble, World
from slurm_gha.planner.actions import (
    Action,
    Adopt,
    CancelStray,
    Cause,
    Deregister,
    Forget,
    Plan,
    Renew,
    Submit,
    Waiting,
    Withdraw,
)
from slurm_gha.planner.plan import needed, plan

OURS = "sg-abc-"


# What the properties are said in


def planned(scene: Scene) -> Plan:
    return plan(scene.world, scene.policy, NOW)


def submits(decided: Plan) -> list[Submit]:
    return [action for action in decided.actions if isinstance(action, Submit)]


def withdrawn(actions: Iterable[Action]) -> set[str]:
    return {action.name for action in actions if isinstance(action, Withdraw)}


def touched(actions: Iterable[Action]) -> set[str]:
    """The names that something is taken away from."""
    return {action.name for action in actions if isinstance(action, Withdraw | Deregister | CancelStray)}


def attempts(actions: Iterable[Action]) -> set[tuple[type, str]]:
    """A stray's registration may go after its Slurm job: two attempts on one name, but not the same."""
    return {(type(a), a.name) for a in actions if isinstance(a, Withdraw | Deregister | CancelStray)}


def view_of(scene: Scene, scope: str) -> ScopeView:
    return scene.world.scopes.get(scope, ScopeView(scope))


def over(runner: Runner) -> bool:
    return runner.slurm is not None and runner.slurm.stage is SlurmStage.ENDED


def seen_gone(scene: Scene, runner: Runner) -> bool:
    """GitHub's readable listing, begun well after the registration was made, does not show it."""
    view, minted = view_of(scene, runner.record.scope), runner.record.minted_at
    if runner.registration is not None or not view.runners_readable:
        return False
    return minted is None or (view.runners_at or 0.0) > minted


def holds_a_job(scene: Scene, runner: Runner) -> bool:
    """As far as anybody can tell, it is at work."""
    if over(runner):
        return False
    said_busy = runner.taken_job is not None or (runner.registration is not None and runner.registration.busy)
    was_busy = runner.record.busy_at is not None and runner.record.finished_at is None
    return said_busy or (was_busy and not seen_gone(scene, runner) and not lost(scene, runner))


def lost(scene: Scene, runner: Runner) -> bool:
    """An intent that a long enough search of Slurm has not found."""
    slurm, record = scene.world.slurm, runner.record
    searched = slurm.readable and (slurm.at or 0.0) > record.intended_at + scene.policy.unconfirmed_after
    return record.slurm_id is None and runner.slurm is None and searched


def live(scene: Scene) -> Counter[str]:
    """How many Slurm jobs each pool may have by now."""
    return Counter(
        r.record.pool for r in scene.world.runners if not over(r) and (holds_a_job(scene, r) or not lost(scene, r))
    )


def blamed(scene: Scene, decided: Plan) -> set[str]:
    """The pools that a runner has just failed in."""
    pools = {runner.name: runner.record.pool for runner in scene.world.runners}
    return {pools[a.name] for a in decided.actions if isinstance(a, Withdraw | Forget) and a.failure}


def able(policy: Policy, job: Job) -> list[Pool]:
    return [pool for pool in policy.pools if job.scope in pool.scopes and satisfies(pool.labels, job.labels)]


def serving(policy: Policy, job: Job) -> list[Pool]:
    return [pool for pool in able(policy, job) if pool.allow.rule(job).answer is Answer.ALLOWED]


def kept_out(policy: Policy, job: Job, runner: Runner) -> bool:
    """Whether the runner's pool does not let the job run, or not yet."""
    pool = policy.pools_by_name.get(runner.record.pool)
    return pool is not None and job.scope in pool.scopes and pool.allow.rule(job).answer is not Answer.ALLOWED


def queued(scene: Scene) -> list[Job]:
    return [job for job in scene.world.jobs if job.status is JobStatus.QUEUED and job.scope in scene.world.scopes]


# Demand


@given(scenes())
def test_every_queued_job_is_told_of_exactly_once(scene: Scene) -> None:
    assert Counter(w.job.id for w in planned(scene).waiting) == Counter(job.id for job in queued(scene))


@given(scenes())
def test_no_job_starves(scene: Scene) -> None:
    """Each queued job has a runner counted on, gets one now, or waits for a limit, a back-off or a reading."""
    decided = planned(scene)
    total, count = live(scene).total() + len(submits(decided)), live(scene)
    count.update(submit.pool for submit in submits(decided))
    submitted_for = {submit.job.id for submit in submits(decided) if submit.job is not None}
    for entry in decided.waiting:
        if entry.runner is not None or entry.job.id in submitted_for:
            event("served")
            continue
        pools = serving(scene.policy, entry.job)
        assert entry.unservable == (not able(scene.policy, entry.job))
        if not pools:
            event(f"without a pool: {entry.cause}")
            assert entry.cause in (Cause.LABELS, Cause.REFUSED, Cause.ORIGIN)
        elif scene.world.draining:
            assert "draining" in entry.reason
        elif not scene.world.slurm.readable:
            assert "Slurm cannot be read" in entry.reason
        elif total >= scene.policy.max_runners and "over all pools" in entry.reason:
            event("overall limit")
        elif entry.cause is Cause.SCOPE_LIMIT:
            most, present = scene.policy.share_of(entry.job.scope).max_runners, living(scene, submits(decided))
            assert most is not None
            assert sum(scope == entry.job.scope for _, scope, _ in present) >= most
            assert f"scope {entry.job.scope} " in entry.reason
        elif f"repository {entry.job.repository} is at its limit" in entry.reason and " in pool " not in entry.reason:
            most = scene.policy.max_runners_per_repository
            mine = (entry.job.scope, entry.job.repository)
            assert most is not None
            assert sum((scope, home) == mine for _, scope, home in living(scene, submits(decided))) >= most
        else:
            event("pools held back")
            for pool in pools:
                mine = (pool.name, entry.job.scope, entry.job.repository)
                most = pool.max_runners_per_repository
                if most is not None and living(scene, submits(decided)).count(mine) >= most:
                    event("limit of a repository in a pool")
                    continue
                _assert_held_back(scene, pool, count[pool.name], entry, blamed(scene, decided))


def living(scene: Scene, made: Iterable[Submit]) -> list[tuple[str, str, str | None]]:
    """Pool, scope and repository of every living runner, those of this round included."""
    present: list[tuple[str, str, str | None]] = [
        (runner.record.pool, runner.record.scope, runner.record.repository)
        for runner in scene.world.runners
        if not over(runner) and (holds_a_job(scene, runner) or not lost(scene, runner))
    ]
    return present + [(submit.pool, submit.scope, submit.job.repository if submit.job else None) for submit in made]


def _assert_held_back(scene: Scene, pool: Pool, count: int, entry: Waiting, failing: set[str]) -> None:
    trouble = scene.world.troubles.get(pool.name)
    assert f"pool {pool.name} " in entry.reason
    assert count >= pool.max_runners or trouble is not None or pool.name in failing
    if count < pool.max_runners and trouble is not None and pool.name not in failing:
        assert trouble.reason in entry.reason


@given(scenes())
def test_the_runner_counted_on_could_take_the_job(scene: Scene) -> None:
    """A pair is legal, and no runner is counted on twice, nor one that cannot take a job any more."""
    runners = {runner.name: runner for runner in scene.world.runners}
    pairs = [(entry.job, runners[entry.runner]) for entry in planned(scene).waiting if entry.runner is not None]
    assert len({runner.name for _, runner in pairs}) == len(pairs)
    for job, runner in pairs:
        assert job.scope == runner.record.scope
        assert job.labels <= runner.record.labels
        assert not kept_out(scene.policy, job, runner)
        assert runner.taken_job is None
        # One that has just turned busy stands for a job that is still listed as queued, but for no longer than that.
        assert runner.record.busy_at is None or NOW - runner.record.busy_at < 30.0
        assert (
            runner.record.busy_at is not None
            or not (over(runner) or runner.record.withdrawn_at is not None)
            or (runner.registration is not None and runner.registration.busy)
        )


@given(scenes())
def test_a_new_runner_is_only_for_a_job_that_no_matching_could_cover(scene: Scene) -> None:
    """Nothing is doubled: a runner that is on its way, be it an intent without an answer, counts."""
    decided = planned(scene)
    surely_free = [
        runner
        for runner in scene.world.runners
        if not over(runner)
        and not lost(scene, runner)
        and runner.taken_job is None
        and runner.record.busy_at is None
        and runner.record.finished_at is None
        and runner.record.withdrawn_at is None
        and not (runner.record.minted_at is not None and seen_gone(scene, runner))
        and not (runner.slurm is not None and runner.slurm.stage is SlurmStage.ENDING)
    ]
    for scope in scene.world.scopes:
        free = [runner for runner in surely_free if runner.record.scope == scope]
        wanted = [job for job in queued(scene) if job.scope == scope and serving(scene.policy, job)]
        also = [job for job in queued(scene) if job.scope == scope and job not in wanted]
        jobs, offers = [job.labels for job in wanted + also], [runner.record.labels for runner in free]
        shut = {
            (j, r)
            for j, job in enumerate(wanted + also)
            for r, runner in enumerate(free)
            if kept_out(scene.policy, job, runner)
        }
        made = sum(submit.scope == scope and submit.job is not None for submit in submits(decided))
        coverable = reference_maximum(jobs, offers, shut)
        assert made <= len(wanted) + len(also) - coverable


@given(scenes())
def test_a_submission_fits_its_job(scene: Scene) -> None:
    for submit in submits(planned(scene)):
        if submit.job is None:
            assert scene.policy.pools_by_name[submit.pool].warm.min_idle > 0
            assert submit.scope in scene.policy.pools_by_name[submit.pool].scopes
            continue
        assert submit.job.status is JobStatus.QUEUED
        assert submit.scope == submit.job.scope
        assert submit.pool in {pool.name for pool in serving(scene.policy, submit.job)}


@given(scenes())
def test_limits_hold(scene: Scene) -> None:
    before, made = live(scene), Counter(submit.pool for submit in submits(planned(scene)))
    if made:
        assert before.total() + made.total() <= scene.policy.max_runners
    for pool in scene.policy.pools:
        assert not made[pool.name] or before[pool.name] + made[pool.name] <= pool.max_runners
    present = living(scene, submits(planned(scene)))
    for submit in submits(planned(scene)):
        home = submit.job.repository if submit.job is not None else None
        for most, number in (
            (scene.policy.share_of(submit.scope).max_runners, sum(scope == submit.scope for _, scope, _ in present)),
            (
                scene.policy.max_runners_per_repository,
                sum((scope, whose) == (submit.scope, home) for _, scope, whose in present),
            ),
            (
                scene.policy.pools_by_name[submit.pool].max_runners_per_repository,
                present.count((submit.pool, submit.scope, home)),
            ),
        ):
            assert home is None or most is None or number <= most


@given(scenes())
def test_no_refused_job_ever_gets_a_runner(scene: Scene) -> None:
    """Nor one that nobody knows yet whether to refuse."""
    for submit in submits(planned(scene)):
        if submit.job is not None:
            allow = scene.policy.pools_by_name[submit.pool].allow
            assert allow.rule(submit.job).answer is Answer.ALLOWED
    for entry in planned(scene).waiting:
        if entry.cause is Cause.REFUSED:
            event(f"refused: {entry.ruling.ground if entry.ruling else None}")
            assert entry.reason


@given(scenes().map(readable))
def test_the_reserve_is_filled_up_after_demand_and_no_further(scene: Scene) -> None:
    decided = planned(scene)
    counted_on = {entry.runner for entry in decided.waiting if entry.runner is not None}
    for pool in scene.policy.pools:
        for scope in pool.scopes & scene.world.scopes.keys():
            early = sum(s.job is None and (s.pool, s.scope) == (pool.name, scope) for s in submits(decided))
            assert early <= pool.warm.min_idle
            if early:
                event("ahead of demand")
                spare = [
                    r
                    for r in scene.world.runners
                    if (r.record.pool, r.record.scope) == (pool.name, scope)
                    and r.phase is Phase.PENDING
                    and r.record.withdrawn_at is None
                    and r.record.minted_at is None
                    and r.name not in counted_on
                ]
                assert early + len(spare) <= pool.warm.min_idle


@given(scenes(max_jobs=12, max_runners=2).map(readable))
def test_where_limits_bite_the_oldest_job_of_a_repository_goes_first(scene: Scene) -> None:
    decided = planned(scene)
    by_id = {job.id: job for job in scene.world.jobs}
    made = [submit for submit in submits(decided) if submit.job is not None]
    left = [w.job for w in decided.waiting if w.runner is None and w.job.id not in {_job_id(s) for s in made}]
    for submit in made:
        chosen = by_id[_job_id(submit)]
        for job in left:
            if (job.scope, job.repository) != (chosen.scope, chosen.repository):
                continue
            if submit.pool in {pool.name for pool in serving(scene.policy, job)}:
                assert (chosen.created_at, chosen.id) < (job.created_at, job.id)


def _job_id(submit: Submit) -> int:
    assert submit.job is not None
    return submit.job.id


@given(scenes())
def test_nothing_is_submitted_unless_slurm_has_been_read(scene: Scene) -> None:
    if not scene.world.slurm.readable or scene.world.draining:
        assert not submits(planned(scene))


@given(scenes())
def test_a_pool_in_trouble_rests_and_then_tries_one(scene: Scene) -> None:
    made = Counter(submit.pool for submit in submits(planned(scene)))
    for pool, trouble in scene.world.troubles.items():
        if trouble.until > NOW:
            assert made[pool] == 0
        on_trial = sum(
            r.record.pool == pool
            and r.record.intended_at >= trouble.until
            and not lost(scene, r)
            and (not over(r) or view_of(scene, r.record.scope).runners_readable)
            for r in scene.world.runners
        )
        assert made[pool] <= max(0, 1 - on_trial)


@given(scenes(max_jobs=8, max_runners=3))
def test_a_pool_that_has_just_failed_gets_no_runner_in_the_same_breath(scene: Scene) -> None:
    """Else every back-off would come one runner too late."""
    decided = planned(scene)
    assert not blamed(scene, decided) & {submit.pool for submit in submits(decided)}


# Supply


@given(scenes())
def test_no_runner_at_work_is_touched(scene: Scene) -> None:
    decided = planned(scene)
    away = touched(decided.actions) | {a.name for a in decided.actions if isinstance(a, Forget | Renew)}
    for runner in scene.world.runners:
        if holds_a_job(scene, runner):
            event("at work")
            assert runner.name not in away
    busy_orphans = {o.registration.id for o in scene.world.orphans if o.registration.busy}
    assert not busy_orphans & {a.registration_id for a in decided.actions if isinstance(a, Deregister)}


@given(scenes())
def test_a_runner_counted_on_is_only_withdrawn_if_it_will_never_come(scene: Scene) -> None:
    decided = planned(scene)
    counted_on = {entry.runner for entry in decided.waiting if entry.runner is not None}
    for action in decided.actions:
        if isinstance(action, Withdraw) and action.name in counted_on:
            assert action.failure


@given(scenes())
def test_what_cannot_be_read_takes_nothing_away(scene: Scene) -> None:
    decided = planned(scene)
    if not scene.world.slurm.readable:
        assert not withdrawn(decided.actions)
        assert not any(isinstance(action, CancelStray) for action in decided.actions)
    by_name = {runner.name: runner for runner in scene.world.runners}
    for action in decided.actions:
        match action:
            case Withdraw(failure=False) if by_name[action.name].record.withdrawn_at is None:
                view, runner = view_of(scene, by_name[action.name].record.scope), by_name[action.name]
                gone = runner.registration is None and (runner.record.busy_at or runner.record.finished_at)
                assert view.runners_readable if gone else (view.jobs_readable or view.runners_readable)
            case Deregister() if action.name not in by_name:
                assert view_of(scene, action.scope).runners_readable
                assert scene.world.slurm.readable
            case Deregister():
                assert over(by_name[action.name])


@given(scenes())
def test_an_unreadable_world_is_left_as_it_is(scene: Scene) -> None:
    """The same world with every reading failed: nothing of what runs is taken away, and nothing is started."""
    views = {name: replace(view, jobs_error="x", runners_error="x") for name, view in scene.world.scopes.items()}
    blind = replace(
        scene.world, scopes=MappingProxyType(views), slurm=replace(scene.world.slurm, error="slurmctld is down")
    )
    decided = plan(blind, scene.policy, NOW)
    ended = {runner.name for runner in scene.world.runners if over(runner)}
    assert all(isinstance(action, Deregister | Forget) and action.name in ended for action in decided.actions)


@given(scenes())
def test_names_of_others_are_never_touched(scene: Scene) -> None:
    for action in planned(scene).actions:
        match action:
            case Withdraw() | Deregister() | CancelStray() | Forget() | Renew():
                assert action.name.startswith(OURS)
            case Adopt():
                assert action.slurm.name.startswith(OURS)


@given(scenes())
def test_a_state_slurm_invented_since_causes_nothing(scene: Scene) -> None:
    """Only what had been decided before goes on."""
    decided = planned(scene)
    acted_on = touched(decided.actions) | {a.name for a in decided.actions if isinstance(a, Forget | Renew)}
    for runner in scene.world.runners:
        if runner.slurm is not None and runner.slurm.stage is SlurmStage.UNKNOWN:
            assert runner.name not in acted_on or runner.record.withdrawn_at is not None
    unknown = {stray.id for stray in scene.world.strays if stray.stage is SlurmStage.UNKNOWN}
    assert not unknown & {a.slurm_id for a in decided.actions if isinstance(a, CancelStray)}
    assert not unknown & {a.slurm.id for a in decided.actions if isinstance(a, Adopt)}


@given(scenes())
def test_attempts_are_spaced(scene: Scene) -> None:
    for name in touched(planned(scene).actions):
        tried = scene.world.last_tried.get(name)
        assert tried is None or NOW - tried >= scene.policy.retry_after


@given(scenes())
def test_one_thing_at_a_time_for_each_runner(scene: Scene) -> None:
    named = [a.name for a in planned(scene).actions if isinstance(a, Withdraw | Forget | Renew)]
    assert max(Counter(named).values(), default=1) == 1
    assert set(named) <= {runner.name for runner in scene.world.runners}


@given(scenes())
def test_a_runner_is_forgotten_only_when_it_is_over(scene: Scene) -> None:
    by_name = {runner.name: runner for runner in scene.world.runners}
    for action in planned(scene).actions:
        if isinstance(action, Forget):
            runner = by_name[action.name]
            assert over(runner) or lost(scene, runner)
            # Nobody blames the pool for a runner that was taken away, or that had its job.
            assert not action.failure or (runner.record.withdrawn_at is None and runner.record.busy_at is None)


@given(scenes())
def test_a_starting_runner_hears_the_same_as_the_plan_decides(scene: Scene) -> None:
    """``needed`` agrees with the plan, and says yes whenever GitHub's jobs cannot be read."""
    decided = planned(scene)
    counted_on = {entry.runner for entry in decided.waiting if entry.runner is not None}
    for runner in scene.world.runners:
        said = needed(scene.world, scene.policy, NOW, runner.name)
        if runner.name in counted_on or not view_of(scene, runner.record.scope).jobs_readable:
            assert said or over(runner)
        elif any(other.record.scope == runner.record.scope and _took_something(other) for other in scene.world.runners):
            event("in doubt")
        elif runner.record.pool in {pool.name for pool in scene.policy.pools if pool.warm.min_idle}:
            event("kept ready, perhaps")
        elif runner.phase in (Phase.STARTING, Phase.PENDING, Phase.SUBMITTED):
            assert not said or holds_a_job(scene, runner) or seen_gone(scene, runner)


def _took_something(runner: Runner) -> bool:
    return runner.record.busy_at is not None or (runner.registration is not None and runner.registration.busy)


# The plan as a whole


@given(scenes(), st.integers(0, 2**16))
def test_it_is_the_same_for_any_order_of_the_inputs(scene: Scene, seed: int) -> None:
    random = Random(seed)

    def shuffled(items: Iterable[object]) -> tuple[object, ...]:
        return tuple(random.sample(listed := list(items), len(listed)))

    world = scene.world
    other = World(
        jobs=shuffled(world.jobs),  # type: ignore[arg-type]
        runners=shuffled(world.runners),  # type: ignore[arg-type]
        scopes=MappingProxyType(dict(shuffled(world.scopes.items()))),  # type: ignore[arg-type]
        slurm=world.slurm,
        strays=shuffled(world.strays),  # type: ignore[arg-type]
        orphans=shuffled(world.orphans),  # type: ignore[arg-type]
        troubles=MappingProxyType(dict(shuffled(world.troubles.items()))),  # type: ignore[arg-type]
        surplus_since=MappingProxyType(dict(shuffled(world.surplus_since.items()))),  # type: ignore[arg-type]
        last_tried=MappingProxyType(dict(shuffled(world.last_tried.items()))),  # type: ignore[arg-type]
        draining=world.draining,
    )
    assert plan(other, scene.policy, NOW) == planned(scene)


@given(scenes())
def test_planning_again_after_the_effects_repeats_nothing(scene: Scene) -> None:
    first = planned(scene)
    after = carried_out(scene, first)
    second = plan(after.world, after.policy, NOW)
    gone = withdrawn(first.actions)
    replaced = sum(entry.runner is not None and entry.runner in gone for entry in first.waiting)
    # A trial that is closed leaves its place to the next, unless it failed: that pool backs off.
    pools = {runner.name: runner.record.pool for runner in scene.world.runners}
    tried = {pools[a.name] for a in first.actions if isinstance(a, Forget)} & scene.world.troubles.keys()
    assert len([submit for submit in submits(second) if submit.pool not in tried]) <= replaced
    assert not blamed(scene, first) & {submit.pool for submit in submits(second)}
    assert not attempts(first.actions) & attempts(second.actions)
    assert not withdrawn(second.actions)


def carried_out(scene: Scene, decided: Plan) -> Scene:
    """The world right after the actions, as the controller would find it: no listing has been read again yet."""
    world = scene.world
    records = {runner.name: runner for runner in world.runners}
    orphans, strays = list(world.orphans), list(world.strays)
    tried, troubles = dict(world.last_tried), dict(world.troubles)
    for number, action in enumerate(decided.actions):
        match action:
            case Submit():
                pool = scene.policy.pools_by_name[action.pool]
                name = f"{OURS}{pool.name}-new{number}"
                record = RunnerRecord(
                    name,
                    action.scope,
                    pool.name,
                    pool.labels,
                    pool.handover,
                    NOW,
                    slurm_id=9000 + number,
                    repository=action.job.repository if action.job is not None else None,
                )
                records[name] = Runner(record)
            case Withdraw():
                tried[action.name] = NOW
                runner = records[action.name]
                record = replace(runner.record, withdrawn_at=NOW, withdrawn_because=action.reason)
                records[action.name] = replace(runner, record=replace(record, deregistered_at=NOW))
                if action.failure:
                    troubles[runner.record.pool] = Trouble(runner.record.pool, 1, NOW + 5.0, action.reason)
            case Deregister() if action.name in records:
                tried[action.name] = NOW
                runner = records[action.name]
                records[action.name] = replace(runner, record=replace(runner.record, deregistered_at=NOW))
            case Deregister():
                tried[action.name] = NOW
                orphans = [o for o in orphans if o.registration.id != action.registration_id]
            case Forget():
                runner = records.pop(action.name)
                if action.failure:
                    troubles[runner.record.pool] = Trouble(runner.record.pool, 1, NOW + 5.0, action.detail)
            case CancelStray():
                strays = [stray for stray in strays if stray.id != action.slurm_id]
            case Adopt():
                strays = [stray for stray in strays if stray.id != action.slurm.id]
            case Renew():
                tried[action.name] = NOW
                runner = records[action.name]
                records[action.name] = replace(runner, record=replace(runner.record, minted_at=NOW))
    return Scene(
        replace(
            world,
            runners=tuple(records.values()),
            orphans=tuple(orphans),
            strays=tuple(strays),
            troubles=MappingProxyType(troubles),
            last_tried=MappingProxyType(tried),
            surplus_since=decided.surplus_since,
        ),
        scene.policy,
    )
