"""One token's budget: what is let through, what is held back, and until when."""

from __future__ import annotations

import math

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clocks import SetClock
from tests.unit.scripted_github import virtual

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.github.budget import (
    LONGEST_WAIT,
    Admission,
    Budget,
    merge,
    penalty,
    resume_at,
)
from slurm_gha.github.errors import RateLimited
from slurm_gha.github.pace import Call, Limits, Window, affordable_reads, fair_share, steady_reads
from slurm_gha.github.wire import Rate, Refusal

NOW = 1_700_000_000.0
RESET = NOW + 3000


def admit(budget: Budget, call: Call) -> Admission:
    async def main() -> Admission:
        return await budget.admit(call)

    return anyio.run(main)


def answered(budget: Budget, call: Call, rate: Rate, *, counted: bool = True) -> None:
    admission = admit(budget, call)
    budget.answered(admission, rate, counted=counted, success=True)
    budget.release(admission)


def refused(budget: Budget, call: Call, refusal: Refusal, rate: Rate | None = None) -> float:
    admission = admit(budget, call)
    until = budget.refused(admission, rate, refusal)
    budget.release(admission)
    return until


def test_calls_are_counted_by_what_they_cost() -> None:
    budget = Budget(SetClock(NOW))
    answered(budget, Call.READ, Rate(5000, 4999, RESET))
    answered(budget, Call.READ, Rate(5000, 4999, RESET), counted=False)
    budget.release(admit(budget, Call.WRITE))
    shown = budget.snapshot()
    assert (shown.counted, shown.uncounted, shown.unanswered) == (1, 1, 1)
    assert (shown.limit, shown.remaining, shown.reset) == (5000, 4999, RESET)
    assert shown.points_last_minute == 7


def test_the_last_calls_are_kept_for_writes_until_the_reset() -> None:
    clock = SetClock(NOW)
    budget = Budget(clock, Limits(reserve=200))
    answered(budget, Call.READ, Rate(5000, 200, RESET))
    with pytest.raises(RateLimited) as caught:
        admit(budget, Call.READ)
    assert caught.value.until == RESET
    assert "200 of 5000" in str(caught.value)
    answered(budget, Call.WRITE, Rate(5000, 199, RESET))
    assert budget.snapshot().held_back == 1
    clock.time = RESET
    admit(budget, Call.READ)


def test_a_small_bucket_keeps_a_tenth_only() -> None:
    budget = Budget(SetClock(NOW), Limits(reserve=200))
    answered(budget, Call.READ, Rate(60, 7, RESET))
    answered(budget, Call.READ, Rate(60, 6, RESET))
    with pytest.raises(RateLimited):
        admit(budget, Call.READ)


def test_requests_under_way_count_against_what_is_left() -> None:
    budget = Budget(SetClock(NOW), Limits(reserve=0))
    answered(budget, Call.WRITE, Rate(5000, 3, RESET))
    under_way = [admit(budget, Call.WRITE) for _ in range(3)]
    with pytest.raises(RateLimited):
        admit(budget, Call.WRITE)
    for admission in under_way:
        budget.check(Call.WRITE, own=admission)
    budget.release(under_way[0])
    admit(budget, Call.WRITE)


def test_a_bucket_of_its_own_blocks_minting_alone() -> None:
    budget = Budget(SetClock(NOW))
    own = Rate(10_000, 0, RESET, "actions_runner_registration")
    assert refused(budget, Call.MINT, Refusal(primary=True, until=RESET), own) == RESET
    answered(budget, Call.READ, Rate(5000, 4000, RESET))
    with pytest.raises(RateLimited):
        admit(budget, Call.MINT)


def test_a_secondary_limit_holds_for_the_whole_token() -> None:
    clock = SetClock(NOW)
    budget = Budget(clock)
    assert refused(budget, Call.MINT, Refusal(primary=False, until=NOW + 30)) == NOW + 30
    for call in Call:
        with pytest.raises(RateLimited) as caught:
            admit(budget, call)
        assert caught.value.until == NOW + 30
    clock.time = NOW + 30
    admit(budget, Call.READ)


