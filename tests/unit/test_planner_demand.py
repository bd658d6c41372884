"""What plan() does about queued jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.planner_worlds import NOW, SCOPE, actions, job, policy, pool, runner, world

from slurm_gha.domain.job import JobStatus
from slurm_gha.domain.runner import Runner
from slurm_gha.domain.world import ScopeView, SlurmView, Trouble, TroubleKind, World
from slurm_gha.planner.actions import Forget, Submit
from slurm_gha.planner.plan import needed, plan


def reason(seen: World, under: object = None) -> str:
    (entry,) = plan(seen, under or policy(), NOW).waiting  # type: ignore[arg-type]
    return entry.reason


def test_a_queued_job_gets_a_runner() -> None:
    assert actions(world(job())) == (Submit("small", SCOPE, job()),)
    assert reason(world(job())) == "a runner of pool small is being submitted"


@pytest.mark.parametrize("status", [status for status in JobStatus if status is not JobStatus.QUEUED])
def test_a_job_that_is_not_queued_gets_none(status: JobStatus) -> None:
    assert actions(world(job(status=status))) == ()


@pytest.mark.parametrize(
    ("on_its_way", "why"),
    [
        (runner(state=None, slurm_id=None, intended_at=NOW - 5), "its runner waits in Slurm"),
        (runner(state=None), "its runner waits in Slurm"),
        (runner(state="PENDING"), "its runner waits in Slurm"),
        (runner(state="PENDING", reason="Priority"), "its runner waits in Slurm: Priority"),
        (runner(state="RUNNING"), "its runner is starting"),
        (runner(state="RUNNING", online=True), "a runner is ready for it"),
        (runner(state="TELEPORTING"), "its runner is in a Slurm state that is not known here: TELEPORTING"),
    ],
    ids=["intent", "submitted", "pending", "pending for a reason", "starting", "idle", "unknown state"],
)
def test_a_runner_on_its_way_is_counted_on(on_its_way: object, why: str) -> None:
    seen = world(job(), on_its_way)  # type: ignore[arg-type]
    assert not any(isinstance(action, Submit) for action in actions(seen))
    assert reason(seen) == why


def test_an_intent_that_a_long_search_has_not_found_counts_no_more() -> None:
    lost = runner(state=None, slurm_id=None, intended_at=NOW - 120)
    assert Submit("small", SCOPE, job()) in actions(world(job(), lost))


def test_a_stolen_runner_is_replaced_in_the_next_round() -> None:
    """The runner made for job 1 {l1, l2} takes job 2 {l1}; the one made for job 2 cannot take job 1."""
    under = policy(pool("both", "l1", "l2"), pool("one", "l1"))
    taken = job(2, "l1", status=JobStatus.IN_PROGRESS, runner_name="sg-abc-both-1")
    thief = runner("1", "RUNNING", "l1", "l2", pool="both", online=True, busy=True, taken_job=2, job_id=1)
    left = runner("2", "PENDING", "l1", pool="one", job_id=2)
    decided = plan(world(job(1, "l1", "l2"), taken, thief, left), under, NOW)
    assert decided.actions == (Submit("both", SCOPE, job(1, "l1", "l2")),)
    assert set(decided.surplus_since) == {left.name}


def test_a_runner_that_just_turned_busy_stands_for_a_job_still_listed_as_queued() -> None:
    reported = runner(state="RUNNING", online=True, busy_at=NOW - 3)
    listed = runner(state="RUNNING", online=True, busy=True)
    quick = runner(state="COMPLETED", busy_at=NOW - 3, finished_at=NOW - 1, minted_at=NOW - 30, registration_id=1)
    for taking in (reported, listed, quick):
        assert not any(isinstance(action, Submit) for action in actions(world(job(), taking)))


def test_once_the_jobs_have_been_listed_again_it_stands_for_none() -> None:
    busy = runner(state="RUNNING", online=True, busy=True, busy_at=NOW - 20)
    assert actions(world(job(), busy)) == (Submit("small", SCOPE, job()),)
    unread = ScopeView(SCOPE, NOW - 300, NOW - 1, jobs_error="HTTP 502")
    assert actions(world(job(), busy, view=unread)) == ()


def test_what_counts_is_when_the_job_s_own_repository_was_listed() -> None:
    """In a scope read in turns the scope's own time is the oldest of all, and says little of one repository."""
    busy = runner(state="RUNNING", online=True, busy=True, busy_at=NOW - 20)

    def view(**times: float) -> ScopeView:
        return ScopeView(SCOPE, NOW - 900, NOW - 1, repositories_at={f"octo/{name}": at for name, at in times.items()})

    assert actions(world(job(), busy, view=view(repo=NOW - 1))) == (Submit("small", SCOPE, job()),)
    assert actions(world(job(), busy, view=view(repo=NOW - 16))) == ()
    assert actions(world(job(), busy, view=view(other=NOW - 1))) == (), "of this one only the scope's time is known"
    # It can be the older listing's job that it took, but only if that was there by then and fits.
    read, unread = job(1), replace(job(2), repository="octo/other")
    both = view(repo=NOW - 1, other=NOW - 300)
    assert len(actions(world(read, unread, busy, view=both))) == 1
    later = replace(unread, created_at=NOW - 10)
    assert len(actions(world(read, later, busy, view=both))) == 2
    elsewhere = replace(unread, labels=frozenset({"gpu"}))
    under = policy(pool("small"), pool("gpu", "gpu"))
    assert len(actions(world(read, elsewhere, busy, view=both), under)) == 2


