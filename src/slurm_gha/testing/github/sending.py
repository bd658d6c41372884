"""Sending webhooks: what is due, in order of time, over an HTTP client of the caller's choice.

:class:`Sender` sends in the running event loop, so also under virtual time; :class:`SenderThread` over real sockets,
beside tests that drive the simulated GitHub from a thread of their own.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

import anyio
import httpx2

from slurm_gha.domain.clock import Clock

PATIENCE = 10.0
"""Seconds that GitHub waits for an answer."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One request to make at ``due`` (seconds since the epoch). ``fails``: it never gets there."""

    due: float
    hook_id: int
    guid: str
    url: str
    event: str
    action: str | None
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    repository_id: int | None = None
    installation_id: int | None = None
    redelivery: bool = False
    fails: bool = False


@dataclass(frozen=True, slots=True)
class Attempted:
    """What became of a request: GitHub's word and code for it, and how long it took (seconds)."""

    at: float
    status: str
    status_code: int
    duration: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    payload: str = ""


class Outbox:
    """What is to be sent. ``done`` hears of each try. Any thread may put something in."""

    def __init__(self, done: Callable[[Sending, Attempted], None]) -> None:
        self.done = done
        self.wakers: list[Callable[[], None]] = []
        self.unfinished = 0
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Sending]] = []
        self._order = itertools.count()

    def put(self, sending: Sending) -> None:
        with self._lock:
            heapq.heappush(self._heap, (sending.due, next(self._order), sending))
            self.unfinished += 1
        for waker in tuple(self.wakers):
            waker()

    def take(self, now: float) -> list[Sending]:
        """All that is due."""
        found = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                found.append(heapq.heappop(self._heap)[2])
        return found

    def next_due(self) -> float | None:
        with self._lock:
            return self._heap[0][0] if self._heap else None

    def finish(self, sending: Sending, attempted: Attempted) -> None:
        with self._lock:
            self.unfinished -= 1
        self.done(sending, attempted)


class Sender:
    """Sends in the running event loop."""

    def __init__(self, outbox: Outbox, client: httpx2.AsyncClient, clock: Clock) -> None:
        self._outbox = outbox
        self._client = client
        self._clock = clock
        self._woken = anyio.Event()
        outbox.wakers.append(lambda: self._woken.set())

    async def run(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                self._woken = anyio.Event()
                for sending in self._outbox.take(self._clock.now()):
                    group.start_soon(self._send, sending)
                due = self._outbox.next_due()
                with anyio.move_on_after(float("inf") if due is None else max(0.001, due - self._clock.now())):
                    await self._woken.wait()

    async def _send(self, sending: Sending) -> None:
        began = self._clock.now()
        attempted = Attempted(began, "timed out", 504, PATIENCE)
        if sending.fails:
            attempted = Attempted(began, "failed to connect to host", 502)
        else:
            try:
                with anyio.move_on_after(PATIENCE):
                    answer = await self._client.post(sending.url, content=sending.body, headers=_headers(sending))
                    attempted = _answered(began, self._clock.now() - began, answer)
            except httpx2.HTTPError:
                attempted = Attempted(began, "failed to connect to host", 502)
        self._outbox.finish(sending, attempted)


class SenderThread:
    """A context manager: sends over real sockets, several at the same time."""

    def __init__(self, outbox: Outbox, clock: Clock, *, at_once: int = 8) -> None:
        self._outbox = outbox
        self._clock = clock
        self._wake = threading.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="simulated-webhooks")
        self._client = httpx2.Client(timeout=PATIENCE)
        self._thread = threading.Thread(target=self._run, name="simulated-webhooks", daemon=True)
        outbox.wakers.append(self._wake.set)

    def __enter__(self) -> SenderThread:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._wake.set()
        self._thread.join(PATIENCE + 1)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._client.close()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            for sending in self._outbox.take(self._clock.now()):
                self._pool.submit(self._send, sending)
            due = self._outbox.next_due()
            self._wake.wait(None if due is None else max(0.001, due - self._clock.now()))

    def _send(self, sending: Sending) -> None:
        at, began = self._clock.now(), time.monotonic()
        if sending.fails:
            attempted = Attempted(at, "failed to connect to host", 502)
        else:
            try:
                answer = self._client.post(sending.url, content=sending.body, headers=_headers(sending))
                attempted = _answered(at, time.monotonic() - began, answer)
            except httpx2.HTTPError:
                attempted = Attempted(at, "failed to connect to host", 502, time.monotonic() - began)
        self._outbox.finish(sending, attempted)


def _headers(sending: Sending) -> dict[str, str]:
    return {**sending.headers, "x-github-delivery": sending.guid}


def _answered(at: float, duration: float, answer: httpx2.Response) -> Attempted:
    word = "OK" if answer.is_success else f"Invalid HTTP Response: {answer.status_code}"
    return Attempted(at, word, answer.status_code, duration, dict(answer.headers), answer.text[:1000])
