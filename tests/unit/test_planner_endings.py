"""How a runner's story is closed, once its Slurm job has ended."""

from __future__ import annotations

import pytest
from tests.unit.planner_worlds import NOW, SCOPE, actions, job, policy, runner, world

from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import ScopeView, World
from slurm_gha.planner.actions import Deregister, Forget
from slurm_gha.planner.plan import plan
from slurm_gha.planner.verdicts import LISTING_LAG

ENDED = {"ended_at": NOW - 30.0, "exit_code": "0:0"}
HAD_JOB = {"minted_at": NOW - 600.0, "claimed_at": NOW - 600.0, "registration_id": 1, "busy_at": NOW - 500.0}


def forgotten(seen: World) -> Forget:
    (action,) = actions(seen)
    assert isinstance(action, Forget)
    return action


def test_a_runner_that_did_its_job_is_closed_as_finished() -> None:
    done = runner(state="COMPLETED", slurm=ENDED, **HAD_JOB)
    expected = Forget(done.name, "finished", "Slurm job 1 ended COMPLETED with exit code 0:0")
    assert forgotten(world(done)) == expected


def test_it_is_not_closed_before_github_has_been_read_again() -> None:
    done = runner(state="COMPLETED", slurm={"ended_at": NOW - 3.0}, **HAD_JOB)
    assert actions(world(done, view=ScopeView(SCOPE, NOW, NOW - 4.0))) == ()
    assert actions(world(done, view=ScopeView(SCOPE, NOW, NOW - 2.0, None, "HTTP 502"))) == ()
    assert actions(world(done, view=ScopeView(SCOPE, NOW, None))) == ()
    assert forgotten(world(done, view=ScopeView(SCOPE, NOW, NOW - 2.0))).outcome == "finished"


def test_a_registration_gone_before_we_knew_it_busy_means_that_it_had_its_job() -> None:
    quick = runner(state="COMPLETED", slurm=ENDED, **{**HAD_JOB, "busy_at": None})
    assert (forgotten(world(quick)).outcome, forgotten(world(quick)).failure) == ("finished", False)


def test_a_registration_left_behind_is_removed_first() -> None:
    died = runner(state="NODE_FAIL", slurm=ENDED, online=False)
    assert actions(world(died)) == (Deregister(SCOPE, 1, died.name),)
    assert actions(world(died, last_tried={died.name: NOW - 29})) == ()


def test_github_is_given_time_to_remove_the_registration_of_a_runner_that_had_a_job() -> None:
    just = runner(state="COMPLETED", slurm={"ended_at": NOW - 59.0}, online=False, busy_at=NOW - 100)
    long_ago = runner(state="COMPLETED", slurm={"ended_at": NOW - 61.0}, online=False, busy_at=NOW - 100)
    assert actions(world(just)) == ()
    assert actions(world(long_ago)) == (Deregister(SCOPE, 1, long_ago.name),)


def test_once_it_is_removed_a_stale_listing_does_not_matter() -> None:
    removed = runner(state="CANCELLED by 0", online=True, deregistered_at=NOW - 1, withdrawn_at=NOW - 2)
    assert forgotten(world(removed)).outcome == "withdrawn"


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("TIMEOUT", "time limit"),
        ("NODE_FAIL", "node failure"),
        ("OUT_OF_MEMORY", "out of memory"),
        ("BOOT_FAIL", "node did not boot"),
        ("DEADLINE", "deadline passed"),
        ("CANCELLED by 1000", "cancelled in Slurm"),
        ("FAILED", "ended without a job"),
        ("GONE", "ended without a job"),
    ],
)
def test_a_runner_that_ended_without_a_job_slows_its_pool_down(state: str, outcome: str) -> None:
    closed = forgotten(world(runner(state=state, slurm=ENDED)))
    assert (closed.outcome, closed.failure) == (outcome, True)


@pytest.mark.parametrize(
    "blameless",
    [
        runner(state="PREEMPTED"),
        runner(state="CANCELLED by 0", withdrawn_at=NOW - 60),
        runner(state="COMPLETED", busy_at=NOW - 60),
        runner(state="TIMEOUT", **HAD_JOB),
    ],
    ids=["preempted", "withdrawn", "worked", "worked too long"],
)
def test_others_do_not(blameless: object) -> None:
    assert not forgotten(world(blameless)).failure  # type: ignore[arg-type]


def test_a_claim_under_way_is_waited_for() -> None:
    assert actions(world(runner(state="FAILED", claimed_at=NOW - 29))) == ()
    assert forgotten(world(runner(state="FAILED", claimed_at=NOW - 31))).outcome == "ended without a job"


def test_an_intent_that_slurm_never_heard_of_is_closed() -> None:
    lost = runner(state=None, slurm_id=None, intended_at=NOW - 62)
    assert forgotten(world(lost)).outcome == "never submitted"
    assert not forgotten(world(lost)).failure


def test_a_runner_of_a_scope_that_is_no_longer_configured_is_closed_as_well() -> None:
    done = runner(state="COMPLETED", slurm=ENDED, **HAD_JOB)
    seen = World(runners=(done,), slurm=world().slurm)
    assert plan(seen, policy(), NOW).actions == (
        Forget(done.name, "finished", "Slurm job 1 ended COMPLETED with exit code 0:0"),
    )


def test_a_listing_that_began_as_the_registration_was_made_proves_nothing() -> None:
    """GitHub may not list at once what it has just made."""
    starting = runner(state="RUNNING", minted_at=NOW - 2 * LISTING_LAG, claimed_at=NOW - 11, registration_id=1)
    early = ScopeView(SCOPE, NOW, NOW - 2 * LISTING_LAG + 1)
    assert plan(world(starting, view=early), policy(), NOW).surplus_since == {starting.name: NOW}
    assert isinstance(starting.slurm, SlurmJob)


def test_it_is_kept_while_its_job_is_still_listed_as_queued() -> None:
    """Forgotten now, its job would get a second runner."""
    quick = runner(state="COMPLETED", slurm={"ended_at": NOW - 4.0}, **{**HAD_JOB, "busy_at": NOW - 6.0})
    early = ScopeView(SCOPE, NOW - 7.0, NOW - 1.0)
    assert actions(world(job(), quick, view=early)) == ()
    assert forgotten(world(quick, view=early)).outcome == "finished"
