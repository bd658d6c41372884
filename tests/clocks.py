"""Clocks for tests that need no event loop."""

from __future__ import annotations


class SetClock:
    """A clock that stands until it is moved, in seconds since the epoch."""

    def __init__(self, time: float = 1_000_000.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