def test_refusals_without_a_time_wait_a_minute_and_grow_until_a_success() -> None:
    clock = SetClock(NOW)
    budget = Budget(clock)
    waits = []
    for _ in range(8):
        until = refused(budget, Call.READ, Refusal(primary=False, until=None))
        waits.append(until - clock.time)
        clock.time = until
    assert waits == [60, 120, 240, 480, 960, 1800, 1800, 1800]
    answered(budget, Call.READ, Rate(5000, 4000, RESET + 9999))
    assert refused(budget, Call.READ, Refusal(primary=False, until=None)) == clock.time + 60


def test_refusals_of_one_volley_are_one_strike() -> None:
    clock = SetClock(NOW)
    budget = Budget(clock)
    volley = [admit(budget, Call.READ) for _ in range(16)]
    success = admit(budget, Call.READ)
    for admission in volley:
        clock.time += 0.1
        budget.refused(admission, None, Refusal(primary=False, until=None))
    # A success that was under way before the refusals does not make the next one the first again.
    budget.answered(success, None, counted=True, success=True)
    clock.time += 200
    assert refused(budget, Call.READ, Refusal(primary=False, until=None)) == clock.time + 120


def test_a_reset_in_the_past_is_no_leave_for_a_hot_loop() -> None:
    refusal = Refusal(primary=True, until=NOW - 500)
    assert [resume_at(refusal, strikes, NOW) - NOW for strikes in (1, 2, 3)] == [1, 60, 120]


def test_absurd_times_are_not_believed() -> None:
    assert resume_at(Refusal(False, 1e15), 1, NOW) == NOW + LONGEST_WAIT
    clock = SetClock(NOW)
    budget = Budget(clock)
    refused(budget, Call.READ, Refusal(False, NOW + 100))
    answered_at = clock.time
    clock.time = answered_at - 100_000  # the clock was set back by more than any wait
    admit(budget, Call.READ)


@given(strikes=st.integers(1, 10_000))
def test_penalties_never_shrink(strikes: int) -> None:
    assert 60 <= penalty(strikes) <= penalty(strikes + 1) <= 1800


rates = st.builds(Rate, st.just(5000), st.integers(0, 5000), st.just(RESET))


@given(st.lists(rates, min_size=1, max_size=20))
def test_answers_of_one_window_in_any_order_leave_the_least(seen: list[Rate]) -> None:
    known: Rate | None = None
    for rate in seen:
        known = merge(known, rate, NOW)
    assert known is not None
    assert known.remaining == min(rate.remaining for rate in seen)


def test_a_new_window_starts_afresh_and_a_late_answer_of_the_old_one_is_ignored() -> None:
    old, new = Rate(5000, 10, RESET), Rate(5000, 4990, RESET + 3600)
    assert merge(old, new, NOW) is new
    assert merge(new, old, NOW) is new
    assert merge(old, Rate(5000, 4000, RESET - 50), RESET + 1).remaining == 4000, "an expired bucket is worth nothing"


@given(
    steps=st.lists(st.tuples(st.sampled_from(list(Call)), st.floats(0, 20)), max_size=200), points=st.integers(10, 200)
)
def test_no_minute_holds_more_points_than_allowed(steps: list[tuple[Call, float]], points: int) -> None:
    window, now, spent = Window(), NOW, []
    limits = Limits(points_per_minute=points, writes_per_minute=12)
    for call, pause in steps:
        now += pause
        now += window.wait(call, limits, now)
        assert window.wait(call, limits, now) == 0
        window.spend(call, now)
        spent.append((now, call))
    for start, _ in spent:
        within = [call for at, call in spent if start <= at < start + 60]
        assert sum(call.points for call in within) <= points
        assert sum(1 for call in within if call is not Call.READ) <= 12


