"""Our client against the simulated GitHub; every request is held against GitHub's own description of its API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import anyio
import httpx2
import pytest
import trio.testing
from tests.contract.openapi_checker import check_request

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import (
    Forbidden,
    GitHubError,
    GitHubUnavailable,
    Invalid,
    NameTaken,
    NotFound,
    RateLimited,
    RunnerBusy,
)
from slurm_gha.github.permissions import Standing
from slurm_gha.github.scope import ScopeClient
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Fault, FaultKind, Faults
from slurm_gha.testing.github.limits import Limits, Rules
from slurm_gha.testing.github.state import GitHub

EPOCH = 1_800_000_000.0
URL = "http://github.test"
REPOSITORY = Scope("one", f"{URL}/octo/hello", URL, ScopeKind.REPOSITORY, "octo/hello")
ORGANISATION = Scope("org", f"{URL}/octo", URL, ScopeKind.ORGANISATION, "octo")
ENTERPRISE = Scope("firm", f"{URL}/enterprises/firm", URL, ScopeKind.ENTERPRISE, "enterprises/firm", ("octo/hello",))
WORKFLOW = """
on: push
jobs:
  first:
    runs-on: [self-hosted, Small]
    steps: [{run: 'true'}]
  second:
    needs: first
    runs-on: [self-hosted, LARGE]
    steps: [{run: 'true'}]
  many:
    runs-on: [self-hosted, "size-${{ matrix.n }}"]
    strategy: {matrix: {n: [1, 2, 3]}}
    steps: [{run: 'true'}]
"""
IDLE = "on: workflow_dispatch\njobs: {a: {runs-on: small, steps: [{run: 'true'}]}}\n"


class Recorder:
    """An ASGI layer that keeps each different request, to be checked against the description."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.count = 0
        self.requests: set[tuple[str, str, str, bytes]] = set()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)

        async def replay() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        self.count += 1
        self.requests.add((scope["method"], URL + scope["path"], scope["query_string"].decode(), body))
        await self._app(scope, replay, send)


@dataclass
class World:
    github: GitHub
    limits: Limits
    faults: Faults
    clock: EventLoopClock
    http: httpx2.AsyncClient
    recorder: Recorder

    def client(self, token: str = "all") -> GitHubClient:
        return GitHubClient(self.http, URL, Secret(token), self.clock, jitter=lambda: 0.5)

    def scope(self, scope: Scope = REPOSITORY, token: str = "all") -> ScopeClient:
        return ScopeClient(self.client(token), scope)

    def start(self, job_id: int, name: str = "runner-1") -> int:
        """A runner takes the job; its id."""
        job = self.github.jobs[job_id]
        runner, _ = self.github.mint_runner("repos/octo/hello", name, sorted(job.labels))
        session = self.github.open_session(runner)
        message = self.github.next_message(session)
        assert message is not None
        self.github.acquire(runner, message.id)  # type: ignore[union-attr]
        return runner.id

    def truth(self) -> dict[int, str]:
        return {job.id: job.status for job in self.github.jobs.values() if job.status in ("queued", "in_progress")}


def simulated(
    test: Callable[[World], Awaitable[None]], *, rules: Rules | None = None, workflow: str = WORKFLOW, seed: int = 0
) -> None:
    async def main() -> None:
        clock = EventLoopClock(EPOCH)
        clock.now()
        github = GitHub(clock, url=URL, seed=seed)
        github.add_organisation("octo")
        github.add_repository("octo/hello", {".github/workflows/ci.yml": workflow})
        github.add_enterprise("firm", ["octo"])
        github.add_token("all")
        limits, faults = Limits(clock, rules), Faults(clock, seed=seed)
        recorder = Recorder(create_app(github, faults=faults, limits=limits))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=recorder)) as http:
            await test(World(github, limits, faults, clock, http, recorder))
        assert recorder.requests
        for method, url, query, body in sorted(recorder.requests):
            check_request(method, url, dict(parse_qsl(query)), body)

    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})


def seen(jobs: tuple[Job, ...]) -> dict[int, str]:
    return {job.id: job.status.value for job in jobs}


