"""Bad weather, one kind at a time: what each may cost in Slurm jobs and in waiting, and that it costs no more."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gha.testing.simulation.run import Outcome, simulate
from slurm_gha.testing.simulation.scenario import FAIR_WEATHER, Scenario

pytestmark = pytest.mark.slow

# Nothing goes wrong: each test switches on what it is about.
CALM = replace(FAIR_WEATHER, hours=4.0, pushes_per_hour=3.0)


def run(scenario: Scenario, directory: Path) -> Outcome:
    outcome = simulate(scenario, directory)
    assert outcome.violations == []
    assert outcome.unexpected == []
    return outcome


def test_in_calm_weather_nobody_waits_for_more_than_room_and_the_next_look(tmp_path: Path) -> None:
    outcome = run(replace(CALM, seed=31, pushes_per_hour=1.0), tmp_path)
    assert outcome.ran > 40
    # A look every 30 s while there is work, every 120 s while there is none; the rest is the queue for the nodes.
    assert statistics.median(outcome.waits) < 120
    assert max(outcome.waits) < 1800
    assert outcome.slurm_calls["sbatch"] == outcome.slurm_jobs


def test_a_service_that_dies_at_work_doubles_nothing(tmp_path: Path) -> None:
    """Killed within half a second of sbatch, scancel, claim or report, dozens of times."""
    outcome = run(replace(CALM, seed=26, hours=6.0, sudden=0.05), tmp_path)
    assert outcome.deaths > 30
    # A configuration whose answer was lost with the service costs its Slurm job; an unasked sbatch costs none.
    assert outcome.ran <= outcome.slurm_jobs <= outcome.ran + outcome.withdrawn + outcome.deaths / 3
    assert max(outcome.waits) < 3600


def test_one_that_hands_configurations_over_doubles_nothing_either(tmp_path: Path) -> None:
    outcome = run(replace(CALM, seed=27, hours=6.0, sudden=0.3, stdin_share=1.0), tmp_path)
    assert outcome.deaths > 10
    assert outcome.ran <= outcome.slurm_jobs <= outcome.ran + outcome.withdrawn + outcome.deaths / 3
    assert list((tmp_path / "handover").iterdir()) == []


def test_mishaps_of_the_cluster(tmp_path: Path) -> None:
    """Lost nodes, preemption, refusals, holds and cancellations, one every eight minutes."""
    outcome = run(replace(CALM, seed=33, mishaps=30), tmp_path)
    assert len(outcome.mishaps) >= 7, "of nearly every kind"
    assert sum(outcome.mishaps.values()) >= 20
    # A lost node takes up to eight runners with it.
    nodes = outcome.mishaps.get("node lost", 0) + outcome.mishaps.get("node out of touch", 0)
    assert outcome.slurm_jobs <= outcome.ran + outcome.withdrawn + sum(outcome.mishaps.values()) + 7 * nodes
    assert max(outcome.waits) < 2 * 3600


def test_idle_registrations_that_github_drops(tmp_path: Path) -> None:
    """Dropped so soon that some runners come online too late: they cost their Slurm jobs, and no job is lost."""
    dropped = run(replace(CALM, seed=34, hours=2.0, idle_removal=2.0), tmp_path)
    assert dropped.slurm_jobs > dropped.ran + dropped.withdrawn, "it did happen"
    assert max(dropped.waits) < 3600


def test_listings_that_lag_behind(tmp_path: Path) -> None:
    outcome = run(replace(CALM, seed=35, rough=True, stale=20.0, steal=True, cancelled=0.2), tmp_path)
    assert outcome.lost_calls > 0
    assert outcome.slurm_jobs < 1.3 * outcome.ran + outcome.withdrawn


def test_everything_at_once(tmp_path: Path) -> None:
    outcome = run(Scenario(seed=21, hours=4.0, kills=10, sudden=0.03, mishaps=24, outages=2, stale=10.0), tmp_path)
    assert outcome.deaths > 15
    assert sum(outcome.mishaps.values()) > 15
    assert max(outcome.waits) < 2 * 3600


def test_to_the_event_the_same_under_everything_at_once(tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        scenario = Scenario(seed=36, hours=2.0, kills=6, sudden=0.03, mishaps=12, outages=1)
        digests.add(run(scenario, tmp_path / name).digest)
    assert len(digests) == 1
