"""Whether Slurm and GitHub could be read lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slurm_gha.domain.world import ScopeView, SlurmView

RECENT = 180.0
"""Seconds for which a good reading counts, unless told otherwise."""
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Reading:
    """The last good reading of one source (seconds since the epoch, None if there was none), and the latest error.

    ``recent``: seconds for which this one counts, if not as long as the others.
    """

    source: str
    at: float | None
    error: str | None = None
    recent: float | None = None
    slack: float = 0.0
    """Seconds by which it may be older than others: a large scope is read in turns."""


@dataclass(frozen=True, slots=True)
class Health:
    """All readings as of ``now``. A single failure is no problem as long as a good reading is recent."""

    now: float
    readings: tuple[Reading, ...]
    recent: float = RECENT

    @classmethod
    def of(
        cls,
        slurm: SlurmView,
        scopes: Mapping[str, ScopeView],
        now: float,
        *,
        recent: float = RECENT,
        slower: Mapping[str, float] | None = None,
    ) -> Health:
        """The health that a controller's view of the world amounts to.

        ``recent`` has to be longer than the longest interval between two looks; ``slower`` gives it for scopes that
        are looked at less often, as GitHub brings news of them by itself.
        """
        longer = {name: max(recent, seconds) for name, seconds in (slower or {}).items()}
        readings = [Reading("Slurm", slurm.at, slurm.error)]
        for name, view in sorted(scopes.items()):
            given, slack = longer.get(name), view.round_seconds
            readings.append(Reading(f"jobs of GitHub scope {name}", view.jobs_at, view.jobs_error, given, slack))
            readings.append(Reading(f"runners of GitHub scope {name}", view.runners_at, view.runners_error, given))
        return cls(now, tuple(readings), recent)

    @property
    def ready(self) -> bool:
        return not self.problems()

    def problems(self) -> tuple[str, ...]:
        """One line for each source that could not be read lately; empty if all is well."""
        return tuple(line for reading in self.readings if (line := self._problem(reading)) is not None)

    def _problem(self, reading: Reading) -> str | None:
        recent = self.recent if reading.recent is None else reading.recent
        if reading.at is not None and self.now - reading.at <= recent + reading.slack:
            return None
        since = "never read yet" if reading.at is None else f"not read for {self.now - reading.at:.0f} s"
        because = f": {_clean(reading.error)}" if reading.error else ""
        return f"{reading.source}: {since}{because}"


def _clean(text: str) -> str:
    """Foreign text on one line of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST]
