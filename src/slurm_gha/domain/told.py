"""What GitHub told of a job by itself, unasked."""

from __future__ import annotations

from dataclasses import dataclass

from slurm_gha.domain.job import Job, JobStatus

_ORDER = {JobStatus.WAITING: 0, JobStatus.QUEUED: 1, JobStatus.IN_PROGRESS: 2, JobStatus.COMPLETED: 3}


def rank(status: JobStatus) -> int:
    """How far along a job is: a job never goes back, so the word that is further along is the newer one."""
    return _ORDER.get(status, 0)


@dataclass(frozen=True, slots=True)
class Told:
    """A job as it was told, and when that came (seconds since the epoch, by our clock).

    ``late``: long after it happened. Such a word says where to look, and not that the job is still queued.
    """

    job: Job
    at: float
    late: bool = False

    @property
    def rank(self) -> int:
        return rank(self.job.status)
