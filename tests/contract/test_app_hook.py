"""The hook of a GitHub App, for scopes that sign in as the App: lost deliveries come back, each asked for once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import httpx2
import pytest
from tests.contract.app_world import EPOCH, AppWorld, in_world
from tests.unit.test_observation import EmptyCluster

from slurm_gha.assembly import Hooked, PollPace, assemble
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Cadence
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.scope import Source
from slurm_gha.domain.secret import Secret
from slurm_gha.github.clients import GitHubClients
from slurm_gha.github.hooks import Hooks, TokenCaller
from slurm_gha.observe.events import (
    Bus,
    CatchUpImpossible,
    DeliveriesMissed,
    DeliveryTaken,
    Event,
    GitHubUnreadable,
)
from slurm_gha.sources.webhook import MOST_REPEATED
from slurm_gha.store.journal import Journal
from slurm_gha.testing.github.sending import Sender
from slurm_gha.web.app import create_app
from slurm_gha.web.health import Health

SECRET = "the secret of the App's hook"
WORKFLOW = json.dumps({"on": "push", "jobs": {"a": {"runs-on": ["self-hosted", "small"], "steps": [{"run": "true"}]}}})
ATTEMPTS = "POST /app/hook/deliveries/{delivery_id}/attempts"
LISTING = "GET /app/hook/deliveries"


class Bench:
    """A controller without pools, told by the App's hook alone; scopes ``app`` and ``lib`` are its repositories."""

    def __init__(self, world: AppWorld) -> None:
        self.world = world
        self.heard: list[Event] = []
        self.names = ("app", "lib")
        self.tables = [world.table(name, f"octo/{name}") for name in self.names]
        self.clients: GitHubClients = world.clients(self.tables)

    @asynccontextmanager
    async def running(self, journal: Journal) -> AsyncIterator[None]:
        """The service and GitHub's sender, until the block ends."""
        scopes = {t.name: replace(t.scope(), sources=frozenset({Source.WEBHOOK})) for t in self.tables}
        clients = self.clients
        edges = Edges(
            cluster=EmptyCluster(),
            scopes={name: clients.scope(name) for name in self.names},
            journal=journal,
            clock=cast(Clock, self.world.clock),
            bus=Bus(self.heard.append),
            script=lambda record, pool, secret: "",
            output_path=str,
            handover=None,
            suffix=lambda: "0",
            token=lambda: Secret("none"),
        )
        hooks = {name: Hooks(scopes[name], TokenCaller(clients.client(name)), app=clients.app(name)) for name in scopes}
        hooked = Hooked(scopes, lambda: dict.fromkeys(scopes, Secret(SECRET)), hooks, 600.0)
        assembly = assemble(lambda: Policy("lab", ()), edges, pace=PollPace(), cadence=Cadence(), hooked=hooked)
        web = create_app(assembly.desk, lambda: Health(0.0, ()), lambda: b"", deliveries=assembly.deliveries)
        transport = httpx2.ASGITransport(app=web)
        async with httpx2.AsyncClient(transport=transport) as client, anyio.create_task_group() as group:
            group.start_soon(Sender(self.world.github.hooks.outbox, client, self.world.true_clock).run)
            group.start_soon(assembly.run)
            yield
            group.cancel_scope.cancel()

    def taken(self) -> list[tuple[str | None, str]]:
        """Repository and outcome of the deliveries of jobs that came."""
        events = [event for event in self.heard if isinstance(event, DeliveryTaken) and event.action != "ping"]
        return [(event.repository, event.outcome) for event in events]

    async def push(self, *repositories: str, lost: bool = False) -> None:
        self.world.github.hooks.weather.lost = 1.0 if lost else 0.0
        for repository in repositories:
            self.world.github.push(repository, files={".github/workflows/ci.yml": WORKFLOW})
        await self.world.clock.sleep(20)
        self.world.github.hooks.weather.lost = 0.0

    def asked(self) -> dict[str, int]:
        """How often each lost delivery was asked for again, by GUID."""
        again: dict[str, int] = {}
        for each in self.world.github.hooks.history:
            again[each.guid] = again.get(each.guid, 0) + each.sending.redelivery
        return again


def bench_of(world: AppWorld) -> Bench:
    world.github.hooks.add(f"app/{world.app.id}", "http://service/v1/webhooks/app", secret=SECRET)
    return Bench(world)


