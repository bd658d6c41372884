"""The service part alone in a process, for :mod:`benchmarks.scale`: its memory, and the time of its decisions.

``python -m benchmarks.scale_service URL JOBS`` watches the organisation at URL until so many jobs are known, lets the
controller work on them for a while, and prints what it measured as JSON. Slurm is a list that accepts everything.
"""

from __future__ import annotations

import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2

import slurm_gha.service  # noqa: F401 - so that all that a service holds is in memory
from benchmarks.site import ORGANISATION, TOKEN, sample_settings
from slurm_gha.assembly import PollPace, assemble
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Cadence
from slurm_gha.domain.clock import SystemClock
from slurm_gha.domain.pool import Pool
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.domain.world import World
from slurm_gha.github.budget import Budget
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.pace import Limits
from slurm_gha.github.scope import ScopeClient
from slurm_gha.observe.correlation import Correlation
from slurm_gha.observe.events import Bus, Event, GitHubUnreadable, UnexpectedError
from slurm_gha.observe.metrics import Metrics
from slurm_gha.observe.status import Status, StatusWriter
from slurm_gha.observe.summary import summarise, waiting_job
from slurm_gha.planner.actions import Plan
from slurm_gha.planner.plan import plan
from slurm_gha.slurm.reasons import explain_reason
from slurm_gha.slurm.script import batch_script, script_values
from slurm_gha.store.journal import Journal

RUNNERS = 1000
LOOK_ON = 20.0
RUNS = 15


class Remembering:
    """A Slurm whose jobs all wait."""

    def __init__(self) -> None:
        self._jobs: dict[int, SlurmJob] = {}

    async def submit(self, submission: Submission) -> int:
        number = len(self._jobs) + 1
        self._jobs[number] = SlurmJob(number, submission.name, "PENDING", "Resources", submitted_at=time.time())
        return number

    async def list_jobs(self) -> tuple[SlurmJob, ...]:
        return tuple(self._jobs.values())

    async def look_up(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        return {}

    async def cancel(self, ids: Sequence[int]) -> None:
        for number in ids:
            self._jobs.pop(number, None)


def memory() -> tuple[float, float]:
    """The process' resident memory now and at its peak, MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    now, peak = (int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return now, peak


async def measure(url: str, jobs: int, directory: Path) -> dict[str, float]:
    """Watch until all jobs are known, and some seconds more."""
    start, _ = memory()
    clock, settings = SystemClock(), sample_settings()
    first, *rest = settings.policy().pools
    policy = replace(settings.policy(), pools=(replace(first, max_runners=RUNNERS), *rest), max_runners=RUNNERS)
    troubles: list[str] = []
    metrics = Metrics(version="", installation=policy.installation, correlation=Correlation())

    def heard(event: Event) -> None:
        if isinstance(event, UnexpectedError | GitHubUnreadable):
            troubles.append(repr(event))

    def script(record: RunnerRecord, pool: Pool, secret: Secret | None) -> str:
        values = script_values(
            record.name, pool, secret, node_dir="/tmp", node_url="http://service", signal_before_end=60.0
        )
        return batch_script(values)

    async with httpx2.AsyncClient() as http:
        limits = Limits(points_per_minute=1_000_000, writes_per_minute=100_000)
        client = GitHubClient(http, url, Secret(TOKEN), clock, budget=Budget(clock, limits))
        scope = Scope("example", f"{url}/{ORGANISATION}", url, ScopeKind.ORGANISATION, ORGANISATION)
        with Journal.open(directory / "journal.sqlite") as journal:
            edges = Edges(
                cluster=Remembering(),
                scopes={"example": ScopeClient(client, scope)},
                journal=journal,
                clock=clock,
                bus=Bus(heard, metrics),
                script=script,
                output_path=lambda name: f"/var/log/{name}.log",
                handover=None,
                suffix=lambda: secrets.token_hex(5),
                token=lambda: Secret(secrets.token_urlsafe(32)),
                submit_concurrency=settings.slurm.submit_concurrency,
            )
            latest: list[tuple[World, Plan]] = [(World(), Plan())]

            def status() -> Status:
                world, decided = latest[0]
                waiting = (waiting_job(w.job, w.reason, w.runner, w.unservable) for w in decided.waiting)
                made = summarise(
                    world, policy, waiting, at=clock.now(), version="", pid=0, started_at=0.0, explain=explain_reason
                )
                metrics.observe_status(made)
                return made

            def on_round(world: World, decided: Plan) -> None:
                latest[0] = (world, decided)
                writer.changed()

            writer = StatusWriter(directory, status, clock, Bus())
            assembly = assemble(lambda: policy, edges, pace=PollPace(), cadence=Cadence(), on_round=on_round)
            async with anyio.create_task_group() as group:
                group.start_soon(assembly.run)
                group.start_soon(writer.run)
                while len(assembly.controller.world().jobs) < jobs or len(journal.open_records()) < min(jobs, RUNNERS):
                    if troubles:
                        raise RuntimeError(troubles[0])
                    await clock.sleep(0.5)
                await clock.sleep(LOOK_ON)
                world = assembly.controller.world()
                metrics.render()
                now, peak = memory()
                found = {
                    "records": float(len(journal.open_records())),
                    "start_mib": start,
                    "rss_mib": now,
                    "peak_mib": peak,
                    "plan_ms": _median_ms(lambda: plan(world, policy, clock.now())),
                    "round_ms": _median_ms(assembly.controller.world),
                }
                group.cancel_scope.cancel()
    return found


def _median_ms(call: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def main(arguments: Sequence[str]) -> int:
    url, jobs = arguments
    with tempfile.TemporaryDirectory(prefix="slurm-gha-scale-") as directory:
        sys.stdout.write(json.dumps(anyio.run(measure, url, int(jobs), Path(directory))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
