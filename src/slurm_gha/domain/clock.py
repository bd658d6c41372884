"""The one clock and the one sleep, injected wherever time matters."""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """Wall-clock time in seconds since the epoch, and a way to let it pass."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))


class EventLoopClock:
    """The event loop's clock, shown as if the loop's time 0 were ``epoch``: virtual under a virtual loop clock."""

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch
        self._origin: float | None = None

    def now(self) -> float:
        if self._origin is None:
            self._origin = anyio.current_time()
        return self._epoch + anyio.current_time() - self._origin

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds))
