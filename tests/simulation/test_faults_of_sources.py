"""The same trouble for each source, and for all at once: every job gets its runner, at a bounded cost in time."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gha.domain.scope import Source
from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.simulation.pushed import Pushed
from slurm_gha.testing.simulation.run import simulate
from slurm_gha.testing.simulation.scenario import EPOCH, FAIR_WEATHER

pytestmark = pytest.mark.slow

CALM = replace(
    FAIR_WEATHER,
    seed=71,
    hours=2.0,
    quiet_hours=1.5,
    pushes_per_hour=6.0,
    longest_job=60.0,
)
WAYS = {
    "poll": CALM,
    "webhook": replace(CALM, pushed=Pushed()),
    "scaleset": replace(CALM, sources=(Source.SCALESET,)),
    "all": replace(CALM, sources=(Source.POLL, Source.SCALESET), pushed=Pushed()),
}
BEGIN, MINUTE = 3600.0, 60.0
EVERYTHING = r"^\w+ /(repos|orgs|actions|_services)/"


def window(kind: FaultKind, seconds: float, **more: float) -> Fault:
    return Fault(kind, route=EVERYTHING, start=EPOCH + BEGIN, end=EPOCH + BEGIN + seconds, **more)  # type: ignore[arg-type]


# What befalls, and for how long (seconds).
TROUBLES = {
    "the service is down for an hour": (60 * MINUTE, {"down": ((BEGIN, BEGIN + 60 * MINUTE),)}),
    "GitHub answers 502 for ten minutes": (
        10 * MINUTE,
        {"more_faults": (window(FaultKind.ERROR, 10 * MINUTE, status=502),)},
    ),
    "the secondary limit for ten minutes": (
        10 * MINUTE,
        {"more_faults": (window(FaultKind.THROTTLE, 10 * MINUTE, retry_after=60.0, status=403),)},
    ),
}
# What comes on top at most: the next look of a poll, or of its backstop, a session opened again, and Slurm's queue.
MORE = 900.0


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("way", WAYS)
def test_every_job_gets_its_runner_and_none_two(tmp_path: Path, way: str, trouble: str) -> None:
    seconds, change = TROUBLES[trouble]
    outcome = simulate(replace(WAYS[way], **change), tmp_path)  # type: ignore[arg-type]
    ran = outcome.ran
    print(
        f"\n{way}, {trouble}: {ran} jobs on {outcome.slurm_jobs} Slurm jobs ({outcome.withdrawn} withdrawn); waited "
        f"{statistics.median(outcome.waits):.0f} s (median), {max(outcome.waits):.0f} s (longest)"
    )
    assert outcome.violations == []
    assert outcome.unexpected == []
    assert ran > 40
    assert seconds / 4 < max(outcome.waits) < seconds + MORE, "it did happen, and its cost is bounded"
    # One too many, where a runner of another pool took a job.
    assert ran <= outcome.slurm_jobs <= ran * 1.05 + 2
