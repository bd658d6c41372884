"""The frozen snapshot that plan() decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from slurm_gha.domain.job import Job
from slurm_gha.domain.runner import Registration, Runner
from slurm_gha.domain.slurm import SlurmJob


@dataclass(frozen=True, slots=True)
class ScopeView:
    """When a scope was last read without error. A time is when the reading *began*; None means never.

    ``jobs_error`` and ``runners_error`` tell why the latest reading failed; while one is set, what is known
    is old, and nothing is taken away because of it. ``queues``: the same for the scale set of each pool that has one;
    what is wrong with one of them is wrong with the scope, but touches no other pool's runners.

    Repositories of a large scope are read at different times. ``jobs_at`` is the oldest of these readings;
    ``repositories_at`` tells for repositories with queued jobs when they were read (the scope's time holds for others).
    ``round_seconds``: how old the oldest may get as things are; 0 where all are read at once.
    """

    name: str
    jobs_at: float | None = None
    runners_at: float | None = None
    jobs_error: str | None = None
    runners_error: str | None = None
    queues: Mapping[str, ScopeView] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    repositories_at: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    round_seconds: float = 0.0

    @property
    def jobs_readable(self) -> bool:
        return self.jobs_at is not None and self.jobs_error is None

    @property
    def runners_readable(self) -> bool:
        return self.runners_at is not None and self.runners_error is None

    def of(self, pool: str, *, scale_set: bool) -> ScopeView:
        """What counts for a pool's runners: those of a scale set hear of jobs by their queue alone."""
        return self.queues.get(pool, self) if scale_set else self


@dataclass(frozen=True, slots=True)
class SlurmView:
    """When Slurm was last listed without error (the listing's beginning), and why the latest try failed."""

    at: float | None = None
    error: str | None = None

    @property
    def readable(self) -> bool:
        return self.at is not None and self.error is None


class TroubleKind(StrEnum):
    """REFUSED: Slurm does not accept the pool's submissions. FAILING: runners end without ever coming online."""

    REFUSED = "refused"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A pool in back-off: no submission before ``until``; ``reason`` is in Slurm's or the node's own words.

    After ``until`` one runner at a time is tried, until the trouble is cleared: a refusal by the next accepted
    submission, a failing runner by the next one that comes online.
    """

    pool: str
    failures: int
    until: float
    reason: str
    kind: TroubleKind = TroubleKind.REFUSED


@dataclass(frozen=True, slots=True)
class OrphanRegistration:
    """A registration that carries our name but has no open record."""

    scope: str
    registration: Registration
    first_seen: float


@dataclass(frozen=True, slots=True)
class World:
    """Everything observed, at one moment.

    ``jobs``: jobs last seen queued or in progress. ``strays``: Slurm jobs with our name and no open record.
    ``surplus_since``: for runners that the previous round found unneeded, since when.
    ``last_tried``: when the withdrawal or deregistration of a name was last attempted.
    ``turns``: by pool, how many runners were started since one was for the pool's oldest job.
    ``draining``: no new runner is submitted; the rest goes on.
    """

    jobs: tuple[Job, ...] = ()
    runners: tuple[Runner, ...] = ()
    scopes: Mapping[str, ScopeView] = field(default_factory=lambda: MappingProxyType({}))
    slurm: SlurmView = SlurmView()
    strays: tuple[SlurmJob, ...] = ()
    orphans: tuple[OrphanRegistration, ...] = ()
    troubles: Mapping[str, Trouble] = field(default_factory=lambda: MappingProxyType({}))
    surplus_since: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    last_tried: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    draining: bool = False
    turns: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
