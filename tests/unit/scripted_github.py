"""A small GitHub that answers from a script: every request is kept, every answer is written down by the test."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import trio.testing

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.secret import Secret
from slurm_gha.github.budget import Budget
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.pace import Limits

EPOCH = 1_700_000_000.0
TOKEN = "ghp_" + "s3cr3t" * 6
API = "https://api.github.test"


@dataclass
class Reply:
    """One answer. ``etag``: answered 304 when the request names it. ``error`` is raised instead of answering."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    delay: float = 0.0
    error: Exception | None = None


@dataclass(frozen=True)
class Seen:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    status: int | None = None


class ScriptedGitHub:
    """An ASGI app. Answers of one (method, target) are given in order; the last one stays."""

    def __init__(self, clock: EventLoopClock) -> None:
        self._clock = clock
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self.seen: list[Seen] = []
        self.active = 0
        self.most_active = 0
        self.default = Reply(404, {"message": "Not Found"})

    def on(self, method: str, target: str, *replies: Reply) -> None:
        self._replies[(method, target)] = list(replies)

    def asked(self, method: str = "GET", target: str | None = None) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and target in (None, seen.target)]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        target = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        replies = self._replies.get((scope["method"], target), [self.default])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            if reply.delay:
                await self._clock.sleep(reply.delay)
        finally:
            self.active -= 1
        status = reply.status
        if reply.etag is not None and headers.get("if-none-match") == reply.etag:
            status = 304
        self.seen.append(Seen(scope["method"], target, headers, body, self._clock.now(), status))
        if reply.error is not None:
            raise reply.error
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        answer = dict(reply.headers)
        if reply.etag is not None:
            answer["etag"] = reply.etag
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if status in (204, 304) else content})


@dataclass
class Bench:
    """A client wired to a scripted GitHub, under virtual time."""

    github: ScriptedGitHub
    client: GitHubClient
    clock: EventLoopClock
    notes: list[str]


def simulate(test: Callable[[Bench], Awaitable[None]], *, limits: Limits | None = None, **options: Any) -> None:
    """Run the test under virtual time; ``options`` go to the client."""

    async def main() -> None:
        clock = EventLoopClock(EPOCH)
        clock.now()
        github = ScriptedGitHub(clock)
        notes: list[str] = []
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=github)) as http:
            settings: dict[str, Any] = {"api_url": API, "token": Secret(TOKEN), "jitter": lambda: 0.5} | options
            client = GitHubClient(http, clock=clock, budget=Budget(clock, limits), on_note=notes.append, **settings)
            await test(Bench(github, client, clock, notes))

    virtual(main)


def virtual(main: Callable[[], Awaitable[None]]) -> None:
    """Run on trio's virtual clock, which jumps over every wait."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})
