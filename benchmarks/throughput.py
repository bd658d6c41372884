"""Jobs a second through a real Slurm: the service's submissions beside bare sbatch, in the same run.

All jobs are queued on GitHub at once, in runs with a matrix; the service sees them and submits a runner for each. The
partition takes jobs and starts none, so that nothing but submission uses the machine.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from benchmarks.burst import default_intervals
from benchmarks.floor import submit_bare
from benchmarks.table import Aim, Column, keep, show
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import Stage, StagePool

REPOSITORY = "lab/throughput"
PATIENCE = 600.0
MATRIX = 200
TIMES_THE_FLOOR = 1.5
WORKFLOW = """
name: Throughput
on: push
jobs:
  work:
    strategy: {{fail-fast: false, matrix: {{n: [{numbers}]}}}}
    runs-on: [self-hosted, linux, small]
    steps: [{{run: 'true'}}]
"""
COLUMNS = (
    Column("jobs", "jobs"),
    Column("repetition", "repetition"),
    Column("service_s", "service, first seen → last accepted, s", 2),
    Column("service_rate", "jobs a second"),
    Column("bare_s", "bare sbatch, s", 2),
    Column("bare_rate", "jobs a second"),
    Column("times_bare", "ratio of times", 2),
)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks throughput", description=__doc__)
    parser.add_argument("--jobs", type=int, default=600, help="jobs of each repetition (default 600)")
    parser.add_argument("--repetitions", type=int, default=3, help="default 3")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.repetitions < 1:
        parser.error("--jobs and --repetitions must be at least 1")
    with PrivateSlurm(nodes=1, cpus=2) as slurm:
        slurm.run("scontrol", "update", "partition=ci", "state=down")
        rows = [measure(slurm, options.jobs, number) for number in range(1, options.repetitions + 1)]
    ratio = statistics.median(float(row["times_bare"]) for row in rows)
    about = f"within {TIMES_THE_FLOOR:g}× of bare sbatch: {ratio:.2f}× (median)"
    aims = [Aim(about, ratio <= TIMES_THE_FLOOR)]
    show("throughput: submissions that are accepted", COLUMNS, rows, aims)
    keep("throughput", rows, aims)
    return 0


def measure(slurm: PrivateSlurm, jobs: int, repetition: int) -> Mapping[str, int | float]:
    """One repetition on a fresh GitHub and a fresh service; which of the two is first changes each time."""
    pool = StagePool("small", ("self-hosted", "linux", "small"), keys={"max_runners": jobs})
    overrides: dict[str, dict[str, Any]] = {**default_intervals(), "service": {"max_runners": jobs}}
    with Stage(slurm=slurm, pools=[pool], overrides=overrides) as stage:
        stage.github.add_repository(REPOSITORY, {})
        bare = submit_bare(stage, jobs, held=True) if repetition % 2 else None
        for first in range(0, jobs, MATRIX):
            numbers = ", ".join(map(str, range(first, min(first + MATRIX, jobs))))
            stage.github.push(REPOSITORY, files={".github/workflows/throughput.yml": WORKFLOW.format(numbers=numbers)})
        stage.start_service(wait=False)
        stage.until(lambda: len(_moments(stage, "runner_submitted")) >= jobs, PATIENCE, "every runner is submitted")
        service = max(_moments(stage, "runner_submitted")) - min(_moments(stage, "job_seen"))
        stage.stop_service()
        slurm.run("scancel", "--user", slurm.user)
        if bare is None:
            bare = submit_bare(stage, jobs, held=True)
    return {
        "jobs": jobs,
        "repetition": repetition,
        "service_s": service,
        "service_rate": jobs / service,
        "bare_s": bare,
        "bare_rate": jobs / bare,
        "times_bare": service / bare,
    }


def _moments(stage: Stage, word: str) -> list[float]:
    lines = (line for line in stage.log_lines() if line.get("event") == word)
    return [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