def test_jobs_are_seen_from_queued_to_completed() -> None:
    async def test(world: World) -> None:
        scope = world.scope()
        assert await scope.jobs("octo/hello") == ()
        world.github.push("octo/hello")
        jobs = await scope.jobs("octo/hello")
        assert seen(jobs) == world.truth()
        assert sorted(job.name for job in jobs) == ["first", "many (1)", "many (2)", "many (3)"]
        first = next(job for job in jobs if job.name == "first")
        assert first.labels == frozenset({"self-hosted", "small"})
        assert first.scope == "one"
        assert first.repository == "octo/hello"
        assert abs(first.created_at - EPOCH) < 1
        world.start(first.id)
        jobs = await scope.jobs("octo/hello")
        running = next(job for job in jobs if job.id == first.id)
        assert running.status is JobStatus.IN_PROGRESS
        assert running.runner_name == "runner-1"
        world.github.complete(first.id, "success")
        jobs = await scope.jobs("octo/hello")
        assert first.id not in seen(jobs)
        assert "second" in [job.name for job in jobs], "a later job of a run that is in progress already"
        assert seen(jobs) == world.truth()
        world.github.cancel_run("octo/hello", jobs[0].run_id)
        assert await scope.jobs("octo/hello") == ()

    simulated(test)


@pytest.mark.parametrize("scope", [REPOSITORY, ORGANISATION, ENTERPRISE])
def test_runners_come_and_go(scope: Scope) -> None:
    async def test(world: World) -> None:
        client = world.scope(scope)
        assert await client.repositories() == ("octo/hello",)
        assert await client.runners() == ()
        minted = await client.mint("sg-a-small-1", ["self-hosted", "small"], 1)
        assert minted.config.reveal()
        (registration,) = await client.runners()
        assert (registration.id, registration.name) == (minted.registration_id, "sg-a-small-1")
        assert not registration.online
        assert not registration.busy
        assert registration.labels >= {"self-hosted", "small"}
        assert await client.find("sg-a-small-1") == registration
        assert await client.find("sg-a-small") is None
        with pytest.raises(NameTaken):
            await client.mint("sg-a-small-1", ["small"], 1)
        with pytest.raises(GitHubError):
            await client.mint("sg-a-small-2", ["small"], 99)
        await client.remove(minted.registration_id)
        await client.remove(minted.registration_id)
        assert await client.runners() == ()

    simulated(test)


def test_a_busy_runner_is_left_alone() -> None:
    async def test(world: World) -> None:
        world.github.push("octo/hello")
        scope = world.scope()
        job = (await scope.jobs("octo/hello"))[0]
        runner = world.start(job.id)
        (registration,) = await scope.runners()
        assert registration.online
        assert registration.busy
        with pytest.raises(RunnerBusy):
            await scope.remove(runner)

    simulated(test)


def test_every_page_is_read() -> None:
    workflow = WORKFLOW.replace("[1, 2, 3]", str(list(range(230))))

    async def test(world: World) -> None:
        for _ in range(3):
            world.github.push("octo/hello")
        for number in range(250):
            world.github.mint_runner("repos/octo/hello", f"r{number}", ["x"])
        scope = world.scope()
        for _ in range(2):
            assert seen(await scope.jobs("octo/hello")) == world.truth()
            assert len(await scope.runners()) == 250
        assert len(world.truth()) == 3 * 231
        shown = scope.budget()
        assert shown.counted == shown.uncounted, "the second time, every page was unchanged"

    simulated(test, workflow=workflow, rules=Rules(writes_per_minute=None))


def test_an_idle_hour_costs_next_to_nothing() -> None:
    async def test(world: World) -> None:
        scope = world.scope(ORGANISATION)
        for _ in range(720):
            for repository in await scope.repositories():
                assert await scope.jobs(repository) == ()
            await scope.runners()
            await world.clock.sleep(5)
        totals = world.limits.totals()
        assert totals.counted <= 10
        assert totals.uncounted > 4000
        shown = scope.budget()
        assert (shown.counted, shown.uncounted) == (totals.counted, totals.uncounted)
        assert shown.remaining == shown.limit or shown.remaining == 5000 - totals.counted

    simulated(test, workflow=IDLE)


