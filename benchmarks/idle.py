"""What an hour without work costs, and what live runners cost: counted under a virtual clock.

The production controller, poll source and GitHub client with their default settings, between the simulated GitHub
and the simulated Slurm (:mod:`benchmarks.site`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
from trio.testing import MockClock

from benchmarks.site import HOUR, MINUTE, Counts, site
from benchmarks.table import Aim, Column, Value, keep, say, show

Measured = TypeVar("Measured")

LIVE_MINUTES = 10
REPOSITORIES = (1, 10, 50)
RUNNERS = (0, 10, 100, 1000)
COUNTED_AN_HOUR = 10
ORIGINAL = "The original's allocator, measured in the same way: 1,620 counted calls an idle hour."
IDLE_COLUMNS = (
    Column("repositories", "repositories"),
    Column("stretch", "stretch"),
    Column("counted", "counted calls"),
    Column("uncounted", "uncounted calls"),
    Column("slurm", "Slurm calls"),
    Column("squeue", "of them squeue"),
)
LIVE_COLUMNS = (
    Column("runners", "live runners"),
    Column("slurm_a_minute", "Slurm calls a minute"),
    Column("squeue_a_minute", "of them squeue"),
    Column("counted_a_minute", "counted calls a minute"),
    Column("uncounted_a_minute", "uncounted calls a minute"),
)


def main(arguments: Sequence[str]) -> int:
    """Count both, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks idle", description=__doc__)
    parser.add_argument("--repositories", type=int, nargs="+", default=REPOSITORIES, help="of the organisation")
    parser.add_argument("--runners", type=int, nargs="+", default=RUNNERS, help="numbers of live runners")
    options = parser.parse_args(arguments)
    idle = [row for number in options.repositories for row in in_virtual_time(_idle_hour, number)]
    live = [in_virtual_time(_with_live_runners, number) for number in options.runners]
    aims = _aims(idle, live)
    show("idle: an hour without work", IDLE_COLUMNS, idle)
    show("idle: while runners are busy and nothing waits", LIVE_COLUMNS, live, aims)
    say(ORIGINAL)
    keep("idle", [*idle, *live], aims, quoted=[ORIGINAL])
    return 0


def in_virtual_time(measure: Callable[[int, Path], Awaitable[Measured]], number: int) -> Measured:
    """Run a measurement in a directory of its own; hours pass in seconds."""
    with tempfile.TemporaryDirectory(prefix="slurm-gha-idle-") as directory:
        options = {"clock": MockClock(autojump_threshold=0)}
        return anyio.run(measure, number, Path(directory), backend="trio", backend_options=options)


async def _idle_hour(repositories: int, directory: Path) -> list[dict[str, Value]]:
    """The first minute, in which everything is read for the first time, and the hour after it."""
    async with site(directory, repositories, runners=0) as there:
        await there.clock.sleep(MINUTE)
        start = there.counts()
        await there.clock.sleep(HOUR)
        hour = there.counts().since(start)
    return [_idle_row(repositories, "the first minute", start), _idle_row(repositories, "the hour after", hour)]


def _idle_row(repositories: int, stretch: str, counts: Counts) -> dict[str, Value]:
    return {
        "repositories": repositories,
        "stretch": stretch,
        "counted": counts.counted,
        "uncounted": counts.uncounted,
        "slurm": counts.slurm_total,
        "squeue": counts.slurm.get("squeue", 0),
    }


async def _with_live_runners(runners: int, directory: Path) -> dict[str, Value]:
    """Ten minutes in which so many runners work on long jobs."""
    async with site(directory, repositories=1, runners=runners) as there:
        await there.all_busy(runners)
        before = there.counts()
        await there.clock.sleep(LIVE_MINUTES * MINUTE)
        counts = there.counts().since(before)
        there.must_be_busy(runners)
    return {
        "runners": runners,
        "slurm_a_minute": counts.slurm_total / LIVE_MINUTES,
        "squeue_a_minute": counts.slurm.get("squeue", 0) / LIVE_MINUTES,
        "counted_a_minute": counts.counted / LIVE_MINUTES,
        "uncounted_a_minute": counts.uncounted / LIVE_MINUTES,
    }


def _aims(idle: Sequence[Mapping[str, Value]], live: Sequence[Mapping[str, Value]]) -> list[Aim]:
    hours = [row for row in idle if row["stretch"] == "the hour after"]
    worst = max((int(row["counted"] or 0) for row in hours), default=0)
    rates = [float(row["slurm_a_minute"] or 0.0) for row in live if row["runners"]]
    spread = max(rates, default=0.0) - min(rates, default=0.0)
    return [
        Aim(f"at most {COUNTED_AN_HOUR} counted calls an idle hour: {worst} at worst", worst <= COUNTED_AN_HOUR),
        # One look more or less in the whole stretch is no growth.
        Aim(
            f"Slurm calls do not grow with live runners: {spread:.2f} a minute between least and most",
            spread < 1.5 / LIVE_MINUTES,
        ),
    ]