def test_an_app_without_any_permission_on_webhooks_catches_up_by_its_own_hook(tmp_path: Path) -> None:
    async def test(world: AppWorld) -> None:
        bench = bench_of(world)
        assert not {"repository_hooks", "organization_hooks"} & set(world.app.permissions)
        with Journal.open(tmp_path / "journal", synchronous="OFF") as journal:
            async with bench.running(journal):
                await world.clock.sleep(60)
                await bench.push("octo/app", "octo/lib", "octo/lib", lost=True)
                assert bench.taken() == []
                await world.clock.sleep(700)
                # Each is asked for once though two scopes share the hook, and goes to the scope of its repository.
                assert sorted(bench.taken()) == [("octo/app", "late"), ("octo/lib", "late"), ("octo/lib", "late")]
                assert sorted(bench.asked().values()) == [0, 1, 1, 1]
                assert world.count(ATTEMPTS) == 3
                assert world.count(LISTING) == 2, "one look at the start, one 600 s later"
                missed = [event for event in bench.heard if isinstance(event, DeliveriesMissed)]
                assert [(event.missed, event.asked) for event in missed] == [(3, 3)]
                await bench.push("octo/lib")
                assert bench.taken()[3:] == [("octo/lib", "new")]
        wrong = [event for event in bench.heard if isinstance(event, CatchUpImpossible | GitHubUnreadable)]
        assert wrong == []

    in_world(test)


def test_a_restart_goes_on_where_the_history_was_read_whoever_is_first(tmp_path: Path) -> None:
    async def test(world: AppWorld) -> None:
        bench = bench_of(world)
        with Journal.open(tmp_path / "journal", synchronous="OFF") as journal:
            async with bench.running(journal):
                await world.clock.sleep(60)
                await bench.push("octo/app")
            await bench.push("octo/lib", lost=True)
            async with anyio.create_task_group() as group, httpx2.AsyncClient() as client:
                group.start_soon(Sender(world.github.hooks.outbox, client, world.true_clock).run)
                await world.clock.sleep(3 * 3600)
                group.cancel_scope.cancel()
            bench.names = bench.names[::-1]
            bench.tables = bench.tables[::-1]
            async with bench.running(journal):
                await world.clock.sleep(60)
            assert sum(bench.asked().values()) == 1
            assert [repository for repository, _ in bench.taken()] == ["octo/app", "octo/lib"]

    in_world(test)


def test_where_too_much_was_lost_every_scope_of_the_hook_is_looked_at(tmp_path: Path) -> None:
    async def test(world: AppWorld) -> None:
        bench = bench_of(world)
        with Journal.open(tmp_path / "journal", synchronous="OFF") as journal:
            async with bench.running(journal):
                await world.clock.sleep(60)
                await bench.push(*["octo/app", "octo/lib"] * (MOST_REPEATED // 2 + 5), lost=True)
                before = len(world.requests)
                await world.clock.sleep(700)
                looks = {path for method, path in world.requests[before:] if method == "GET"}
                assert looks >= {"/repos/octo/app/actions/runs", "/repos/octo/lib/actions/runs"}
                assert world.count(ATTEMPTS) == MOST_REPEATED

    in_world(test)


@pytest.mark.parametrize("own", ["repos/octo/app", "repos/octo/lib"])
def test_a_scope_with_a_hook_of_its_own_catches_up_with_that(tmp_path: Path, own: str) -> None:
    async def test(world: AppWorld) -> None:
        world.github.apps.installations[world.number].permissions["repository_hooks"] = "write"
        name = own.rpartition("/")[2]
        world.github.hooks.add(own, f"http://service/v1/webhooks/{name}", secret=SECRET)
        bench = bench_of(world)
        with Journal.open(tmp_path / "journal", synchronous="OFF") as journal:
            async with bench.running(journal):
                await world.clock.sleep(60)
                await bench.push("octo/app", lost=True)
                await world.clock.sleep(700)
        listings = [path for method, path in world.requests if method == "GET" and path.endswith("/deliveries")]
        hook = min(world.github.hooks.hooks)
        assert sorted(listings) == sorted(["/app/hook/deliveries", f"/{own}/hooks/{hook}/deliveries"] * 2)
        assert {repository for repository, _ in bench.taken()} == {"octo/app"}
        assert world.true_clock.now() > EPOCH + 700

    in_world(test)
