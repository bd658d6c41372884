"""Time and memory of one plan(): a hundred, a thousand and ten thousand queued jobs."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from benchmarks.table import Aim, Column, keep, show
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import Labels
from slurm_gha.domain.pool import Handover, Policy, Pool, SlurmRequest
from slurm_gha.domain.runner import Phase, Registration, Runner, RunnerRecord
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import ScopeView, SlurmView, World
from slurm_gha.planner.actions import Submit
from slurm_gha.planner.plan import needed, plan

NOW = 1_000_000.0
SEED = 1
SCOPES = ("octo-org", "octo/tools", "octo/docs")
SIZES = ("small", "medium", "large", "xlarge")
AIM = 0.100
COLUMNS = (
    Column("jobs", "queued jobs"),
    Column("label_sets", "label sets"),
    Column("runners", "runners"),
    Column("submissions", "submitted"),
    Column("median_ms", "median ms"),
    Column("worst_ms", "worst ms"),
    Column("claim_ms", "one claim, ms"),
    Column("peak_mib", "peak MiB", 2),
)


@dataclass(frozen=True, slots=True)
class Case:
    """How much of everything. ``kinds``: distinct label sets among the jobs, each served by a pool of its own."""

    jobs: int
    kinds: int
    runners: int


CASES = (Case(100, 8, 60), Case(1_000, 8, 400), Case(10_000, 8, 400), Case(10_000, 200, 400))


def main(arguments: Sequence[str]) -> int:
    """Measure every case, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks plan", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="plans timed for each case (default 15)")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    rows = [measure(case, options.runs) for case in CASES]
    worst = max(row["median_ms"] for row in rows)
    about = f"a plan of 10,000 jobs within {AIM * 1000:.0f} ms: {worst:.1f} ms (the slower median)"
    aims = [Aim(about, met=worst <= AIM * 1000)]
    show("plan()", COLUMNS, rows, aims)
    keep("plan", rows, aims)
    return 0


def measure(case: Case, runs: int) -> dict[str, int | float]:
    """One row: times of ``runs`` plans after a first one, and the peak of what one allocates, in a run of its own."""
    world, policy = scene(case)
    decided = plan(world, policy, NOW)
    times = _timed(lambda: plan(world, policy, NOW), runs)
    starting = next(runner.name for runner in world.runners if runner.phase is Phase.STARTING)
    claims = _timed(lambda: needed(world, policy, NOW, starting), runs)
    tracemalloc.start()
    plan(world, policy, NOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "jobs": case.jobs,
        "label_sets": case.kinds,
        "runners": case.runners,
        "submissions": sum(isinstance(action, Submit) for action in decided.actions),
        "median_ms": statistics.median(times) * 1000,
        "worst_ms": max(times) * 1000,
        "claim_ms": statistics.median(claims) * 1000,
        "peak_mib": peak / 2**20,
    }


def _timed(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each run, garbage collected before."""
    times = []
    for _ in range(runs):
        gc.collect()
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def scene(case: Case) -> tuple[World, Policy]:
    """A busy afternoon, the same every time: jobs of every kind in three scopes, runners at every stage."""
    random = Random(SEED)
    kinds = [frozenset({"self-hosted", SIZES[n % len(SIZES)], f"kind-{n // len(SIZES)}"}) for n in range(case.kinds)]
    pools = tuple(
        Pool(
            name=f"pool-{number}",
            scopes=frozenset(SCOPES),
            # Some pools offer more than the jobs ask for, so that the matching has something to choose.
            labels=kind | {"linux"} | (kinds[number - 1] if number % 3 == 0 else frozenset()),
            request=SlurmRequest(cpus=1, time_seconds=1800),
            runner_dir="/opt/runner",
            max_runners=max(20, 800 // case.kinds),
        )
        for number, kind in enumerate(kinds)
    )
    jobs = tuple(_job(random, number, random.choice(kinds)) for number in range(case.jobs))
    runners = tuple(_runner(random, number, random.choice(pools)) for number in range(case.runners))
    world = World(
        jobs=jobs,
        runners=runners,
        scopes=MappingProxyType({name: ScopeView(name, NOW - 1.0, NOW - 2.0) for name in SCOPES}),
        slurm=SlurmView(NOW - 1.0),
    )
    return world, Policy("abc", pools, max_runners=1000)


def _job(random: Random, number: int, labels: Labels) -> Job:
    return Job(
        id=number,
        scope=random.choice(SCOPES),
        repository="octo/repo",
        run_id=number // 8,
        run_attempt=1,
        name=f"job {number}",
        workflow="ci",
        labels=labels,
        status=JobStatus.QUEUED,
        created_at=NOW - random.uniform(0.0, 3600.0),
    )


def _runner(random: Random, number: int, pool: Pool) -> Runner:
    name = f"sg-abc-{pool.name}-{number:05d}"
    state = random.choice(("PENDING", "PENDING", "RUNNING", "RUNNING", "RUNNING", "RUNNING", "COMPLETING", "COMPLETED"))
    registered = state == "RUNNING" and random.random() < 0.8
    busy = registered and random.random() < 0.7
    worked = busy or state in ("COMPLETING", "COMPLETED")
    age = random.uniform(60.0, 900.0)
    record = RunnerRecord(
        name=name,
        scope=random.choice(SCOPES),
        pool=pool.name,
        labels=pool.labels,
        handover=Handover.CLAIM,
        intended_at=NOW - age,
        slurm_id=number,
        claimed_at=NOW - age / 2 if registered else None,
        minted_at=NOW - age / 2 if registered else None,
        registration_id=number if registered else None,
        busy_at=NOW - age / 3 if worked else None,
    )
    registration = Registration(number, name, online=True, busy=busy, labels=pool.labels) if registered else None
    slurm = SlurmJob(number, name, state, "Priority" if state == "PENDING" else "", started_at=NOW - age / 2)
    return Runner(record, slurm, registration, 1_000_000 + number if busy else None)
