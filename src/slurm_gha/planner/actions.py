"""What plan() may decide: frozen values, carried out by the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from slurm_gha.domain.allow import Ruling
from slurm_gha.domain.job import Job
from slurm_gha.domain.labels import Labels
from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.slurm import SlurmJob


@dataclass(frozen=True, slots=True)
class Submit:
    """One new runner of ``pool`` for ``scope``. ``job`` is the demand that caused it: a hint, no binding.

    ``labels`` and ``request`` are the runner's where they differ from the pool's own. ``scale_set``: it is registered
    through the pool's scale set.
    """

    pool: str
    scope: str
    job: Job | None = None
    labels: Labels | None = None
    request: SlurmRequest | None = None
    scale_set: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take a runner away, in order: deregister, then cancel. ``failure``: its pool is to back off."""

    name: str
    reason: str
    failure: bool = False


@dataclass(frozen=True, slots=True)
class Deregister:
    """Remove the registration of a runner whose Slurm job is over."""

    scope: str
    registration_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Close a runner's record: nothing of it is left anywhere. ``failure``: its pool is to back off."""

    name: str
    outcome: str
    detail: str = ""
    failure: bool = False


@dataclass(frozen=True, slots=True)
class CancelStray:
    """Cancel a pending Slurm job that carries our name but that the journal does not know."""

    slurm_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Open a record for a running Slurm job that carries our name but that the journal does not know."""

    slurm: SlurmJob


@dataclass(frozen=True, slots=True)
class Renew:
    """Mint the configuration of a pending runner again before it grows too old to be accepted."""

    name: str


Action = Submit | Withdraw | Deregister | Forget | CancelStray | Adopt | Renew


class Cause(StrEnum):
    """What keeps a job from getting a runner, in one word for counting. The limits: which of them is reached.

    LABELS: no pool has them all. MISSPELT: a resource label says nothing, or two contradict. BOUNDS: it asks for more
    than pools allow. REFUSED: every pool that has its labels refuses it. ORIGIN: what set its run going is not known
    yet.
    """

    LABELS = "labels"
    MISSPELT = "misspelt"
    BOUNDS = "bounds"
    REFUSED = "refused"
    ORIGIN = "origin"
    DRAINING = "draining"
    SLURM = "slurm"
    BACKOFF = "backoff"
    SERVICE_LIMIT = "service_limit"
    SCOPE_LIMIT = "scope_limit"
    REPOSITORY_LIMIT = "repository_limit"
    POOL_LIMIT = "pool_limit"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job and, in a sentence, why it waits. ``runner`` is the one counted on for it, if any.

    ``cause`` is None where it has a runner, or gets one now. ``ruling``: of the first pool that does not let it run,
    or does not know yet whether to, where no other pool may serve it.
    """

    job: Job
    reason: str
    runner: str | None = None
    unservable: bool = False
    cause: Cause | None = None
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions of one round. ``surplus_since`` and ``turns`` go into the next round's world."""

    actions: tuple[Action, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    surplus_since: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    turns: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
