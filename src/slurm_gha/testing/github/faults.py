"""Injected faults: seeded, by route and by time, around every door of the simulated GitHub."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx2

from slurm_gha.domain.clock import Clock

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class FaultKind(StrEnum):
    """What goes wrong. Only LOSE lets the call have its effect, and then withholds the answer."""

    LATENCY = "latency"
    ERROR = "error"
    THROTTLE = "throttle"
    TRUNCATE = "truncate"
    MALFORM = "malform"
    HANG = "hang"
    DROP = "drop"
    LOSE = "lose"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. ``route`` is a regular expression searched for in ``METHOD /path``.

    It happens to a call with ``probability``, between ``start`` and ``end`` (seconds since the epoch): an outage is an
    ERROR or a DROP of probability 1 in a window. ``seconds`` and ``jitter`` are for LATENCY and HANG; ``status`` for
    ERROR and THROTTLE; ``retry_after`` (seconds, None: no such header) for THROTTLE.
    """

    kind: FaultKind
    probability: float = 1.0
    route: str = ""
    start: float = -math.inf
    end: float = math.inf
    seconds: float = 0.0
    jitter: float = 0.0
    status: int = 502
    retry_after: float | None = None


class Faults:
    """The faults in force, changeable at any time, and how often each kind has happened (``happened``)."""

    def __init__(self, clock: Clock, faults: Iterable[Fault] = (), *, seed: int = 0, stale: float = 0.0) -> None:
        self.clock = clock
        self.faults = list(faults)
        self.stale = stale
        """Listings may lag behind by so many seconds."""
        self.happened: dict[FaultKind, int] = {}
        self._chance = random.Random(seed)

    def strike(self, method: str, path: str) -> list[Fault]:
        """The faults that happen to this call."""
        if not self.faults:
            return []
        now, call = self.clock.now(), f"{method} {path}"
        struck = [
            fault
            for fault in self.faults
            if fault.start <= now < fault.end
            and re.search(fault.route, call)
            and (fault.probability >= 1 or self._chance.random() < fault.probability)
        ]
        for fault in struck:
            self.happened[fault.kind] = self.happened.get(fault.kind, 0) + 1
        return struck

    def delay(self, fault: Fault) -> float:
        return fault.seconds + (self._chance.uniform(0, fault.jitter) if fault.jitter else 0.0)


class FaultyApp:
    """An ASGI application with faults around it.

    A dropped connection is, ``in_process``, the error an HTTP client would raise; behind a real server the answer
    breaks off, so that the server closes the connection.
    """

    def __init__(self, app: App, faults: Faults, in_process: bool = True) -> None:
        self._app = app
        self._faults = faults
        self._in_process = in_process

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        struck = self._faults.strike(scope["method"], scope["path"]) if scope["type"] == "http" else []
        for fault in struck:
            if fault.kind is FaultKind.LATENCY:
                await self._faults.clock.sleep(self._faults.delay(fault))
        kinds = {fault.kind: fault for fault in struck}
        kinds.pop(FaultKind.LATENCY, None)
        if not kinds:
            await self._app(scope, receive, send)
            return
        await self._fail(next(iter(kinds.values())), scope, receive, send)

    async def _fail(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        match fault.kind:
            case FaultKind.ERROR:
                await _answer(send, fault.status, b"<html><body><h1>Unicorn!</h1></body></html>", b"text/html")
            case FaultKind.THROTTLE:
                wait = [] if fault.retry_after is None else [(b"retry-after", b"%d" % math.ceil(fault.retry_after))]
                status = fault.status if fault.status in (403, 429) else 429
                body = b'{"message":"You have exceeded a secondary rate limit.","documentation_url":"","status":"429"}'
                await _answer(send, status, body, b"application/json; charset=utf-8", wait)
            case FaultKind.HANG:
                await self._faults.clock.sleep(self._faults.delay(fault) or 86_400)
                await self._drop(send)
            case FaultKind.DROP:
                await self._drop(send)
            case FaultKind.LOSE:
                await self._app(scope, receive, _ignore)
                await self._drop(send)
            case FaultKind.TRUNCATE | FaultKind.MALFORM:
                answer = _Held()
                await self._app(scope, receive, answer.send)
                await answer.spoil(send, cut=fault.kind is FaultKind.TRUNCATE)

    async def _drop(self, send: Send) -> None:
        if self._in_process:
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"65536")]})


class _Held:
    """An answer kept back, to be spoilt."""

    def __init__(self) -> None:
        self._start: Message = {}
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._body += message.get("body", b"")

    async def spoil(self, send: Send, *, cut: bool) -> None:
        """Half of the body, or a page of HTML in its place; an answer without a body stays as it is."""
        body = self._body
        if body:
            body = body[: len(body) // 2] if cut else b"<!DOCTYPE html><html>" + body[:20]
        headers = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
        if self._start["status"] not in (204, 304):
            headers.append((b"content-length", b"%d" % len(body)))
        await send({**self._start, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _ignore(_: Message) -> None:
    return


async def _answer(
    send: Send, status: int, body: bytes, kind: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), length, *headers]}
    )
    await send({"type": "http.response.body", "body": body})
