"""Seventy jobs at once on a real Slurm: how soon they are submitted, how long they wait, what it costs of GitHub.

Everything is real but GitHub and its runner: a private Slurm, the service as a process with its default intervals,
the node scripts. The simulated GitHub answers each call 80 ms late.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from benchmarks.floor import submit_bare
from benchmarks.table import Aim, Column, keep, say, show
from slurm_gha.config.schema import PollSettings, SlurmSettings
from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.github.values import Run
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import Stage, StagePool

LATENCY = 0.080
NODES = 2
# Jobs are started some at a time, 3 s apart (Slurm's default for batch_sched_delay), not while they are submitted.
SCHEDULING = "defer,batch_sched_delay=3,sched_min_interval=3000000,sched_interval=3,bf_interval=3"
PATIENCE = 600.0
SUBMITTED_WITHIN = 1.2
TIMES_THE_FLOOR = 3.0
# The runner's configuration; and in a run of its own, the listing that shows the job. Listings of a matrix are shared.
CALLS_A_JOB = {"matrix": 1, "runs": 2}
MINT = "generate-jitconfig"
ORIGINAL = (
    "The original's allocator, measured in the same way: 88 s to the last sbatch, 47 s median wait, "
    "3 counted calls a job."
)
REPOSITORY = "lab/burst"
WORKFLOW = """
name: Burst
on: push
jobs:
  work:
    strategy: {{fail-fast: false, matrix: {{n: [{numbers}]}}}}
    runs-on: [self-hosted, linux, small]
    steps: [{{run: 'true'}}]
