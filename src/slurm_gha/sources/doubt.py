"""The source of second looks: hints at what is believed of jobs by scopes that are pushed to, and not confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.hint import Hint

# Between two thoughts, and between two hints at the same run (seconds).
PERIOD = 5.0
SPACING = 60.0


class DoubtSource:
    """``doubts`` gives what is in doubt now; each run is hinted at again only after a while."""

    def __init__(self, doubts: Callable[[float], Iterable[Hint]], clock: Clock) -> None:
        self._doubts = doubts
        self._clock = clock
        self._hinted: dict[Hint, float] = {}

    async def run(self, nudge: Callable[[Hint], None]) -> None:
        """Hint until cancelled."""
        while True:
            await self._clock.sleep(PERIOD)
            self.think(nudge)

    def think(self, nudge: Callable[[Hint], None]) -> None:
        """Hint once at all that is in doubt."""
        now = self._clock.now()
        self._hinted = {hint: at for hint, at in self._hinted.items() if 0 <= now - at < SPACING}
        for hint in self._doubts(now):
            if hint not in self._hinted:
                self._hinted[hint] = now
                nudge(hint)
