"""A Slurm job, as last listed, and what its state means for a runner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SlurmStage(StrEnum):
    """What a Slurm state means here. UNKNOWN is a state this version has never heard of: it is left alone."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"


_PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD", "POWER_UP_NODE"})
_HELD = frozenset({"REQUEUE_HOLD", "SPECIAL_EXIT"})
_RUNNING = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"})
_ENDING = frozenset({"COMPLETING", "STAGE_OUT"})
_ENDED = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "OUT_OF_MEMORY",
        "BOOT_FAIL",
        "DEADLINE",
        "REVOKED",
        "LAUNCH_FAILED",
        "RECONFIG_FAIL",
        "EXPEDITING_FAIL",
        "GONE",
    }
)
# A pending job with one of these reasons waits for a person, not for resources.
_HELD_REASONS = frozenset({"JobHeldAdmin", "JobHeldUser", "launch_failed_requeued_held", "BadConstraints"})


def stage_of(state: str, reason: str = "") -> SlurmStage:
    """The stage of a Slurm state word (``squeue %T``, ``sacct State``) and its reason (``%r``).

    Source: the job state codes of squeue(1); ``CANCELLED by UID`` is matched by its first word.
    """
    word = state.strip().split(" ", 1)[0].rstrip("+").upper()
    if word in _PENDING:
        held = reason.split(":", 1)[0].strip().replace(" ", "_") in _HELD_REASONS
        return SlurmStage.HELD if held else SlurmStage.PENDING
    for words, stage in (
        (_HELD, SlurmStage.HELD),
        (_RUNNING, SlurmStage.RUNNING),
        (_ENDING, SlurmStage.ENDING),
        (_ENDED, SlurmStage.ENDED),
    ):
        if word in words:
            return stage
    return SlurmStage.UNKNOWN


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One of our Slurm jobs. Times are seconds since the epoch; ``state`` is Slurm's own word.

    ``GONE`` is our own word for a job that Slurm no longer knows at all.
    """

    id: int
    name: str
    state: str
    reason: str = ""
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    node: str = ""
    exit_code: str = ""
    comment: str = ""

    @property
    def stage(self) -> SlurmStage:
        return stage_of(self.state, self.reason)
