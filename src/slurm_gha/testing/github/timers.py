"""Things that happen by themselves when their time has come, looked at whenever somebody looks at the service."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Timers:
    """Actions by time (seconds since the epoch). An action checks for itself whether it still applies."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (time, next(self._order), action))

    def next(self) -> float | None:
        """When something is due next."""
        return self._heap[0][0] if self._heap else None

    def run(self, now: float) -> None:
        """Do all that is due, in order of time."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
