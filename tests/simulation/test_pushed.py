"""Demand that is pushed, in every weather: each job gets its runner, none twice, and what a loss costs in time."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gha.domain.scope import Source
from slurm_gha.testing.simulation.pushed import Pushed
from slurm_gha.testing.simulation.run import Outcome, simulate
from slurm_gha.testing.simulation.scenario import FAIR_WEATHER, Scenario

pytestmark = pytest.mark.slow

CALM = replace(
    FAIR_WEATHER,
    hours=2.0,
    quiet_hours=1.5,
    pushes_per_hour=3.0,
    longest_job=120.0,
)
SHORT = replace(CALM, hours=1.0, quiet_hours=0.7, pushes_per_hour=4.0)
# Slurm starts a job within seconds here, and a runner is up soon after (seconds).
START = 120.0


def run(scenario: Scenario, directory: Path) -> Outcome:
    directory.mkdir(exist_ok=True)
    outcome = simulate(scenario, directory, keep_story=True)
    print(
        f"\n{scenario.pushed}\n{outcome.jobs} jobs, {outcome.slurm_jobs} Slurm jobs, {outcome.withdrawn} withdrawn; "
        f"waited {statistics.median(outcome.waits):.0f} s (median), {max(outcome.waits):.0f} s (most); "
        f"{outcome.counted} counted calls"
    )
    assert outcome.violations == []
    assert outcome.unexpected == []
    return outcome


def none_twice(outcome: Outcome, share: float = 0.05) -> None:
    """Every job has run, on a runner of its own.

    Runners too many, a ``share`` at most, only where one of another pool took a job, or where its taking was not told.
    """
    assert outcome.ran > 20
    assert outcome.ran <= outcome.slurm_jobs <= outcome.ran + max(2.0, share * outcome.ran)


def test_in_calm_weather_nobody_waits_for_a_look(tmp_path: Path) -> None:
    outcome = run(replace(SHORT, seed=41, pushed=Pushed()), tmp_path)
    none_twice(outcome)
    polled = run(replace(SHORT, seed=41), tmp_path / "polled")
    # Beyond that, it is Slurm's queue that they wait in.
    assert statistics.quantiles(outcome.waits, n=4)[0] < 8 < statistics.quantiles(polled.waits, n=4)[0]
    assert outcome.counted < polled.counted


def test_without_any_polling(tmp_path: Path) -> None:
    outcome = run(replace(SHORT, seed=42, sources=(), pushed=Pushed()), tmp_path)
    none_twice(outcome)
    assert statistics.quantiles(outcome.waits, n=4)[0] < 8


def test_the_service_is_down_for_an_hour(tmp_path: Path) -> None:
    outcome = run(replace(CALM, seed=43, pushes_per_hour=5.0, pushed=Pushed(), down=((1800.0, 5400.0),)), tmp_path)
    none_twice(outcome)
    assert 600 < max(outcome.waits) < 3600 + 900


@pytest.mark.parametrize("beside", [(Source.POLL,), ()])
def test_the_endpoint_is_unreachable_for_an_hour(tmp_path: Path, beside: tuple[Source, ...]) -> None:
    pushed = Pushed(unreachable=((1800.0, 5400.0),))
    outcome = run(replace(CALM, seed=44, pushes_per_hour=5.0, sources=beside, pushed=pushed), tmp_path)
    none_twice(outcome)
    # With the poll beside it, as long as the backstop; by catching up alone, until the endpoint is there again.
    bound = 2 * pushed.backstop if beside else 3600.0 + 2 * pushed.catch_up_interval
    assert max(outcome.waits) < bound + 10 * START


@pytest.mark.parametrize("loss", ["lost", "vanished"])
def test_half_of_the_deliveries_never_arrive(tmp_path: Path, loss: str) -> None:
    outcome = run(replace(SHORT, seed=45, pushed=Pushed(**{loss: 0.5})), tmp_path)  # type: ignore[arg-type]
    none_twice(outcome, 0.15)
    assert max(outcome.waits) < 600 + 10 * START
    assert statistics.median(outcome.waits) < 600


def test_half_are_lost_and_the_history_may_not_be_read(tmp_path: Path) -> None:
    outcome = run(replace(SHORT, seed=46, pushed=Pushed(lost=0.5, catch_up=False)), tmp_path)
    none_twice(outcome, 0.15)
    assert max(outcome.waits) < 600 + 10 * START
    complaints = [line for line in outcome.story if "CatchUpImpossible" in line]
    assert len(complaints) == 1
    assert "organisation permission Webhooks" in complaints[0]


def test_half_are_lost_and_nobody_polls(tmp_path: Path) -> None:
    outcome = run(replace(SHORT, seed=47, sources=(), pushed=Pushed(lost=0.5)), tmp_path)
    none_twice(outcome, 0.15)
    # Each redelivery may get lost again: a few turns of catching up.
    assert max(outcome.waits) < 8 * 600
    assert statistics.median(outcome.waits) < 900


def test_doubled_and_in_any_order(tmp_path: Path) -> None:
    outcome = run(replace(SHORT, seed=48, pushed=Pushed(doubled=1.0, delay=40.0)), tmp_path)
    none_twice(outcome, 0.15)
    assert max(outcome.waits) < 600 + 10 * START


def test_everything_at_once_with_deaths_at_work(tmp_path: Path) -> None:
    pushed = Pushed(lost=0.2, vanished=0.1, doubled=0.3, delay=20.0, unreachable=((3000.0, 4500.0),))
    scenario = replace(
        CALM, seed=49, pushed=pushed, kills=4, sudden=0.02, cancelled=0.2, steal=True, pushes_per_hour=3.0
    )
    outcome = run(scenario, tmp_path)
    assert outcome.deaths >= 4
    assert outcome.ran <= outcome.slurm_jobs <= outcome.ran + outcome.withdrawn + outcome.deaths
    assert max(outcome.waits) < 3600


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    scenario = replace(CALM, hours=0.5, quiet_hours=0.3, seed=50, pushed=Pushed(lost=0.3, doubled=0.3, delay=10.0))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = simulate(scenario, tmp_path / "one"), simulate(scenario, tmp_path / "two")
    assert one.digest == two.digest
