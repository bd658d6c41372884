"""What plan() does about runners that no queued job needs, that are stuck, or that hold on."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from tests.unit.planner_worlds import NOW, SCOPE, actions, job, later, policy, pool, runner, world

from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import Registration
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import OrphanRegistration, ScopeView, SlurmView
from slurm_gha.planner.actions import Adopt, CancelStray, Deregister, Renew, Withdraw
from slurm_gha.planner.plan import plan

NOT_NEEDED = "no queued job needs it any more"
UNREADABLE = (
    {"slurm": SlurmView(NOW - 60, "slurmctld does not answer")},
    {"view": ScopeView(SCOPE, NOW - 60, NOW - 60, "HTTP 502", "HTTP 502")},
)


def test_a_pending_runner_without_a_job_is_withdrawn_after_a_while() -> None:
    fresh = world(runner())
    assert actions(fresh) == ()
    assert plan(fresh, policy(), NOW).surplus_since == {runner().name: NOW}
    assert actions(later(fresh, 9)) == ()
    assert actions(later(fresh, 11)) == (Withdraw(runner().name, NOT_NEEDED),)


def test_the_runner_furthest_from_a_job_is_the_surplus_one() -> None:
    idle, starting, pending = runner("1", "RUNNING", online=True), runner("2", "RUNNING"), runner("3", "PENDING")
    seen = later(world(job(1), job(2), idle, starting, pending), 60)
    assert actions(seen) == (Withdraw(pending.name, NOT_NEEDED),)


def test_a_starting_runner_is_told_at_its_claim_instead() -> None:
    assert actions(later(world(runner(state="RUNNING")), 60)) == ()


def test_an_idle_runner_is_withdrawn_after_its_pool_s_time_out() -> None:
    idle = runner(state="RUNNING", online=True, online_at=NOW - 1000)
    under = policy(pool("small", idle_timeout=120.0))
    assert actions(later(world(idle), 119), under) == ()
    assert actions(later(world(idle), 121), under) == (Withdraw(idle.name, "idle for 120 s with no job to take"),)


def test_an_idle_runner_of_a_pool_that_is_no_longer_configured_goes_at_once() -> None:
    idle = runner(state="RUNNING", online=True, pool="retired")
    assert actions(later(world(idle), 1)) == (Withdraw(idle.name, "idle for 0 s with no job to take"),)


@pytest.mark.parametrize("blind", UNREADABLE, ids=["Slurm", "GitHub"])
def test_what_cannot_be_read_takes_nothing_away(blind: dict[str, object]) -> None:
    for surplus in (runner(), runner(state="RUNNING", online=True, online_at=NOW - 9999)):
        assert actions(later(world(surplus, **blind), 9999)) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "busy",
    [
        runner(state="RUNNING", online=True, busy=True, busy_at=NOW - 3600),
        runner(state="RUNNING", online=True, taken_job=7),
        runner(state="RUNNING", online=True, busy=True, withdrawn_at=NOW - 60),
        runner(state="RUNNING", online=False, busy=True),
        runner(state="REQUEUE_HOLD", online=True, busy=True),
        runner(state=None, slurm_id=None, taken_job=7),
        runner(state="RUNNING", minted_at=NOW - 1, busy_at=NOW - 1, withdrawn_at=NOW - 60),
    ],
    ids=["listed", "taken", "withdrawn", "offline", "held", "unconfirmed", "busy since its withdrawal"],
)
def test_a_busy_runner_is_left_alone(busy: object) -> None:
    assert actions(later(world(busy), 9999)) == ()  # type: ignore[arg-type]


def test_a_withdrawal_is_tried_again_in_time() -> None:
    leaving = runner(withdrawn_at=NOW - 60, withdrawn_because=NOT_NEEDED)
    assert actions(world(leaving, last_tried={leaving.name: NOW - 29})) == ()
    assert actions(world(leaving, last_tried={leaving.name: NOW - 31})) == (Withdraw(leaving.name, NOT_NEEDED),)


@pytest.mark.parametrize(
    ("state", "reason"), [("REQUEUE_HOLD", ""), ("PENDING", "JobHeldAdmin"), ("PENDING", "launch failed requeued held")]
)
def test_a_held_runner_is_withdrawn_though_a_job_waits(state: str, reason: str) -> None:
    held = runner(state=state, reason=reason)
    assert actions(world(job(), held)) == (Withdraw(held.name, f"held by Slurm: {reason or state}", failure=True),)


def test_a_runner_that_does_not_come_online_is_withdrawn() -> None:
    silent = runner(state="RUNNING", slurm={"started_at": NOW - 601})
    assert actions(world(job(), silent)) == (Withdraw(silent.name, "not online 600 s after its start", failure=True),)


def test_a_state_nobody_has_heard_of_is_left_alone() -> None:
    for unknown in (runner(state="TELEPORTING"), runner(state="TELEPORTING", online=True, online_at=NOW - 9999)):
        assert actions(later(world(unknown), 9999)) == ()


def test_a_slurm_job_whose_runner_is_gone_is_cancelled_in_the_end() -> None:
    deserted = runner(state="RUNNING", minted_at=NOW - 7200, registration_id=1, busy_at=NOW - 7100)
    assert actions(later(world(deserted), 599)) == ()
    (action,) = actions(later(world(deserted), 601))
    assert action == Withdraw(deserted.name, "its runner is gone from GitHub, but its Slurm job has not ended")


def test_cleaning_up_after_a_long_job_is_not_overstaying() -> None:
    """The wait begins when the runner is gone from GitHub, not when it became busy."""
    working = runner(state="RUNNING", online=True, busy=True, taken_job=7, busy_at=NOW - 7200)
    assert plan(later(world(working), 7200), policy(), NOW).surplus_since == {}


def test_a_runner_that_has_just_taken_a_job_costs_no_waiting_runner_its_place_in_the_queue() -> None:
    """Its own job may have left the listing long since: then the queued one still needs the runner that waits."""
    taking = runner("1", "RUNNING", online=True, busy_at=NOW - 3)
    waiting = runner("2")
    crowd = later(world(job(), taking, waiting), 60)
    assert actions(crowd) == ()
    assert actions(later(world(taking, waiting), 60)) == (Withdraw(waiting.name, NOT_NEEDED),)
    assert actions(later(world(job(), taking, waiting, runner("3")), 60)) == (Withdraw("sg-abc-small-3", NOT_NEEDED),)


def test_a_configuration_that_grows_old_in_the_queue_is_minted_again() -> None:
    old = runner(online=False, claimed_at=None, minted_at=NOW - 2401, handover=Handover.STDIN)
    assert actions(world(job(), old)) == (Renew(old.name),)
    assert actions(world(job(), old, last_tried={old.name: NOW - 29})) == ()
    assert actions(later(world(old), 60)) == (Withdraw(old.name, NOT_NEEDED),)


def stray(state: str, name: str = "sg-abc-small-9") -> SlurmJob:
    return SlurmJob(9, name, state)


def test_a_stray_is_cancelled_while_it_waits_and_adopted_while_it_runs() -> None:
    assert actions(world(strays=(stray("PENDING"),))) == (CancelStray(9, "sg-abc-small-9"),)
    assert actions(world(strays=(stray("RUNNING"),))) == (Adopt(stray("RUNNING")),)
    for state in ("COMPLETED", "TELEPORTING"):
        assert actions(world(strays=(stray(state),))) == ()


def test_a_stray_in_an_old_listing_is_left_alone() -> None:
    old = SlurmView(NOW - 60, "slurmctld does not answer")
    assert actions(world(strays=(stray("PENDING"), stray("RUNNING")), slurm=old)) == ()


def test_a_stray_is_not_cancelled_twice_in_a_row() -> None:
    assert actions(world(strays=(stray("PENDING"),), last_tried={"sg-abc-small-9": NOW - 29})) == ()


@pytest.mark.parametrize("name", ["sg-abcd-small-9", "sg-ab-small-9", "abc", "", "SG-ABC-small-9"])
def test_what_others_have_is_never_touched(name: str) -> None:
    others = OrphanRegistration(SCOPE, Registration(9, name, online=False, busy=False), NOW - 9999)
    assert actions(world(strays=(stray("PENDING", name), stray("RUNNING", name)), orphans=(others,))) == ()


def orphan(*, busy: bool = False, first_seen: float = NOW - 31) -> OrphanRegistration:
    return OrphanRegistration(SCOPE, Registration(9, "sg-abc-small-9", online=False, busy=busy), first_seen)


def test_a_registration_that_nobody_owns_is_removed_after_a_while() -> None:
    assert actions(world(orphans=(orphan(first_seen=NOW - 29),))) == ()
    assert actions(world(orphans=(orphan(),))) == (Deregister(SCOPE, 9, "sg-abc-small-9"),)
    assert actions(world(orphans=(orphan(),), last_tried={"sg-abc-small-9": NOW - 29})) == ()


def test_a_registration_that_is_busy_or_has_a_slurm_job_is_not_an_orphan_s() -> None:
    assert actions(world(orphans=(orphan(busy=True),))) == ()
    assert actions(world(orphans=(orphan(),), strays=(stray("TELEPORTING"),))) == ()


@pytest.mark.parametrize("blind", UNREADABLE, ids=["Slurm", "GitHub"])
def test_an_orphan_in_an_old_listing_is_left_alone(blind: dict[str, object]) -> None:
    assert actions(world(orphans=(orphan(),), **blind)) == ()  # type: ignore[arg-type]


def test_a_slurm_listing_older_than_the_orphan_vouches_for_nothing() -> None:
    assert actions(world(orphans=(orphan(),), slurm=SlurmView(NOW - 40))) == ()


def test_the_result_cannot_be_changed() -> None:
    assert isinstance(plan(world(runner()), policy(), NOW).surplus_since, MappingProxyType)