"""
SHAPES = ("matrix", "runs")
SUBMISSION = (
    Column("shape", "shape"),
    Column("jobs", "jobs"),
    Column("repetitions", "repetitions"),
    Column("seen_to_submitted_s", "seen → last sbatch, s", 2),
    Column("worst_submitted_s", "at worst", 2),
    Column("floor_s", "bare sbatch, s", 2),
    Column("times_floor", "ratio", 2),
    Column("queued_to_seen_s", "queued → seen, s"),
)
WAITS = (
    Column("shape", "shape"),
    Column("median_wait_s", "median wait, s"),
    Column("worst_wait_s", "worst wait, s"),
    Column("median_claim_s", "of it to the claim", 1),
    Column("counted_a_job", "counted calls a job", 2),
    Column("minted_a_job", "of them mints", 2),
    Column("until_running_a_job", "until all ran", 2),
    Column("uncounted_a_job", "uncounted", 2),
)


@dataclass(frozen=True, slots=True)
class Burst:
    """One repetition. Times in seconds; waits are from queued to in progress, claims from queued to a claim granted.

    Calls are GitHub's own count, from the push until nothing is left; ``until_running`` when the last job had begun.
    """

    floor: float
    queued_to_seen: float
    seen_to_submitted: float
    waits: tuple[float, ...]
    claims: tuple[float, ...]
    over: float
    counted: int
    until_running: int
    minted: int
    uncounted: int
    calls: Mapping[str, tuple[int, int]]


def main(arguments: Sequence[str]) -> int:
    """Measure both shapes, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks burst", description=__doc__)
    parser.add_argument("--jobs", type=int, default=70, help="jobs that appear at once (default 70)")
    parser.add_argument("--repetitions", type=int, default=3, help="of each shape (default 3)")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="one run with a matrix, or one run a job")
    options = parser.parse_args(arguments)
    if not 1 <= options.jobs <= 200 or options.repetitions < 1:
        parser.error("--jobs must be 1 to 200, --repetitions at least 1")
    shapes: tuple[str, ...] = tuple(options.shape or SHAPES)
    bursts: dict[str, list[Burst]] = {shape: [] for shape in shapes}
    cpus = -(-options.jobs // NODES)
    with PrivateSlurm(nodes=NODES, cpus=cpus, memory_mb=64_000, scheduling=SCHEDULING) as slurm:
        for repetition in range(options.repetitions):
            for shape in shapes:
                burst = measure(slurm, shape, options.jobs, floor_first=repetition % 2 == 0)
                bursts[shape].append(burst)
                say(_told(shape, burst))
    rows = [_row(shape, options.jobs, found) for shape, found in bursts.items()]
    aims = [aim for shape, row in zip(bursts, rows, strict=True) for aim in _aims(shape, row)]
    show("burst: submission", SUBMISSION, rows)
    show("burst: waiting for a runner, and GitHub's calls", WAITS, rows, aims)
    say(ORIGINAL)
    keep("burst", rows, aims, quoted=[ORIGINAL])
    return 0


def measure(slurm: PrivateSlurm, shape: str, jobs: int, *, floor_first: bool) -> Burst:
    """One repetition on a fresh GitHub and a fresh service, both at rest when it begins."""
    pool = StagePool("small", ("self-hosted", "linux", "small"), keys={"max_runners": jobs})
    with Stage(slurm=slurm, pools=[pool], overrides=default_intervals()) as stage:
        matrix = range(1, jobs + 1) if shape == "matrix" else range(1, 2)
        workflow = WORKFLOW.format(numbers=", ".join(map(str, matrix)))
        stage.github.add_repository(REPOSITORY, {".github/workflows/burst.yml": workflow})
        stage.faults.faults.append(Fault(FaultKind.LATENCY, seconds=LATENCY))
        stage.start_service()
        floor = submit_bare(stage, jobs) if floor_first else None
        _half_way_between_looks(stage)
        calls_before = _calls(stage)
        pushed_at = stage.clock.now()
        runs: list[Run] = []
        for _ in range(1 if shape == "matrix" else jobs):
            runs += stage.github.push(REPOSITORY)
        stage.until(lambda: _began(stage) == jobs, PATIENCE, "every job has begun")
        until_running = sum(counted for counted, _ in _since(calls_before, _calls(stage)).values())
        stage.until(lambda: all(run.status == "completed" for run in runs), PATIENCE, "every job is over")
        over = stage.clock.now() - pushed_at
        stage.until(lambda: not stage.leftovers(), PATIENCE, "nothing is left")
        calls = _since(calls_before, _calls(stage))
        found = list(stage.github.jobs.values())
        if len(found) != jobs or any(job.conclusion != "success" or job.started_at is None for job in found):
            raise RuntimeError(f"not every job succeeded: {[(job.name, job.conclusion) for job in found]}")
        seen, submitted = _moments(stage, "job_seen"), _moments(stage, "runner_submitted")
        claimed = _moments(stage, "claim_granted")
        if floor is None:
            floor = submit_bare(stage, jobs)
        return Burst(
            floor=floor,
            queued_to_seen=min(seen) - pushed_at,
            seen_to_submitted=sorted(submitted)[jobs - 1] - min(seen),
            waits=tuple((job.started_at or 0.0) - job.queued_at for job in found),
            claims=tuple(at - pushed_at for at in claimed),
            over=over,
            counted=sum(counted for counted, _ in calls.values()),
            until_running=until_running,
            minted=sum(counted for route, (counted, _) in calls.items() if MINT in route),
            uncounted=sum(uncounted for _, uncounted in calls.values()),
            calls=calls,
        )


def default_intervals() -> dict[str, dict[str, str]]:
    """What an administrator gets who sets no interval; the stage itself is in more of a hurry."""
    poll, slurm = PollSettings(), SlurmSettings.model_fields
    return {
        "poll": {
            "busy_interval": f"{poll.busy_interval:g}s",
            "idle_interval": f"{poll.idle_interval:g}s",
            "linger": f"{poll.linger:g}s",
        },
        "slurm": {"interval": f"{slurm['interval'].default:g}s"},
    }


def _half_way_between_looks(stage: Stage) -> None:
    """Wait until the service has just looked at GitHub, and then half of its idle interval."""
    looks = _looks(stage)
    interval = PollSettings().idle_interval
    stage.until(lambda: _looks(stage) > looks, 2 * interval + 10, "the service looks at GitHub")
    stage.until(_Later(stage, interval / 2), interval, "half of the interval is over")


class _Later:
    """True from ``seconds`` after its making on."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self._clock, self._at = stage.clock, stage.clock.now() + seconds

    def __call__(self) -> bool:
        return self._clock.now() >= self._at


def _looks(stage: Stage) -> int:
    return sum(sum(count) for route, count in _calls(stage).items() if "actions/runs" in route)


def _began(stage: Stage) -> int:
    return sum(job.started_at is not None for job in list(stage.github.jobs.values()))


def _calls(stage: Stage) -> dict[str, tuple[int, int]]:
    """By route, calls that GitHub counted and that it did not."""
    counters = dict(stage.limits.counters)
    return {route: (count.counted, count.uncounted) for (_, route), count in counters.items()}


def _since(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    grown = {}
    for route, (counted, uncounted) in after.items():
        counted_before, uncounted_before = before.get(route, (0, 0))
        grown[route] = (counted - counted_before, uncounted - uncounted_before)
    return grown


def _moments(stage: Stage, word: str) -> list[float]:
    """When the service's log says that something happened; raises RuntimeError if it never did."""
    times = [datetime.fromisoformat(line["time"]) for line in stage.log_lines() if line.get("event") == word]
    if not times:
        raise RuntimeError(f"no {word} in the service's log: {stage.log_end()}")
    return [time.timestamp() for time in times]


def _row(shape: str, jobs: int, bursts: Sequence[Burst]) -> dict[str, str | int | float]:
    waits = [statistics.median(burst.waits) for burst in bursts]
    submitted = statistics.median(burst.seen_to_submitted for burst in bursts)
    floor = statistics.median(burst.floor for burst in bursts)
    return {
        "shape": "one run, matrix" if shape == "matrix" else "one run a job",
        "jobs": jobs,
        "repetitions": len(bursts),
        "seen_to_submitted_s": submitted,
        "worst_submitted_s": max(burst.seen_to_submitted for burst in bursts),
        "floor_s": floor,
        "times_floor": submitted / floor,
        "queued_to_seen_s": statistics.median(burst.queued_to_seen for burst in bursts),
        "median_wait_s": statistics.median(waits),
        "worst_wait_s": max(max(burst.waits) for burst in bursts),
        "median_claim_s": statistics.median(statistics.median(burst.claims) for burst in bursts),
        "until_running_a_job": statistics.median(burst.until_running for burst in bursts) / jobs,
        "counted_a_job": statistics.median(burst.counted for burst in bursts) / jobs,
        "minted_a_job": statistics.median(burst.minted for burst in bursts) / jobs,
        "uncounted_a_job": statistics.median(burst.uncounted for burst in bursts) / jobs,
    }


def _aims(shape: str, row: Mapping[str, str | int | float]) -> list[Aim]:
    submitted, ratio, counted = (float(row[key]) for key in ("seen_to_submitted_s", "times_floor", "counted_a_job"))
    name, calls = row["shape"], CALLS_A_JOB[shape]
    within = submitted <= SUBMITTED_WITHIN
    return [
        Aim(f"{name}: seen → last sbatch within {SUBMITTED_WITHIN} s: {submitted:.2f} s", within),
        Aim(f"{name}: within {TIMES_THE_FLOOR:g}× of bare sbatch: {ratio:.2f}×", ratio <= TIMES_THE_FLOOR),
        Aim(f"{name}: {calls} counted calls a job, rounded: {counted:.2f}", round(counted) <= calls),
    ]


def _told(shape: str, burst: Burst) -> str:
    calls = ", ".join(f"{route} {c}+{u}" for route, (c, u) in sorted(burst.calls.items()) if c or u)
    return (
        f"{shape}: seen after {burst.queued_to_seen:.1f} s, last sbatch {burst.seen_to_submitted:.2f} s later "
        f"(bare: {burst.floor:.2f} s), median wait {statistics.median(burst.waits):.1f} s, "
        f"worst {max(burst.waits):.1f} s, "
        f"all over after {burst.over:.1f} s; counted+uncounted calls: {calls}"
    )
