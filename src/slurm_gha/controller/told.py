"""Listings, looks at single runs and unasked news of jobs, made one. Pure: no clock, no I/O.

A reading that began some time after a word came overrules it, both ways; until then the job is where the one of the
two has it that is further along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.told import Told, rank
from slurm_gha.planner.verdicts import LISTING_LAG, UNIDENTIFIED_JOB

# How long a word of a job's end is kept where no reading settles it: by then, no reading is under way that could still
# show the job (seconds).
END_KEPT = 900.0
# By then GitHub has delivered what it delivers at once; later news may be of the past (seconds).
LATE = 60.0


@dataclass(frozen=True, slots=True)
class RunReading:
    """The jobs of one run that were queued or in progress, and when that reading began."""

    began: float
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of one repository: the listing, when it began (None: never), and looks at single runs by id."""

    listed: tuple[Job, ...] = ()
    listed_at: float | None = None
    runs: Mapping[int, RunReading] | None = None

    def reading(self, run_id: int) -> float | None:
        """When the newest reading began that would show the run's jobs."""
        run = (self.runs or {}).get(run_id)
        times = [at for at in (self.listed_at, run.began if run is not None else None) if at is not None]
        return max(times, default=None)

    def overrules(self, told: Told) -> bool:
        """Whether something read later settles the matter. What a late word tells of, no reading lags behind."""
        at = self.reading(told.job.run_id)
        return at is not None and (at >= told.at if told.late else at > told.at + LISTING_LAG)


def read_jobs(seen: Seen) -> dict[int, Job]:
    """The jobs by id as they were read: a look at a run stands for the listing's word on it, if it began later."""
    jobs = {job.id: job for job in seen.listed}
    for run_id, run in (seen.runs or {}).items():
        if seen.listed_at is None or run.began > seen.listed_at:
            jobs = {number: job for number, job in jobs.items() if job.run_id != run_id}
            jobs |= {job.id: job for job in run.jobs}
    return jobs


def merged(seen: Seen, told: Iterable[Told]) -> tuple[Job, ...]:
    """A repository's queued and in-progress jobs, from what was read and what was told of it."""
    jobs = read_jobs(seen)
    for word in told:
        if not seen.overrules(word):
            _apply(jobs, word)
    return tuple(jobs[number] for number in sorted(jobs))


def _apply(jobs: dict[int, Job], word: Told) -> None:
    job, known = word.job, jobs.get(word.job.id)
    if job.status is JobStatus.COMPLETED:
        jobs.pop(job.id, None)
    elif known is not None:
        if word.rank > rank(known.status):
            jobs[job.id] = replace(job, origin=known.origin or job.origin, scale_set=known.scale_set or job.scale_set)
        elif known.origin is None:
            jobs[job.id] = replace(known, origin=job.origin)
    elif job.status is JobStatus.IN_PROGRESS or (job.status is JobStatus.QUEUED and not word.late):
        jobs[job.id] = job


def is_late(job: Job, now: float, read_at: float | None) -> bool:
    """Whether a word on a job comes too late to be trusted by itself: it is old, or a reading has been made since.

    ``read_at``: when the newest reading of the job's run began. Times are seconds since the epoch.
    """
    happened = max(job.created_at, job.started_at or 0.0, job.completed_at or 0.0)
    return now - happened > LATE or (read_at is not None and read_at > happened + LISTING_LAG)


def furthest(known: Told | None, news: Told) -> Told:
    """Of two words on one job, the one that is further along; of equal ones the first, as the second tells nothing."""
    return news if known is None or news.rank > known.rank else known


def settled(seen: Seen, word: Told, now: float) -> bool:
    """Whether a word can be forgotten: overruled, or of an end that nothing read contradicts any more."""
    if seen.overrules(word):
        return True
    ended = word.job.status is JobStatus.COMPLETED
    return ended and now - word.at > END_KEPT and word.job.id not in read_jobs(seen)


def takers(told: Iterable[Told], now: float) -> dict[str, int]:
    """Jobs that have just ended, by the runner they had: it is known what it was busy with."""
    return {
        word.job.runner_name: word.job.id
        for word in told
        if word.job.status is JobStatus.COMPLETED
        and word.job.runner_name is not None
        and now - word.at < UNIDENTIFIED_JOB
    }
