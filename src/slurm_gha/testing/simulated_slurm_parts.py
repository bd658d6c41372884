"""What the simulated Slurm is made of: its faults, its nodes, and its jobs with their signals."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio

from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission


@dataclass(frozen=True, slots=True)
class Signals:
    """What Slurm tells a running script: ``warned`` is USR1 before the time limit, ``terminated`` is TERM."""

    warned: anyio.Event = field(default_factory=anyio.Event)
    terminated: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class Faults:
    """Knobs, to be turned at any time. Rates are probabilities for each command, times are seconds.

    ``down``: slurmctld does not run. ``latency``: least and most time that a command takes.
    ``lost_answers``: so many of the next submissions happen but are reported as unclear.
    ``lost_requests``: so many of the next submissions do not happen and are reported as unclear.
    ``appear_delay``: how long a new job is missing from every listing.
    ``refusals``: words with which submissions are refused, by partition; ``None`` stands for every partition.
    ``hold_next``: so many of the next submitted jobs are held at once, with ``hold_reason``.
    """

    down: bool = False
    latency: tuple[float, float] = (0.01, 0.05)
    unreachable_rate: float = 0.0
    lost_answer_rate: float = 0.0
    lost_answers: int = 0
    lost_requests: int = 0
    appear_delay: float = 0.0
    refusals: dict[str | None, str] = field(default_factory=dict)
    hold_next: int = 0
    hold_reason: str = "launch_failed_requeued_held"


@dataclass(slots=True, eq=False)
class SimulatedNode:
    name: str
    cpus: int
    memory_mb: int
    up: bool = True


@dataclass(slots=True, eq=False)
class SimulatedJob:
    id: int
    submission: Submission
    submitted_at: float
    tier: int
    state: str = "PENDING"
    reason: str = "None"
    node: SimulatedNode | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: str = "0:0"
    ending_as: str | None = None
    shown_as: str | None = None
    signals: Signals = field(default_factory=Signals)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    def view(self) -> SlurmJob:
        return SlurmJob(
            id=self.id,
            name=self.submission.name,
            state=self.shown_as or self.state,
            reason="" if self.reason == "None" else self.reason,
            submitted_at=self.submitted_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
            node=self.node.name if self.node is not None and self.started_at is not None else "",
            exit_code=self.exit_code if self.ended else "",
            comment=self.submission.comment,
        )
