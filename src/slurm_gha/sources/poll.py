"""The source that needs nothing but outgoing HTTPS: it says "look again" at a pace that fits the work."""

from __future__ import annotations

from collections.abc import Callable, Collection

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.hint import Hint


def next_interval(
    now: float,
    active_at: float | None,
    *,
    busy_interval: float,
    idle_interval: float,
    linger: float,
) -> float:
    """Seconds from one look at a scope to the next.

    ``active_at``: when there last was work (None: never); within ``linger`` seconds of it the interval is the busy one.
    """
    lately = active_at is not None and 0 <= now - active_at <= linger
    return busy_interval if lately else idle_interval


class PollSource:
    """Hints at each scope in turn, quickly while there is work or there was lately, slowly when idle.

    ``active`` tells whether there is work now. Intervals and ``linger`` are seconds. What is read at a look is not its
    concern: where a token's pace does not allow to read all of a scope, the controller chooses.

    Losing time (a suspended machine, a clock set back) never makes it hint more often than it should.
    """

    def __init__(
        self,
        scopes: Collection[str],
        clock: Clock,
        *,
        busy_interval: float,
        idle_interval: float,
        linger: float,
        active: Callable[[], bool],
    ) -> None:
        if not 0 < busy_interval <= idle_interval or linger < 0:
            raise ValueError("poll intervals must hold 0 < busy <= idle, and linger must not be negative")
        self._scopes = scopes
        self._clock = clock
        self._busy_interval = busy_interval
        self._idle_interval = idle_interval
        self._linger = linger
        self._active = active
        self._active_at: float | None = None

    async def run(self, nudge: Callable[[Hint], None]) -> None:
        """Hint until cancelled: every scope at once in the beginning, then each at its own time."""
        async with anyio.create_task_group() as group:
            for position, scope in enumerate(self._scopes):
                group.start_soon(self._watch, scope, self._busy_interval * position / len(self._scopes), nudge)

    def interval(self) -> float:
        """Seconds between two looks at a scope, as things stand."""
        now = self._clock.now()
        if self._active():
            self._active_at = now
        return next_interval(
            now,
            self._active_at,
            busy_interval=self._busy_interval,
            idle_interval=self._idle_interval,
            linger=self._linger,
        )

    async def _watch(self, scope: str, offset: float, nudge: Callable[[Hint], None]) -> None:
        nudge(Hint(scope))
        waited = -offset  # scopes are spread over the interval from the second look on
        while True:
            # Waiting in short stretches: when work turns up, the interval that is under way shortens.
            left = self.interval() - waited
            if left < 0.001:
                nudge(Hint(scope))
                waited = 0.0
                continue
            stretch = min(left, self._busy_interval)
            await self._clock.sleep(stretch)
            waited += stretch