def test_a_hundred_repositories_are_polled_without_a_refusal() -> None:
    async def test(world: World) -> None:
        for number in range(99):
            world.github.add_repository(f"octo/r{number}", {".github/workflows/ci.yml": WORKFLOW})
        scope = world.scope(ORGANISATION)
        names = await scope.repositories()
        assert len(names) == 100
        for turn in range(5):
            world.github.push(f"octo/r{turn}")
            found: dict[int, str] = {}
            for name in names:
                found |= seen(await scope.jobs(name))
            assert found == world.truth()
            await world.clock.sleep(100 * 5 / scope.pace(1000.0))
        shown = scope.budget()
        assert shown.refused == 0
        assert shown.remaining is not None
        assert shown.remaining > 4000

    simulated(test)


def test_a_burst_of_minting_stays_below_the_limits() -> None:
    async def test(world: World) -> None:
        scope = world.scope()

        async def mint(number: int) -> None:
            await scope.mint(f"r{number}", ["small"], 1)

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(mint, number)
        assert scope.budget().refused == 0
        assert len(world.github.runners) == 200
        assert EPOCH + 120 < world.clock.now() < EPOCH + 190

    simulated(test)


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("refusal", ["retry-after", "reset", "neither"])
def test_secondary_limits_are_obeyed(status: Any, refusal: Any) -> None:
    async def test(world: World) -> None:
        scope = world.scope()
        for _ in range(30):
            await scope.runners()
        with pytest.raises(RateLimited) as caught:
            await scope.runners()
        asked = world.recorder.count
        with pytest.raises(RateLimited):
            await scope.jobs("octo/hello")
        assert world.recorder.count == asked
        wait = caught.value.until - world.clock.now()
        assert wait > 0
        await world.clock.sleep(wait + 1)
        await scope.runners()

    simulated(test, rules=Rules(points_per_minute=30, status=status, refusal=refusal))


def test_the_hours_budget_is_never_overrun_and_the_rest_is_for_minting() -> None:
    async def test(world: World) -> None:
        world.github.add_token("small", limit_per_hour=100)
        scope = world.scope(token="small")
        world.github.push("octo/hello")
        reads = 0

        async def read_on() -> None:
            nonlocal reads
            while True:
                world.github.mint_runner("repos/octo/hello", f"other-{reads}", ["x"])
                await scope.runners()
                reads += 1

        with pytest.raises(RateLimited) as caught:
            await read_on()
        assert 85 <= reads <= 91
        assert caught.value.until > world.clock.now()
        await scope.mint("mine", ["small"], 1)
        assert scope.budget().refused == 0
        await world.clock.sleep(caught.value.until - world.clock.now())
        assert len(await scope.runners()) == reads + 2

    simulated(test)


def test_a_token_spent_by_others_waits_for_its_reset() -> None:
    async def test(world: World) -> None:
        scope = world.scope()
        world.limits.spend(world.github.tokens["all"], 5000)
        with pytest.raises(RateLimited) as caught:
            await scope.mint("mine", ["small"], 1)
        assert world.clock.now() + 3500 < caught.value.until <= world.clock.now() + 3600
        await world.clock.sleep(caught.value.until - world.clock.now() + 1)
        await scope.mint("mine", ["small"], 1)

    simulated(test)


@pytest.mark.parametrize("kind", list(FaultKind))
def test_each_fault_is_survived_and_leaves_no_trace(kind: FaultKind) -> None:
    async def test(world: World) -> None:
        scope = world.scope()
        world.github.push("octo/hello")
        assert seen(await scope.jobs("octo/hello")) == world.truth()
        world.faults.faults = [Fault(kind, seconds=5 if kind is FaultKind.LATENCY else 0)]
        world.github.push("octo/hello")
        if kind is FaultKind.LATENCY:
            assert seen(await scope.jobs("octo/hello")) == world.truth()
        else:
            until = world.clock.now()
            with pytest.raises((GitHubUnavailable, RateLimited)) as caught:
                await scope.jobs("octo/hello")
            world.faults.faults = []
            if isinstance(caught.value, RateLimited):
                until = caught.value.until
            await world.clock.sleep(max(0.0, until - world.clock.now()))
            assert seen(await scope.jobs("octo/hello")) == world.truth()

    simulated(test)