def test_the_first_pool_that_fits_is_taken() -> None:
    under = policy(pool("gpu", "linux", "gpu"), pool("large"), pool("small"))
    assert actions(world(job()), under) == (Submit("gpu", SCOPE, job()),)
    full = policy(pool("gpu", "linux", "gpu", max_runners=0), pool("large"), pool("small"))
    assert actions(world(job()), full) == (Submit("large", SCOPE, job()),)


def test_the_oldest_job_goes_first_where_a_limit_bites() -> None:
    under = policy(pool("small", max_runners=1))
    decided = plan(world(job(2), job(1)), under, NOW)
    assert decided.actions == (Submit("small", SCOPE, job(1)),)
    assert decided.waiting[1].reason == "pool small is at its limit of 1 runners"


def test_the_limit_over_all_pools_holds() -> None:
    under = policy(max_runners=1)
    assert actions(world(job(), runner(taken_job=7)), under) == ()
    assert reason(world(job(), runner(taken_job=7)), under) == "the limit of 1 runners over all pools is reached"


def test_an_unservable_job_names_the_labels_that_stand_in_the_way() -> None:
    (entry,) = plan(world(job(1, "linux", "gpu", "arm")), policy(pool("small"), pool("gpu", "gpu")), NOW).waiting
    assert entry.unservable
    assert entry.reason == "no pool has all of its labels (the closest, gpu, lacks: arm, linux)"


def test_nothing_starts_before_slurm_has_been_read() -> None:
    for unread in (SlurmView(), SlurmView(NOW - 60, "slurmctld does not answer")):
        assert actions(world(job(), slurm=unread)) == ()
        assert reason(world(job(), slurm=unread)) == "Slurm cannot be read: no new runner is started until it can"


def test_nothing_starts_while_draining() -> None:
    assert actions(world(job(), draining=True)) == ()
    assert "draining" in reason(world(job(), draining=True))


def test_a_pool_in_back_off_waits_and_says_why() -> None:
    trouble = Trouble("small", 2, NOW + 10, "Invalid account")
    assert actions(world(job(), troubles={"small": trouble})) == ()
    assert reason(world(job(), troubles={"small": trouble})) == "pool small backs off for 10 s: Invalid account"


def test_after_the_back_off_one_runner_is_tried() -> None:
    trouble = Trouble("small", 2, NOW - 10, "it never came online", TroubleKind.FAILING)
    decided = plan(world(job(1), job(2), troubles={"small": trouble}), policy(), NOW)
    assert decided.actions == (Submit("small", SCOPE, job(1)),)
    assert decided.waiting[1].reason == "pool small tries one runner first: it never came online"
    on_trial = runner(intended_at=NOW - 5)
    assert actions(world(job(1), job(2), on_trial, troubles={"small": trouble})) == ()


def test_a_pool_whose_runner_has_just_failed_gets_no_other_in_the_same_breath() -> None:
    died = runner(state="FAILED")
    decided = plan(world(job(), died), policy(), NOW)
    assert [type(action) for action in decided.actions] == [Forget]
    assert decided.waiting[0].reason == "pool small has just failed: Slurm job 1 ended FAILED"


