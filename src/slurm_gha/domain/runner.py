"""A runner: the journal's record of it, its Slurm job, its GitHub registration; the phase follows from the three."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.domain.labels import Labels
from slurm_gha.domain.pool import Handover
from slurm_gha.domain.slurm import SlurmJob, SlurmStage

INSTALLATION_PATTERN = re.compile(r"[a-z0-9]{2,16}")
POOL_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")


class Phase(StrEnum):
    SUBMITTED = "submitted"
    PENDING = "pending"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ENDED = "ended"


def name_prefix(installation: str) -> str:
    """How every name of this installation begins; an installation id holds no hyphen, so no prefix contains another."""
    return f"sg-{installation}-"


def runner_name(installation: str, pool: str, suffix: str) -> str:
    """The one name a runner has in the journal, in Slurm and on GitHub (at most 64 characters, GitHub's limit)."""
    return f"{name_prefix(installation)}{pool}-{suffix}"


@dataclass(frozen=True, slots=True)
class Registration:
    """A runner as GitHub lists it."""

    id: int
    name: str
    online: bool
    busy: bool
    labels: Labels = frozenset()


@dataclass(frozen=True, slots=True)
class RunnerRecord:
    """What the journal knows of an open runner: facts with their times (seconds since the epoch), no state word.

    ``job_id`` is a hint only: GitHub may give the runner another job. ``minted_at`` is when the JIT
    configuration was made, ``claimed_at`` when a started Slurm job asked for it. ``busy_at`` is when the
    runner was first seen to have a job, ``finished_at`` when the node said that its runner has ended.
    ``scale_set``: it is (to be) registered through its pool's scale set, and takes jobs of that one only.
    """

    name: str
    scope: str
    pool: str
    labels: Labels
    handover: Handover
    intended_at: float
    scale_set: bool = False
    job_id: int | None = None
    repository: str | None = None
    slurm_id: int | None = None
    submitted_at: float | None = None
    claimed_at: float | None = None
    minted_at: float | None = None
    registration_id: int | None = None
    online_at: float | None = None
    busy_at: float | None = None
    finished_at: float | None = None
    withdrawn_at: float | None = None
    withdrawn_because: str | None = None
    deregistered_at: float | None = None


@dataclass(frozen=True, slots=True)
class Runner:
    """One runner and what was last seen of it; ``taken_job`` is the in-progress job that names it, if one does."""

    record: RunnerRecord
    slurm: SlurmJob | None = None
    registration: Registration | None = None
    taken_job: int | None = None

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def phase(self) -> Phase:
        return phase(self)


def phase(runner: Runner) -> Phase:
    """The stage of a runner, derived from its record, its Slurm job and its registration."""
    record, slurm, registration = runner.record, runner.slurm, runner.registration
    if slurm is not None and slurm.stage is SlurmStage.ENDED:
        return Phase.ENDED
    if runner.taken_job is not None or (registration is not None and registration.busy):
        return Phase.BUSY
    if record.finished_at is not None or (slurm is not None and slurm.stage is SlurmStage.ENDING):
        return Phase.ENDED
    if record.busy_at is not None:
        return Phase.BUSY
    if registration is not None and registration.online:
        return Phase.IDLE
    if record.claimed_at is not None or (slurm is not None and slurm.stage is SlurmStage.RUNNING):
        return Phase.STARTING
    if slurm is None:
        return Phase.SUBMITTED
    return Phase.PENDING