@pytest.mark.parametrize("seed", range(5))
def test_in_a_storm_of_faults_whatever_is_shown_is_true(seed: int) -> None:
    async def test(world: World) -> None:
        scope = world.scope()
        throttles = [
            Fault(FaultKind.THROTTLE, 0.003, status=status, retry_after=wait)
            for status in (403, 429)
            for wait in (None, 7)
        ]
        world.faults.faults = [
            *(Fault(kind, 0.03, seconds=1, jitter=40) for kind in FaultKind if kind is not FaultKind.THROTTLE),
            *throttles,
        ]
        shown = failed = 0
        for turn in range(400):
            if turn % 20 == 0:
                world.github.push("octo/hello")
            if turn % 20 == 10:
                for run in list(world.github.runs.values())[-2:]:
                    if run.status != "completed":
                        world.github.cancel_run("octo/hello", run.id)
            try:
                jobs = await scope.jobs("octo/hello")
            except (GitHubUnavailable, RateLimited):
                failed += 1
            else:
                shown += 1
                assert seen(jobs) == world.truth()
            await world.clock.sleep(10)
        assert shown > 100
        assert failed > 20

    simulated(test, seed=seed)


def test_listings_that_lag_catch_up() -> None:
    async def test(world: World) -> None:
        world.faults.stale = 30.0
        scope = world.scope()
        world.github.push("octo/hello")
        for _ in range(8):
            jobs = await scope.jobs("octo/hello")
            await world.clock.sleep(5)
        assert seen(jobs) == world.truth()

    simulated(test)


def test_a_mint_whose_answer_is_lost_can_be_made_good() -> None:
    async def test(world: World) -> None:
        scope = world.scope()
        world.faults.faults = [Fault(FaultKind.LOSE, route="POST ")]
        with pytest.raises(GitHubUnavailable):
            await scope.mint("mine", ["small"], 1)
        world.faults.faults = []
        with pytest.raises(NameTaken):
            await scope.mint("mine", ["small"], 1)
        found = await scope.find("mine")
        assert found is not None
        await scope.remove(found.id)
        await scope.mint("mine", ["small"], 1)
        assert [registration.name for registration in await scope.runners()] == ["mine"]

    simulated(test)


def test_hostile_strings_arrive_as_data() -> None:
    name = r"\u001b[2J$(reboot); `id` \u202e\u0000 'x' <script>"
    workflow = f"""
on: push
name: "{name}"
jobs:
  a:
    name: "{name}"
    runs-on: ["--partition=root", "a;b"]
    steps: [{{run: 'true'}}]
"""

    async def test(world: World) -> None:
        world.github.push("octo/hello")
        (job,) = await world.scope().jobs("octo/hello")
        assert "$(reboot)" in job.name
        assert job.labels == frozenset({"--partition=root", "a;b"})

    simulated(test, workflow=workflow)


def test_what_a_token_may_not_do_is_named() -> None:
    async def test(world: World) -> None:
        github = world.github
        github.add_token("classic-poor", scopes=["read:org"])
        github.add_token("fine", permissions={"administration": "write", "actions": "read"})
        github.add_token("fine-poor", permissions={"actions": "read"})

        async def standings(token: str) -> list[Standing]:
            return [permission.standing for permission in await world.scope(token=token).permissions()]

        assert await standings("all") == [Standing.GRANTED] * 3
        assert (await standings("classic-poor"))[:2] == [Standing.MISSING] * 2
        assert await standings("fine") == [Standing.GRANTED, Standing.UNKNOWN, Standing.GRANTED]
        assert await standings("fine-poor") == [Standing.MISSING, Standing.MISSING, Standing.GRANTED]
        with pytest.raises((Forbidden, NotFound)):
            await world.scope(token="fine-poor").mint("n", ["small"], 1)
        with pytest.raises(Forbidden):
            await world.scope(token="nobody").runners()
        with pytest.raises((Forbidden, NotFound)):
            await world.scope(token="nobody").jobs("octo/hello")
        shown = await world.scope(token="fine").rate()
        assert shown.limit == 5000
        assert github.runners == {}

    simulated(test)


def test_what_github_refuses_is_said_so() -> None:
    async def test(world: World) -> None:
        scope = world.scope()
        with pytest.raises(Invalid):
            await scope.mint("x" * 200, ["small"], 1)
        with pytest.raises(NotFound):
            await scope.jobs("octo/nothing")

    simulated(test)
