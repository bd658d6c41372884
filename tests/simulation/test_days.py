"""Whole simulated days of the production controller: nothing lost, doubled or left; one seed, one story."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gha.testing.simulation.run import Outcome, simulate
from slurm_gha.testing.simulation.scenario import FAIR_WEATHER, Scenario

pytestmark = pytest.mark.slow


def run(scenario: Scenario, directory: Path) -> Outcome:
    directory.mkdir()
    outcome = simulate(scenario, directory)
    assert outcome.violations == []
    assert outcome.unexpected == []
    return outcome


def test_a_day_of_bad_weather(tmp_path: Path) -> None:
    outcome = run(Scenario(seed=11), tmp_path / "day")
    assert outcome.jobs > 300
    started = outcome.ran
    assert started > 250
    # Killed twelve times, with lost answers and lost nodes: still hardly a Slurm job more than there were jobs.
    assert outcome.slurm_jobs < 1.2 * outcome.jobs


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    stories = [run(Scenario(seed=seed, hours=3.0), tmp_path / name) for name, seed in (("a", 5), ("b", 5), ("c", 6))]
    assert stories[0].digest == stories[1].digest
    assert stories[0].digest != stories[2].digest


def test_in_calm_weather_every_job_costs_one_slurm_job(tmp_path: Path) -> None:
    outcome = run(replace(FAIR_WEATHER, seed=3, hours=4.0), tmp_path / "calm")
    ran = outcome.ran
    # A gpu runner may take a small job, as GitHub allows; the small runner is then withdrawn, in one scancel or more.
    assert ran <= outcome.slurm_jobs <= ran + outcome.withdrawn
    assert outcome.withdrawn < 0.1 * ran


def test_killed_every_few_minutes(tmp_path: Path) -> None:
    outcome = run(Scenario(seed=8, hours=3.0, kills=40, outages=1), tmp_path / "killed")
    assert outcome.jobs > 20


def test_a_large_organisation_is_read_in_turns(tmp_path: Path) -> None:
    """More repositories than can all be read at each look, a service that is killed, and bad weather."""
    outcome = run(Scenario(seed=9, hours=3.0, repositories=200, pushes_per_hour=8.0, kills=4), tmp_path / "large")
    started = outcome.conclusions.get("success", 0) + outcome.conclusions.get("failure", 0)
    assert started > 60
    assert outcome.slurm_jobs < 1.3 * outcome.jobs


def test_configurations_handed_over_as_files(tmp_path: Path) -> None:
    outcome = run(Scenario(seed=4, hours=4.0, stdin_share=1.0), tmp_path / "stdin")
    assert outcome.conclusions.get("success", 0) > 20
    assert not list((tmp_path / "stdin" / "handover").iterdir())
