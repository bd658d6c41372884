"""An organisation of a thousand repositories: how soon all of 10,000 queued jobs are seen, and what it costs.

Under a virtual clock (:mod:`benchmarks.site`), by source: the time to see a whole backlog, and GitHub's counted calls
in an hour of watching, with pushes. Then in real time, in a process of its own (:mod:`benchmarks.scale_service`): the
memory of the service, and one plan() of it all.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
from starlette.applications import Starlette
from trio.testing import MockClock

from benchmarks.site import HOUR, MINUTE, ORGANISATION, TOKEN, Site, SiteError, site
from benchmarks.table import Aim, Column, Value, keep, say, show
from slurm_gha.domain.clock import EventLoopClock, SystemClock
from slurm_gha.domain.scope import Source as Word
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.limits import Limits, Rules
from slurm_gha.testing.github.serve import serve_in_thread
from slurm_gha.testing.github.state import GitHub

MEMORY_MIB = 150.0
PLAN_MS = 100.0
RUNNERS = 100
# The activity that is assumed, in the hour of watching: each push starts a run of so many jobs of five minutes.
PUSHES_AN_HOUR = 120
JOBS_A_PUSH = 3
JOB_SECONDS = 300.0
WORKFLOW = """
name: CI
on: push
jobs:
  test:
    strategy: {{fail-fast: false, matrix: {{n: [{numbers}]}}}}
    runs-on: [self-hosted, slurm-runner-small]
    steps: [{{run: make}}]
"""
SIGN_IN = "registration-token"
MINT, RUNNER_LIST, REPOSITORY_LIST = "generate-jitconfig", "GET /orgs/{org}/actions/runners", "GET /orgs/{org}/repos"


@dataclass(frozen=True, slots=True)
class Source:
    """A source of demand, as it is measured here.

    ``site`` gives a running site as :func:`benchmarks.site.site` does, with the demand it is given; ``counted`` is how
    many counted calls the watching of an hour may cost, minting and signing in aside. ``backlog``: whether the source
    finds jobs by looking for them, so that it is of interest how soon it has found all.
    """

    site: Callable[..., AbstractAsyncContextManager[Site]]
    counted: int
    backlog: bool = False


SOURCES: Mapping[str, Source] = {
    "poll": Source(site, counted=2500, backlog=True),
    "webhook": Source(partial(site, sources=(Word.POLL, Word.WEBHOOK)), counted=2500),
    "scaleset": Source(partial(site, sources=(Word.SCALESET,)), counted=0),
}
SEEN = (
    Column("source", "source"),
    Column("repositories", "repositories"),
    Column("jobs", "queued jobs"),
    Column("half_s", "half seen after, s"),
    Column("seen_s", "all seen after, s"),
    Column("counted", "counted calls"),
    Column("uncounted", "uncounted"),
)
WATCHED = (
    Column("source", "source"),
    Column("pushes", "pushes an hour"),
    Column("jobs", "jobs"),
    Column("watching", "counted, but for mints and sign-ins"),
    Column("listings", "runs and jobs"),
    Column("registrations", "runners"),
    Column("organisation", "repositories"),
    Column("mints", "mints"),
    Column("tokens", "sign-ins"),
    Column("uncounted", "uncounted"),
    Column("median_s", "push → seen, median s"),
    Column("worst_s", "at worst"),
)
MEMORY = (
    Column("repositories", "repositories"),
    Column("jobs", "queued jobs"),
    Column("records", "runners submitted"),
    Column("start_mib", "RSS at the start, MiB"),
    Column("rss_mib", "RSS, MiB"),
    Column("peak_mib", "peak RSS, MiB"),
    Column("plan_ms", "plan(), median ms"),
    Column("round_ms", "world(), median ms"),
)


def main(arguments: Sequence[str]) -> int:
    """Measure all three, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--repositories", type=int, default=1000, help="of the organisation (default 1000)")
    parser.add_argument("--jobs", type=int, default=10, help="queued jobs of each repository (default 10)")
    parser.add_argument("--pushes", type=int, default=PUSHES_AN_HOUR, help="an hour, while watching (default 120)")
    parser.add_argument("--source", choices=SOURCES, action="append", help="only this one (default: all)")
    options = parser.parse_args(arguments)
    if min(options.repositories, options.jobs, options.pushes) < 1 or options.jobs > 256:
        parser.error("numbers must be at least 1, and --jobs at most 256 (a matrix has no more)")
    seen, watched, aims = [], [], []
    for name in options.source or SOURCES:
        if SOURCES[name].backlog:
            seen.append(_virtual(partial(see_all, name, options.repositories, options.jobs)))
            say(f"{name}: all jobs seen after {seen[-1]['seen_s']} s")
        say(f"{name}: an hour of watching")
        watched.append(_virtual(partial(watch, name, options.repositories, options.pushes)))
        counted, most = watched[-1]["watching"], SOURCES[name].counted
        about = f"{name}: at most {most:,} counted calls in an hour of watching, as in the table: {counted:,}"
        aims.append(Aim(about, isinstance(counted, int) and counted <= most))
    memory = [occupy(options.repositories, options.jobs)]
    peak, plan = float(memory[0]["peak_mib"]), float(memory[0]["plan_ms"])
    aims.append(Aim(f"peak memory within {MEMORY_MIB:.0f} MiB: {peak:.1f} MiB", peak <= MEMORY_MIB))
    aims.append(Aim(f"a plan of all jobs within {PLAN_MS:.0f} ms: {plan:.1f} ms", plan <= PLAN_MS))
    if seen:
        show("scale: a backlog, from the start of the service", SEEN, seen)
    show(f"scale: an hour of watching {options.repositories:,} repositories", WATCHED, watched)
    show("scale: the service alone in a process", MEMORY, memory, aims)
    say(f"Assumed: each push starts one run of {JOBS_A_PUSH} jobs of {JOB_SECONDS / 60:.0f} min, all on our runners.")
    keep("scale", [*seen, *watched, *memory], aims)
    return 0