def test_points_are_given_back_after_a_minute_and_not_before() -> None:
    window, limits = Window(), Limits(points_per_minute=10)
    window.spend(Call.WRITE, NOW + 0.9)
    window.spend(Call.WRITE, NOW + 0.9)
    for pause in (1, 30, 55.5, 60):
        assert window.wait(Call.READ, limits, NOW + 0.9 + pause) == pytest.approx(60.1 - pause, abs=0.01)
    assert window.wait(Call.READ, limits, NOW + 0.9 + 60.2) == 0


def test_reads_leave_room_for_writes_and_writes_for_reads() -> None:
    window, limits = Window(), Limits(points_per_minute=600, writes_per_minute=1000)
    while window.wait(Call.READ, limits, NOW) == 0:
        window.spend(Call.READ, NOW)
    assert window.reads == 480
    assert window.wait(Call.MINT, limits, NOW) == 0
    window = Window()
    while window.wait(Call.MINT, limits, NOW) == 0:
        window.spend(Call.MINT, NOW)
    assert window.writes == 540
    assert window.wait(Call.READ, limits, NOW) == 0


def test_waiting_calls_are_let_in_first_come_first_served_within_the_pace() -> None:
    async def main() -> None:
        clock = EventLoopClock(NOW)
        budget = Budget(clock, Limits(points_per_minute=100))
        order: list[tuple[int, float]] = []

        async def one(number: int) -> None:
            await anyio.sleep(number / 1000)
            budget.release(await budget.admit(Call.READ))
            order.append((number, clock.now()))

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(one, number)
        assert [number for number, _ in order] == list(range(200))
        assert order[79][1] < NOW + 1
        assert NOW + 60 < order[80][1] < NOW + 63
        assert NOW + 120 < order[199][1] < NOW + 125

    virtual(main)


def test_polling_takes_half_of_the_points_and_scopes_share_it() -> None:
    limits = Limits(points_per_minute=600)
    assert steady_reads(limits) == 5.0
    budget = Budget(SetClock(NOW), limits)
    assert budget.share("one", 100.0) == 5.0
    assert budget.share("two", 0.5) == 2.5, "an equal part at least, for a demand may grow"
    assert budget.share("one", 100.0) == 4.5, "what the other does not want"
    assert budget.share("two", 100.0) == 2.5


@given(
    demand=st.floats(0, 1000),
    others=st.lists(st.floats(0, 1000), max_size=20),
    rate=st.floats(0.01, 100),
)
def test_shares_are_fair(demand: float, others: list[float], rate: float) -> None:
    everybody = [demand, *others]
    share = fair_share(demand, others, rate)
    assert share <= rate * 1.0001
    assert share >= rate / len(everybody) * 0.9999
    used = sum(
        min(each, fair_share(each, [*everybody[:i], *everybody[i + 1 :]], rate)) for i, each in enumerate(everybody)
    )
    assert used == pytest.approx(min(rate, sum(everybody)), rel=0.001, abs=1e-6), (
        "nothing is exceeded, nothing lies idle"
    )


@given(counted=st.just(0.0) | st.floats(0.001, 1), remaining=st.integers(0, 5000), time_left=st.floats(-100, 5000))
def test_what_is_left_of_the_hour_lasts_until_the_reset(counted: float, remaining: int, time_left: float) -> None:
    limits = Limits(reserve=200)
    reads = affordable_reads(counted, Rate(5000, remaining, NOW + time_left), limits, NOW)
    assert reads >= 0
    if math.isfinite(reads):
        assert reads * counted * time_left <= max(0, remaining - 200) * 1.001
    elif counted > 0 and 1 < time_left <= 3600:
        assert remaining > 2500


def test_costly_polling_slows_down_when_half_of_the_hour_is_spent_and_idle_polling_does_not() -> None:
    budget = Budget(SetClock(NOW), Limits(points_per_minute=100_000))
    for _ in range(3000):
        answered(budget, Call.READ, Rate(5000, 2201, RESET))
    assert budget.share("one", 1e9) == pytest.approx(2001 / 3000, rel=0.01)
    for _ in range(3000):
        answered(budget, Call.READ, Rate(5000, 2201, RESET), counted=False)
    assert budget.share("one", 1e9) == steady_reads(budget.limits)