def test_a_trial_lasts_until_its_runner_is_closed() -> None:
    """A trial that ended while GitHub still lists it may yet turn out a failure."""
    trouble = Trouble("small", 2, NOW - 100, "it never came online", TroubleKind.FAILING)
    ended = runner(state="FAILED", online=False, intended_at=NOW - 90)
    seen = world(job(), ended, troubles={"small": trouble})
    assert not any(isinstance(action, Submit) for action in actions(seen))
    unread = ScopeView(SCOPE, NOW - 1, NOW - 1, None, "HTTP 502")
    assert any(
        isinstance(action, Submit) for action in actions(world(job(), ended, troubles={"small": trouble}, view=unread))
    )


def test_another_pool_takes_over_while_one_backs_off() -> None:
    under = policy(pool("small"), pool("large"))
    trouble = Trouble("small", 1, NOW + 10, "Invalid account")
    assert actions(world(job(), troubles={"small": trouble}), under) == (Submit("large", SCOPE, job()),)


def test_a_job_of_a_scope_that_is_not_configured_is_not_ours() -> None:
    elsewhere = World(jobs=(job(),), slurm=SlurmView(NOW - 1))
    assert plan(elsewhere, policy(), NOW).actions == ()


def test_a_starting_runner_is_told_whether_it_is_needed() -> None:
    starting = runner(state="RUNNING")
    assert needed(world(job(), starting), policy(), NOW, starting.name)
    assert not needed(world(starting), policy(), NOW, starting.name)


def test_in_doubt_a_starting_runner_is_needed() -> None:
    starting = runner(state="RUNNING")
    unread = ScopeView(SCOPE, NOW - 60, NOW - 1, jobs_error="HTTP 502")
    assert needed(world(starting, view=unread), policy(), NOW, starting.name)
    assert needed(world(), policy(), NOW, "sg-abc-small-unheard-of")


def test_the_runner_that_started_first_is_needed_before_one_that_still_waits() -> None:
    waits, started = runner("1", "PENDING"), runner("2", "RUNNING")
    assert needed(world(job(), waits, started), policy(), NOW, started.name)
    assert not needed(world(job(), waits, started), policy(), NOW, waits.name)


def test_a_runner_that_github_no_longer_lists_is_not_counted_on() -> None:
    """Its registration went without our doing: it has had a job, or will never get one."""
    gone = runner(state="RUNNING", claimed_at=NOW - 60, minted_at=NOW - 60, registration_id=1, online_at=NOW - 50)
    assert actions(world(job(), gone)) == (Submit("small", SCOPE, job()),)
    unread = ScopeView(SCOPE, NOW - 1, NOW - 1, None, "HTTP 502")
    assert actions(world(job(), gone, view=unread)) == ()


def test_a_runner_that_took_a_job_nobody_knows_yet_does_not_send_another_away() -> None:
    """Its job may have been the one that is no longer listed: the starting runner stays, the plan submits no third."""
    taking = runner("1", "RUNNING", online=True, busy=True, busy_at=NOW - 3)
    starting = runner("2", "RUNNING")
    seen = world(job(), taking, starting)
    assert needed(seen, policy(), NOW, starting.name)
    assert actions(seen) == ()


def test_a_job_that_asks_for_a_runner_group_alone_is_unservable() -> None:
    decided = plan(world(replace(job(), labels=frozenset())), policy(), NOW)
    assert not decided.actions
    (waiting,) = decided.waiting
    assert waiting.unservable
    assert "runner group" in waiting.reason


def test_a_runner_that_was_over_before_it_was_seen_busy_has_had_the_job_that_still_looks_queued() -> None:
    def ended(state: str = "COMPLETED", **record: Any) -> Runner:
        return runner("1", state, online=True, slurm={"ended_at": NOW - 2}, **record)

    def submits(seen: World) -> list[object]:
        return [action for action in actions(seen) if isinstance(action, Submit)]

    assert submits(world(job(), ended())) == []
    read_since = ScopeView(SCOPE, NOW + 4, NOW - 1)
    assert submits(world(job(), ended(), view=read_since)) == [Submit("small", SCOPE, job())]
    assert submits(world(job(), ended("FAILED"))) == [Submit("small", SCOPE, job())]
    assert submits(world(job(), ended(withdrawn_at=NOW - 9))) == [Submit("small", SCOPE, job())]


def test_a_runner_that_just_had_a_job_does_not_stand_for_one_that_came_later() -> None:
    """A short job that was never listed as in progress makes room for the next at once."""
    done = runner(state="RUNNING", online=True, busy_at=NOW - 2, finished_at=NOW - 1)
    later_job = replace(job(), created_at=NOW)
    assert Submit("small", SCOPE, later_job) in actions(world(later_job, done))
