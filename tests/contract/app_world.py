"""A simulated GitHub with an App on an organisation, and our clients that sign in as it, under virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import cache
from typing import Any

import anyio
import httpx2
import trio.testing
from tests.contract.openapi_checker import check_request

from slurm_gha.config.schema import ScopeSettings
from slurm_gha.domain.clock import Clock, EventLoopClock
from slurm_gha.domain.secret import Secret
from slurm_gha.github.clients import GitHubClients
from slurm_gha.testing.github import apps
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Faults
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.state import GitHub

EPOCH = 1_800_000_000.0
URL = "https://api.github.test"
PERMISSIONS = {"administration": "write", "actions": "read", "organization_self_hosted_runners": "write"}
TOKENS = "POST /app/installations/{installation_id}/access_tokens"


@cache
def key_pair(number: int) -> tuple[str, str]:
    """A private and a public key (PEM), made once in a process."""
    return apps.new_key()


class SkewedClock:
    """A clock that is ``ahead`` of another by so many seconds."""

    def __init__(self, clock: Clock, ahead: float) -> None:
        self._clock = clock
        self.ahead = ahead

    def now(self) -> float:
        return self._clock.now() + self.ahead

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class AppWorld:
    """``octo`` has ``app`` and ``lib`` and the App; ``ahead`` is how wrong our clock is (seconds)."""

    def __init__(self, *, ahead: float = 0.0, install: bool = True) -> None:
        self.true_clock = EventLoopClock(EPOCH)
        self.true_clock.now()
        self.clock = SkewedClock(self.true_clock, ahead)
        self.github = GitHub(self.true_clock, url=URL)
        self.github.add_repository("octo/app", {})
        self.github.add_repository("octo/lib", {})
        self.app = self.github.apps.add("runners", key_pair(0)[1], owner="octo", permissions=PERMISSIONS)
        self.number = self.github.apps.install(self.app.id, "octo").id if install else 0
        self.faults = Faults(self.true_clock)
        self.limits = Limits(self.true_clock)
        self.asgi = create_app(self.github, faults=self.faults, limits=self.limits)
        self.requests: list[tuple[str, str]] = []
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self._recorded))

    async def _recorded(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.requests.append((scope["method"], scope["path"]))
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        check_request(scope["method"], f"{scope['path']}?{scope['query_string'].decode()}", body=body or None)

        async def replay() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        await self.asgi(scope, replay, send)  # type: ignore[arg-type]

    def table(self, name: str = "one", path: str = "octo", **keys: Any) -> ScopeSettings:
        """A scope's table of the configuration, signing in as the App."""
        given = {"app_id": self.app.client_id, "private_key_file": "/etc/app.pem"} | keys
        url = {"url": f"https://github.test/{path}", "api_url": URL}
        return ScopeSettings.model_validate({"name": name, **url, **{k: v for k, v in given.items() if v is not None}})

    def clients(self, *groups: Sequence[ScopeSettings], secrets: Mapping[str, Secret] | None = None) -> GitHubClients:
        """Clients of one or more groups of scopes."""
        tables = [table for group in groups for table in group] or [self.table()]
        key = Secret(key_pair(0)[0])
        clients = GitHubClients(tables, secrets or {table.name: key for table in tables}, self.clock)
        for group in groups or [tables]:
            clients.add(self.http, group)
        return clients

    def count(self, route: str) -> int:
        """Answered calls of a route."""
        calls = self.limits.counters.items()
        return sum(count.counted + count.uncounted for (_, name), count in calls if name == route)


def in_world(test: Callable[[AppWorld], Awaitable[None]], **options: Any) -> None:
    """Run the test under a virtual clock that jumps over every wait."""

    async def main() -> None:
        world = AppWorld(**options)
        async with world.http:
            await test(world)

    anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})
