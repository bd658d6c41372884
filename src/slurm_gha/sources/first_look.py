"""The source for scopes that are not polled: one look that succeeds, to begin with, and none after that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.hint import Hint

# Between two tries (seconds).
RETRY = 30.0


class FirstLook:
    """Hints at each scope until ``read`` says that a look at it has succeeded."""

    def __init__(self, scopes: Sequence[str], read: Callable[[str], bool], clock: Clock) -> None:
        self._scopes = list(scopes)
        self._read = read
        self._clock = clock

    async def run(self, nudge: Callable[[Hint], None]) -> None:
        """Return once all scopes have been read."""
        waiting = self._scopes
        while waiting:
            for scope in waiting:
                nudge(Hint(scope))
            await self._clock.sleep(RETRY)
            waiting = [scope for scope in waiting if not self._read(scope)]