def _virtual(measure: Callable[[Path], Awaitable[dict[str, Value]]]) -> dict[str, Value]:
    """Run in a directory of its own, under a virtual clock."""
    with tempfile.TemporaryDirectory(prefix="slurm-gha-scale-") as directory:
        options = {"clock": MockClock(autojump_threshold=0)}
        return anyio.run(measure, Path(directory), backend="trio", backend_options=options)


async def see_all(source: str, repositories: int, jobs: int, directory: Path) -> dict[str, Value]:
    """From the start of the service until each of the jobs is known to it."""
    total, half = repositories * jobs, 0.0

    async def demand(github: GitHub, clock: EventLoopClock) -> None:
        fill(github, repositories, jobs)

    async with SOURCES[source].site(directory, repositories, RUNNERS, demand=demand) as there:
        began = there.clock.now()
        # A runner that was submitted for one job may take another before that is seen, which then never waits.
        while (found := len(_seen(there).keys() | _taken(there))) < total:
            if found * 2 >= total and not half:
                half = there.clock.now() - began
            if there.clock.now() - began > 2 * HOUR:
                raise SiteError(f"{found} jobs of {total} are seen after two hours; {there.troubles[:1]}")
            await there.clock.sleep(1.0)
        seconds, counts = there.clock.now() - began, there.counts()
    return {
        "source": source,
        "repositories": repositories,
        "jobs": total,
        "half_s": half or seconds,
        "seen_s": seconds,
        "counted": counts.counted,
        "uncounted": counts.uncounted,
    }


async def watch(source: str, repositories: int, pushes: int, directory: Path) -> dict[str, Value]:
    """An hour of pushes at random, after everything has been read for the first time."""
    chance = random.Random(1)
    quiet = 30 * MINUTE

    async def demand(github: GitHub, clock: EventLoopClock) -> None:
        await clock.sleep(quiet)
        while True:
            await clock.sleep(chance.expovariate(pushes / HOUR))
            push(github, chance.randrange(repositories), JOBS_A_PUSH)

    opened = SOURCES[source].site(directory, repositories, RUNNERS, demand=demand, duration=JOB_SECONDS)
    async with opened as there:
        # The first jobs are under way, and some over, when the hour begins.
        await there.clock.sleep(quiet + 10 * MINUTE)
        before, routes, begun = there.counts(), there.by_route(), there.clock.now()
        await there.clock.sleep(HOUR)
        counts = there.counts().since(before)
        grown = {route: number - routes.get(route, 0) for route, number in there.by_route().items()}
        waits = sorted(
            there.seen_at[job.id] - job.queued_at
            for job in there.github.jobs.values()
            if begun <= job.queued_at < begun + HOUR - MINUTE and job.id in there.seen_at
        )
        jobs = sum(begun <= job.queued_at < begun + HOUR for job in there.github.jobs.values())
    mints = sum(number for route, number in grown.items() if MINT in route)
    tokens = sum(number for route, number in grown.items() if SIGN_IN in route)
    return {
        "source": source,
        "pushes": pushes,
        "jobs": jobs,
        "watching": counts.counted - mints - tokens,
        "listings": sum(number for route, number in grown.items() if "/actions/runs" in route),
        "registrations": grown.get(RUNNER_LIST, 0),
        "organisation": grown.get(REPOSITORY_LIST, 0),
        "mints": mints,
        "tokens": tokens,
        "uncounted": counts.uncounted,
        "median_s": waits[len(waits) // 2] if waits else None,
        "worst_s": waits[-1] if waits else None,
    }


def _seen(there: Site) -> Mapping[int, float]:
    if there.troubles:
        raise SiteError(there.troubles[0])
    return there.seen_at


def _taken(there: Site) -> set[int]:
    return {job.id for job in there.github.jobs.values() if job.status != "queued"}


def occupy(repositories: int, jobs: int) -> dict[str, float]:
    """The service alone in a process, between a simulated GitHub in this one and a Slurm that only remembers."""

    def make(url: str) -> Starlette:
        clock = SystemClock()
        github = GitHub(clock, url=url)
        github.add_token(TOKEN, limit_per_hour=1_000_000)
        for number in range(repositories):
            github.add_repository(_name(number), {})
        fill(github, repositories, jobs)
        # How long it may take is measured elsewhere: the pace is lifted on both sides.
        rules = Rules(primary=False, points_per_minute=None, writes_per_minute=None, concurrent=None)
        return create_app(github, limits=Limits(clock, rules), in_process=False)

    with serve_in_thread(make) as served:
        command = [sys.executable, "-m", "benchmarks.scale_service", served.url, str(repositories * jobs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode != 0:
        raise SiteError(f"the service's process: exit code {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return {"repositories": repositories, "jobs": repositories * jobs, **found}


def fill(github: GitHub, repositories: int, jobs: int) -> None:
    """One run with so many queued jobs in each repository."""
    for number in range(repositories):
        push(github, number, jobs)


def push(github: GitHub, number: int, jobs: int) -> None:
    text = WORKFLOW.format(numbers=", ".join(map(str, range(jobs))))
    github.push(_name(number), files={".github/workflows/ci.yml": text})


def _name(number: int) -> str:
    return f"{ORGANISATION}/project{number}"
