"""The latest events in memory, and the story of one runner or one job among them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from slurm_gha.observe.correlation import Correlation
from slurm_gha.observe.events import Event, RoundFinished

# Events kept: about 100 bytes to 1 KB each.
KEPT = 5000


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, and the runner and job that it concerns as far as that was known when it happened."""

    event: Event
    runner: str | None
    job_id: int | None


class History:
    """A listener that remembers the latest ``kept`` events; rounds are not worth remembering."""

    def __init__(self, kept: int = KEPT, correlation: Correlation | None = None) -> None:
        self._entries: deque[Entry] = deque(maxlen=kept)
        self._correlation = correlation or Correlation()

    def __call__(self, event: Event) -> None:
        """Remember one event."""
        told = self._correlation.learn(event)
        if isinstance(event, RoundFinished):
            return
        runner, job_id = told.get("runner"), told.get("job_id")
        self._entries.append(
            Entry(event, str(runner) if runner is not None else None, int(job_id) if job_id is not None else None)
        )

    def recent(self, limit: int) -> tuple[Event, ...]:
        """The latest events, latest first."""
        entries = reversed(self._entries)
        return tuple(entry.event for entry, _ in zip(entries, range(limit), strict=False))

    def of_runner(self, name: str) -> tuple[Event, ...]:
        """What happened to a runner, in order."""
        return tuple(entry.event for entry in self._entries if entry.runner == name)

    def of_job(self, job_id: int) -> tuple[Event, ...]:
        """What happened to a GitHub job and to the runners that were made for it or had it, in order."""
        runners = {entry.runner for entry in self._entries if entry.job_id == job_id and entry.runner is not None}
        return tuple(e.event for e in self._entries if e.job_id == job_id or e.runner in runners)
