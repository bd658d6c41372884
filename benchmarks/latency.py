"""From a job queued on GitHub to its sbatch accepted, by source: the service as a process, a real private Slurm.

The simulated GitHub answers each call 80 ms late. Both ends are read from this machine's clock: when GitHub queued the
job, and when the service noted Slurm's acceptance. Nothing starts meanwhile: the partition takes jobs and runs none.
"""

from __future__ import annotations

import argparse
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2

from benchmarks.burst import LATENCY, default_intervals
from benchmarks.table import Aim, Column, keep, say, show
from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import Stage, StagePool

REPOSITORY = "lab/latency"
PATIENCE = 120.0
PUSHED_MS = 60.0
# Jobs come so many seconds apart, at random: no source is to be met always at the same moment of its interval.
BETWEEN = (0.5, 6.0)
WORKFLOW = """
name: Latency
on: push
jobs:
  work:
    runs-on: [self-hosted, linux, small]
    steps: [{run: 'true'}]
"""
COLUMNS = (
    Column("source", "source"),
    Column("jobs", "jobs"),
    Column("p50_ms", "queued → sbatch accepted, p50 ms"),
    Column("p99_ms", "p99 ms"),
    Column("worst_ms", "worst ms"),
    Column("seen_p50_ms", "of it until seen, p50 ms"),
    Column("seen_p99_ms", "p99 ms"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """How a stage is set up for a source of demand.

    ``words`` are the scope's ``sources``, ``overrides`` go into the service's configuration. ``aim_ms`` is the p50
    that is aimed at; None: none.
    """

    words: tuple[str, ...]
    aim_ms: float | None = None
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=default_intervals)


SOURCES: Mapping[str, Source] = {
    "poll": Source(("poll",)),
    "webhook": Source(("poll", "webhook"), PUSHED_MS),
    "scaleset": Source(("scaleset",), PUSHED_MS),
    "all": Source(("poll", "webhook", "scaleset"), PUSHED_MS),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One job: seconds from its being queued until the service had seen it, and until Slurm had accepted a runner."""

    seen: float
    accepted: float


def main(arguments: Sequence[str]) -> int:
    """Measure each source, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100, help="jobs for each source (default 100)")
    parser.add_argument("--source", choices=SOURCES, action="append", help="only this one (default: all)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    rows = []
    with PrivateSlurm(nodes=1, cpus=2) as slurm:
        slurm.run("scontrol", "update", "partition=ci", "state=down")
        for name in options.source or SOURCES:
            rows.append(_row(name, measure(slurm, SOURCES[name], options.jobs)))
    aims = [aim for row in rows for aim in _aims(row)]
    show("latency: from a job queued on GitHub to its runner's Slurm job", COLUMNS, rows, aims)
    say("No aim for poll: its latency is its interval (5 s by default while there is work), half of it at the median.")
    keep("latency", rows, aims)
    return 0


def measure(slurm: PrivateSlurm, source: Source, jobs: int) -> list[Measured]:
    """So many jobs, one after the other, each a run of its own; a first one, not measured, has the service at work."""
    chance = random.Random(1)
    pool = StagePool("small", ("self-hosted", "linux", "small"), keys={"max_runners": jobs + 1})
    control = Secret(secrets.token_hex(16))
    options = {"overrides": source.overrides, "sources": source.words, "control_token": control}
    headers = {"authorization": f"Bearer {control.reveal()}"}
    with (
        Stage(slurm=slurm, pools=[pool], **options) as stage,
        # Over HTTP, so that it is in GitHub's own thread: what waits there for the job hears of it at once.
        httpx2.Client(base_url=stage.url, headers=headers, timeout=30.0) as github,
    ):
        stage.github.add_repository(REPOSITORY, {".github/workflows/latency.yml": WORKFLOW})
        stage.faults.faults.append(Fault(FaultKind.LATENCY, seconds=LATENCY))
        stage.start_service()
        for number in range(jobs + 1):
            github.post("/_sim/push", json={"repository": REPOSITORY}).raise_for_status()
            if number == 0:
                stage.until(lambda: _times(stage, "runner_submitted"), PATIENCE, "the first job's runner is submitted")
            pause = stage.clock.now() + chance.uniform(*BETWEEN)
            stage.until(lambda until=pause: stage.clock.now() >= until, PATIENCE, "the next job is due")  # type: ignore[misc]
        stage.until(lambda: len(_times(stage, "runner_submitted")) > jobs, PATIENCE, "every job's runner is submitted")
        stage.stop_service()
        slurm.run("scancel", "--user", slurm.user)
        return _measured(stage)[1:]


def _measured(stage: Stage) -> list[Measured]:
    """Oldest job first. The log's line of the submission names the job it was made for.

    A scale set's messages do not tell the number that REST knows a job by: there, the jobs are told apart by their
    order, since each comes when the one before has been seen to.
    """
    seen, submitted = _times(stage, "job_seen"), _times(stage, "runner_submitted")
    jobs = sorted(stage.github.jobs.values(), key=lambda job: job.queued_at)
    if not seen.keys() & {job.id for job in jobs}:
        seen, submitted = (
            dict(zip((job.id for job in jobs), sorted(times.values()), strict=False)) for times in (seen, submitted)
        )
    found = []
    for job in jobs:
        if job.id not in seen or job.id not in submitted:
            raise RuntimeError(f"job {job.id} is not in the service's log: {stage.log_end()}")
        found.append(Measured(seen[job.id] - job.queued_at, submitted[job.id] - job.queued_at))
    return found


def _times(stage: Stage, word: str) -> dict[int, float]:
    """By job, when the service's log first has the event (seconds since the epoch, to the millisecond)."""
    times: dict[int, float] = {}
    for line in stage.log_lines():
        if line.get("event") == word and "job_id" in line:
            times.setdefault(int(line["job_id"]), datetime.fromisoformat(line["time"]).timestamp())
    return times


def _row(name: str, found: Sequence[Measured]) -> dict[str, str | int | float]:
    accepted = sorted(each.accepted * 1000 for each in found)
    seen = sorted(each.seen * 1000 for each in found)
    return {
        "source": name,
        "jobs": len(found),
        "p50_ms": percentile(accepted, 50),
        "p99_ms": percentile(accepted, 99),
        "worst_ms": accepted[-1],
        "seen_p50_ms": percentile(seen, 50),
        "seen_p99_ms": percentile(seen, 99),
    }


def percentile(ascending: Sequence[float], part: int) -> float:
    """The smallest value that at least ``part`` percent do not exceed."""
    return ascending[max(0, -(-len(ascending) * part // 100) - 1)]


def _aims(row: Mapping[str, str | int | float]) -> list[Aim]:
    aim = SOURCES[str(row["source"])].aim_ms
    if aim is None:
        return []
    p50 = float(row["p50_ms"])
    return [Aim(f"{row['source']}: p50 within {aim:.0f} ms: {p50:.1f} ms", p50 <= aim)]
