"""A GitHub workflow job, as last read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.domain.labels import Labels


class JobStatus(StrEnum):
    """GitHub's ``workflow_job`` status; a word GitHub invents later reads as UNKNOWN."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    WAITING = "waiting"
    REQUESTED = "requested"
    PENDING = "pending"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> JobStatus:
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class Job:
    """One workflow job. Times are seconds since the epoch."""

    id: int
    scope: str
    repository: str
    run_id: int
    run_attempt: int
    name: str
    workflow: str
    labels: Labels
    status: JobStatus
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    conclusion: str | None = None
    runner_id: int | None = None
    runner_name: str | None = None
