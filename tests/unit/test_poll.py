"""The poll source: how often it says "look again"."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest
from tests.unit.scripted_github import virtual

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.hint import Hint
from slurm_gha.sources.poll import PollSource, next_interval

BUSY, IDLE, LINGER = 5.0, 60.0, 120.0


def interval(now: float, active_at: float | None) -> float:
    return next_interval(now, active_at, busy_interval=BUSY, idle_interval=IDLE, linger=LINGER)


def test_quick_while_there_is_work_or_was_lately() -> None:
    assert interval(1000, None) == IDLE
    assert interval(1000, 1000) == BUSY
    assert interval(1120, 1000) == BUSY
    assert interval(1121, 1000) == IDLE
    assert interval(900, 1000) == IDLE, "a clock set back"


class Watcher:
    """Runs a source for a while of virtual time and keeps when it hinted."""

    def __init__(self, scopes: list[str], work: list[tuple[float, float]]) -> None:
        self.scopes = scopes
        self.work = work
        self.hints: list[tuple[float, str]] = []

    def of(self, scope: str) -> list[float]:
        return [at for at, name in self.hints if name == scope]

    def run(self, seconds: float) -> None:
        async def main() -> None:
            clock = EventLoopClock(0.0)
            clock.now()
            source = PollSource(
                self.scopes,
                clock,
                busy_interval=BUSY,
                idle_interval=IDLE,
                linger=LINGER,
                active=lambda: any(start <= clock.now() < end for start, end in self.work),
            )

            def nudge(hint: Hint) -> None:
                self.hints.append((round(clock.now(), 6), hint.scope))

            with anyio.move_on_after(seconds):
                await source.run(nudge)

        virtual(main)


def test_an_idle_hour() -> None:
    watcher = Watcher(["one"], [])
    watcher.run(3601)
    assert watcher.of("one") == [60.0 * number for number in range(61)]


def test_work_quickens_the_interval_that_is_under_way_and_lingers() -> None:
    watcher = Watcher(["one"], [(612.0, 702.0)])
    watcher.run(1200)
    times = watcher.of("one")
    assert [at for at in times if at < 612] == [60.0 * number for number in range(11)]
    quick = [at for at in times if 612 < at <= 702 + LINGER - BUSY]
    assert quick[0] <= 612 + BUSY
    assert {round(b - a, 6) for a, b in pairwise(quick)} == {BUSY}
    assert [round(b - a, 6) for a, b in zip(times[-4:], times[-3:], strict=False)] == [IDLE] * 3


def test_scopes_are_spread_and_never_burst() -> None:
    watcher = Watcher(["a", "b", "c"], [(0.0, 1e9)])
    watcher.run(601)
    assert sorted(watcher.hints[:3]) == [(0.0, "a"), (0.0, "b"), (0.0, "c")]
    for scope in ("a", "b", "c"):
        times = watcher.of(scope)
        assert min(b - a for a, b in pairwise(times)) >= BUSY - 1e-6
    later = [at for at, _ in watcher.hints[3:]]
    assert len(later) == len(set(later)), "not two at one moment"


def test_a_clock_that_jumps_changes_nothing() -> None:
    class Jumping(EventLoopClock):
        def now(self) -> float:
            real = super().now()
            return real + (100_000 if 200 < real < 400 else -100_000 if real >= 400 else 0)

    times: list[float] = []

    async def main() -> None:
        clock = Jumping(0.0)
        clock.now()
        source = PollSource(["one"], clock, busy_interval=BUSY, idle_interval=IDLE, linger=LINGER, active=lambda: False)
        with anyio.move_on_after(601):
            await source.run(lambda hint: times.append(round(anyio.current_time(), 3)))

    virtual(main)
    assert {round(b - a, 3) for a, b in pairwise(times)} == {IDLE}


@pytest.mark.parametrize(("busy", "idle", "linger"), [(0, 1, 1), (2, 1, 1), (1, 2, -1)])
def test_intervals_that_make_no_sense(busy: float, idle: float, linger: float) -> None:
    with pytest.raises(ValueError, match="poll intervals"):
        PollSource([], EventLoopClock(0), busy_interval=busy, idle_interval=idle, linger=linger, active=lambda: False)
