"""A day with a schedule: in its hours jobs find a runner that is ready, and no runner grows old."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gha.domain.warm import LAST_MOMENT
from slurm_gha.testing.simulation.run import Outcome, simulate
from slurm_gha.testing.simulation.scenario import FAIR_WEATHER, Scenario

pytestmark = pytest.mark.slow

# From an hour after the beginning, on a Sunday afternoon for five hours.
COLD = replace(
    FAIR_WEATHER,
    seed=41,
    hours=6.0,
    quiet_hours=1.0,
    working=(1.0, 6.0),
    pushes_per_hour=1.5,
)
WARM = replace(COLD, ready=2)
# GitHub's listing, Slurm's queue and the loop's own rounds (seconds).
MARGIN = 120.0


def run(scenario: Scenario, directory: Path) -> Outcome:
    directory.mkdir()
    outcome = simulate(scenario, directory)
    assert outcome.violations == []
    assert outcome.unexpected == []
    return outcome


def test_in_working_hours_jobs_find_a_runner_that_is_ready(tmp_path: Path) -> None:
    cold, warm = run(COLD, tmp_path / "cold"), run(WARM, tmp_path / "warm")
    assert len(cold.first_waits) == len(warm.first_waits) > 10
    print(  # what it is worth, for whoever reads the test's output
        f"jobs that wait for no other: median {statistics.median(cold.first_waits):.1f} s cold, "
        f"{statistics.median(warm.first_waits):.1f} s warm; within 10 s {quick(cold):.0%} cold, {quick(warm):.0%} warm"
        f"; {cold.slurm_jobs} and {warm.slurm_jobs} Slurm jobs"
    )
    # Pushes come up to six at a time, which is more than two runners are for.
    assert statistics.median(warm.first_waits) < 30.0 < statistics.median(cold.first_waits)
    assert quick(warm) > 0.4 > 4 * quick(cold)
    # The price: two of two pools, renewed every half an hour of five hours, and at worst one for each job.
    assert warm.slurm_jobs <= 2 * warm.jobs + 2 * 2 * (5 * 2 + 1)


def quick(outcome: Outcome) -> float:
    """The share of the jobs that wait for no other that started at once."""
    return sum(wait < 10.0 for wait in outcome.first_waits) / len(outcome.first_waits)


@pytest.mark.parametrize("recycle_after", [600.0, 1800.0])
def test_no_idle_runner_grows_old(tmp_path: Path, recycle_after: float) -> None:
    outcome = run(replace(WARM, recycle_after=recycle_after), tmp_path / "day")
    assert outcome.longest_idle > 0.9 * recycle_after
    assert outcome.longest_idle <= LAST_MOMENT * recycle_after + MARGIN


def test_handed_over_as_files_too(tmp_path: Path) -> None:
    outcome = run(replace(WARM, stdin_share=1.0), tmp_path / "stdin")
    assert outcome.longest_idle <= LAST_MOMENT * WARM.recycle_after + MARGIN
    assert quick(outcome) > 0.4
    assert not list((tmp_path / "stdin" / "handover").iterdir())


def test_idle_registrations_that_github_drops_are_made_good(tmp_path: Path) -> None:
    outcome = run(replace(WARM, idle_removal=900.0), tmp_path / "dropped")
    assert outcome.longest_idle < 900.0 + MARGIN
    assert quick(outcome) > 0.3


def test_in_bad_weather(tmp_path: Path) -> None:
    weather = {"kills": 6, "sudden": 0.01, "outages": 1, "mishaps": 8, "rough": True, "cancelled": 0.2, "steal": True}
    outcome = run(replace(WARM, seed=42, **weather), tmp_path / "storm")  # type: ignore[arg-type]
    assert outcome.deaths > 5
    assert max(outcome.waits) < 2 * 3600
