"""What the scale-set service keeps. Times are seconds since the epoch; records are changed by their owner alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import anyio

from slurm_gha.domain.labels import Labels
from slurm_gha.testing.github.values import Organisation, SimJob, SimRunner

Item = Mapping[str, Any]
"""One event of a message, as it is written."""


class ClaimState(StrEnum):
    """WAITING: for room or time, of no scale set yet. AVAILABLE: announced, to be acquired. ASSIGNED: for a runner."""

    WAITING = "waiting"
    AVAILABLE = "available"
    ASSIGNED = "assigned"
    RUNNING = "running"


@dataclass(slots=True, eq=False)
class Claim:
    """A job that is for scale sets alone. ``refused`` counts how often no runner took it in time."""

    job: SimJob
    request_id: int
    state: ClaimState = ClaimState.WAITING
    scale_set: ScaleSet | None = None
    since: float = 0.0
    not_before: float = 0.0
    refused: int = 0
    assigned_at: float | None = None
    completion_told: bool = False


@dataclass(frozen=True, slots=True)
class Statistics:
    """A scale set in numbers: ``assigned`` are waiting and running ones together."""

    available: int = 0
    acquired: int = 0
    assigned: int = 0
    running: int = 0
    registered: int = 0
    busy: int = 0
    idle: int = 0


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message that is not acknowledged yet; with no items it tells of statistics alone."""

    id: int
    items: tuple[Item, ...]


@dataclass(slots=True, eq=False)
class QueueSession:
    """The one reader that a scale set's queue may have. ``polling`` is how many polls are open."""

    id: str
    owner_name: str
    scale_set: ScaleSet
    tenant: str
    opened_at: float
    seen_at: float
    polling: int = 0
    refreshed: int = 0


@dataclass(slots=True, eq=False)
class ScaleSet:
    """A runner scale set. ``scope`` is as a runner's.

    ``capacity`` is what the session last said (None: nothing, so no limit); ``capacities`` is all it ever said, by
    time. ``items`` are not in a message yet; ``messages`` are those not acknowledged, by id, oldest first.
    """

    id: int
    scope: str
    owner: Organisation
    name: str
    group_id: int
    labels: tuple[str, ...]
    offered: Labels
    disable_update: bool
    created_at: float
    left_at: float | None
    session: QueueSession | None = None
    polled: bool = False
    capacity: int | None = None
    capacities: list[tuple[float, int | None]] = field(default_factory=list, repr=False)
    claims: dict[int, Claim] = field(default_factory=dict, repr=False)
    runners: dict[int, SimRunner] = field(default_factory=dict, repr=False)
    items: deque[Item] = field(default_factory=deque, repr=False)
    messages: dict[int, QueueMessage] = field(default_factory=dict, repr=False)
    told: Statistics | None = None
    news: anyio.Event = field(default_factory=anyio.Event, repr=False)

    @property
    def group_name(self) -> str:
        return self.owner.groups.get(self.group_id, "")

    def wake(self) -> None:
        """Something is there for the session's long poll."""
        self.news.set()
        self.news = anyio.Event()
