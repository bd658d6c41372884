"""A scope of many repositories, looked at turn by turn: what is found when, and how old the view says it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx2
from tests.unit.scripted_github import virtual

from slurm_gha.controller.repositories import Repositories
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.scope import ScopeClient
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Fault, FaultKind, Faults
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.state import GitHub

EPOCH = 1_800_000_000.0
URL = "http://github.test"
WORKFLOW = "on: [push, workflow_dispatch]\njobs: {a: {runs-on: small, steps: [{run: 'true'}]}}\n"
PATH = ".github/workflows/ci.yml"


@dataclass
class Bench:
    github: GitHub
    faults: Faults
    limits: Limits
    clock: EventLoopClock
    repositories: Repositories

    async def turns(self, seconds: float, interval: float = 5.0) -> None:
        """Look at the scope at each interval."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            began = self.clock.now()
            await self.repositories.look()
            await self.clock.sleep(began + interval - self.clock.now())

    def seen(self) -> set[str]:
        return {job.repository for jobs, _ in self.repositories.readings().values() for job in jobs}

    async def until_seen(self, repository: str, most: float) -> float:
        """Seconds until a job of the repository is known."""
        began = self.clock.now()
        while repository not in self.seen():
            assert self.clock.now() - began <= most, f"{repository} not seen within {most} s"
            await self.turns(5.0)
        return self.clock.now() - began


def simulated(repositories: int, test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = EventLoopClock(EPOCH)
        clock.now()
        github, limits, faults = GitHub(clock, url=URL), Limits(clock), Faults(clock)
        github.add_token("all", limit_per_hour=5000)
        for number in range(repositories):
            github.add_repository(f"octo/r{number}", {PATH: WORKFLOW})
        app = create_app(github, limits=limits, faults=faults)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
            client = GitHubClient(http, URL, Secret("all"), clock, jitter=lambda: 0.5)
            scope = ScopeClient(client, Scope("org", f"{URL}/octo", URL, ScopeKind.ORGANISATION, "octo"))
            await test(Bench(github, faults, limits, clock, Repositories(scope, clock, lambda *reading, whole: None)))
            assert client.budget.snapshot().refused == 0

    virtual(main)


def test_a_few_repositories_are_all_read_at_each_look() -> None:
    async def test(bench: Bench) -> None:
        for turn in range(10):
            bench.github.dispatch(f"octo/r{turn % 5}", PATH)
            began = bench.clock.now()
            await bench.turns(5.0)
            assert bench.seen() == {f"octo/r{number}" for number in range(min(turn + 1, 5))}
            assert bench.repositories.at == began
            assert bench.repositories.round_seconds == 0

    simulated(5, test)


def test_of_many_each_push_is_seen_within_seconds_and_all_else_in_turn() -> None:
    async def test(bench: Bench) -> None:
        assert bench.repositories.at is None
        await bench.turns(100.0)
        assert bench.repositories.at is not None, "each has been looked at"
        for number in (7, 123, 250):
            bench.github.push(f"octo/r{number}")
            assert await bench.until_seen(f"octo/r{number}", 10.0) <= 10.0
        # No push, so nothing tells: its turn comes.
        bench.github.dispatch("octo/r299", PATH)
        took = await bench.until_seen("octo/r299", 300.0)
        assert took <= bench.repositories.round_seconds
        await bench.turns(300.0)
        oldest = bench.repositories.at
        assert oldest is not None
        assert bench.clock.now() - oldest <= bench.repositories.round_seconds < 400

    simulated(300, test)


def test_the_jobs_of_a_thousand_repositories_are_all_seen_within_minutes() -> None:
    async def test(bench: Bench) -> None:
        for number in range(1000):
            bench.github.push(f"octo/r{number}")
        await bench.turns(8 * 60.0)
        assert len(bench.seen()) == 1000

    simulated(1000, test)


def test_a_job_over_leaves_the_view_and_reading_times_are_those_of_its_repository() -> None:
    async def test(bench: Bench) -> None:
        for number in range(60):
            bench.github.push(f"octo/r{number}")
        await bench.turns(60.0)
        times = bench.repositories.times()
        assert set(times) == {f"octo/r{number}" for number in range(60)}
        assert len(set(times.values())) > 1, "not all at once"
        assert bench.repositories.at == min(times.values())
        (run,) = [run for run in bench.github.runs.values() if run.repository.name == "r30"]
        bench.github.cancel_run("octo/r30", run.id)
        bench.repositories.suspect("octo/r30")
        await bench.turns(5.0)
        assert "octo/r30" not in bench.seen()
        assert "octo/r30" not in bench.repositories.times()

    simulated(60, test)


def test_a_hint_reads_a_repository_now_and_a_stranger_is_left_out() -> None:
    async def test(bench: Bench) -> None:
        await bench.turns(100.0)
        bench.github.dispatch("octo/r77", PATH)
        await bench.repositories.look_at(["octo/r77", "octo/nobody"])
        assert bench.seen() == {"octo/r77"}

    simulated(100, test)


def test_a_repository_that_cannot_be_read_makes_the_view_doubtful_until_it_can() -> None:
    async def test(bench: Bench) -> None:
        await bench.turns(120.0)
        assert bench.repositories.error is None
        bench.faults.faults.append(Fault(FaultKind.ERROR, route="/repos/octo/r50/", end=bench.clock.now() + 120))
        bench.github.push("octo/r50")
        await bench.turns(30.0)
        assert bench.repositories.error is not None
        assert bench.repositories.error.startswith("octo/r50: ")
        await bench.turns(240.0)
        assert bench.repositories.error is None
        assert bench.seen() == {"octo/r50"}

    simulated(100, test)


def test_a_list_of_repositories_that_cannot_be_read_is_told() -> None:
    async def test(bench: Bench) -> None:
        bench.faults.faults.append(Fault(FaultKind.ERROR, route="/orgs/octo/repos"))
        await bench.turns(5.0)
        assert bench.repositories.error is not None
        assert bench.repositories.at is None

    simulated(3, test)


def test_a_new_repository_is_found_by_its_first_push() -> None:
    async def test(bench: Bench) -> None:
        await bench.turns(200.0)
        bench.github.add_repository("octo/new", {PATH: WORKFLOW})
        bench.github.push("octo/new")
        assert await bench.until_seen("octo/new", 20.0) <= 20.0

    simulated(250, test)
