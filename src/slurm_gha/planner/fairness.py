"""Whose job comes next: that of the scope, and in it of the repository, that has the fewest runners for its weight.

Jobs of one repository go oldest first. So that nobody waits for ever, however many newcomers there are with nothing
yet, every so many runners of a pool one goes to its oldest job, whosever it is. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from slurm_gha.domain.job import Job
from slurm_gha.domain.pool import Policy
from slurm_gha.planner.census import Census, Held
from slurm_gha.planner.matching import job_order
from slurm_gha.planner.serving import Option

# Of so many runners that a pool starts, one goes to its oldest job.
ELDERS_TURN = 8

_Order = tuple[float, int]


@dataclass(slots=True, eq=False)
class Kind:
    """Jobs that admission treats alike. ``held``: what keeps them back for the rest of the round.

    Room only shrinks within a round: what is held stays so.
    """

    scope: str
    repository: str
    options: tuple[Option, ...]
    held: Held | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """A job that waits for admission; ``settled``: it has been admitted."""

    job: Job
    kind: Kind
    settled: bool = False

    @property
    def waits(self) -> bool:
        return not self.settled and self.kind.held is None


@dataclass(slots=True, eq=False)
class _Repository:
    name: str
    entries: list[Entry] = field(default_factory=list)
    place: int = 0

    def first(self) -> Entry | None:
        """The oldest that still waits."""
        while self.place < len(self.entries):
            if self.entries[self.place].waits:
                return self.entries[self.place]
            self.place += 1
        return None


@dataclass(slots=True, eq=False)
class _Scope:
    """``heap``: its repositories by (runners, their first job's order, name); keys only grow, and may lag behind."""

    heap: list[tuple[int, _Order, str]]
    repositories: dict[str, _Repository]


class FairOrder:
    """Answers whose turn it is, from what the census counts by then. ``entries`` are in order of age."""

    def __init__(self, entries: Sequence[Entry], census: Census, policy: Policy) -> None:
        self._entries = entries
        self._census = census
        self._elders: dict[str, Iterator[Entry]] = {}
        self._scopes: dict[str, _Scope] = {}
        for entry in entries:
            scope = self._scopes.setdefault(entry.job.scope, _Scope([], {}))
            name = entry.job.repository.lower()
            scope.repositories.setdefault(name, _Repository(name)).entries.append(entry)
        self._weights = {name: policy.share_of(name).weight for name in self._scopes}
        for name, scope in self._scopes.items():
            scope.heap = [
                (census.of_repository(name, r.name), job_order(r.entries[0].job), r.name)
                for r in scope.repositories.values()
            ]
            heapify(scope.heap)
        self._heap = [(self._load(name), scope.heap[0][1], name) for name, scope in self._scopes.items()]
        heapify(self._heap)

    def next(self) -> Entry | None:
        """Whose turn it is; the same again until it is settled or held."""
        while self._heap:
            _, _, name = key = self._heap[0]
            entry = self._first_of(name)
            if entry is None:
                heappop(self._heap)
                continue
            present = (self._load(name), job_order(entry.job), name)
            if present == key:
                return entry
            heappop(self._heap)
            heappush(self._heap, present)
        return None

    def elder(self, pool: str) -> Entry | None:
        """The oldest that still waits and that the pool may serve; the next one if that is settled or held by then."""
        if pool not in self._elders:
            able = (entry for entry in self._entries if any(o.pool.name == pool for o in entry.kind.options))
            self._elders[pool] = able
        for entry in self._elders[pool]:
            if entry.waits:
                return entry
        return None

    def _load(self, scope: str) -> float:
        return self._census.of_scope(scope) / self._weights[scope]

    def _first_of(self, name: str) -> Entry | None:
        scope = self._scopes[name]
        while scope.heap:
            _, _, repository = key = scope.heap[0]
            entry = scope.repositories[repository].first()
            if entry is None:
                heappop(scope.heap)
                continue
            present = (self._census.of_repository(name, repository), job_order(entry.job), repository)
            if present == key:
                return entry
            heappop(scope.heap)
            heappush(scope.heap, present)
        return None
