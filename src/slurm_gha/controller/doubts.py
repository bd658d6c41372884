"""What the next look should be at, where nobody polls every few seconds. Pure."""

from __future__ import annotations

from collections.abc import Collection

from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import JobStatus
from slurm_gha.domain.labels import satisfies
from slurm_gha.domain.world import World

# A runner that is busy for so long without any job naming it has one of which the news was lost (seconds).
UNNAMED = 8.0
# Runs looked at because of one runner.
MOST_RUNS = 5


def doubtful(world: World, scopes: Collection[str], now: float) -> list[Hint]:
    """Runs to look at, in scopes that are pushed to, because a runner's state and its job's do not go together."""
    return list(dict.fromkeys([*unnamed(world, scopes, now), *unfinished(world, scopes, now)]))


def unfinished(world: World, scopes: Collection[str], now: float) -> list[Hint]:
    """Runs of jobs that are believed to go on although their runner has ended."""
    jobs = {job.id: job for job in world.jobs if job.status is JobStatus.IN_PROGRESS and job.scope in scopes}
    found = []
    for runner in sorted(world.runners, key=lambda runner: runner.name):
        finished, job = runner.record.finished_at, jobs.get(runner.taken_job or 0)
        if job is not None and finished is not None and now - finished >= UNNAMED:
            found.append(Hint(job.scope, job.repository, job.run_id))
    return found


def unnamed(world: World, scopes: Collection[str], now: float) -> list[Hint]:
    """Runs of queued jobs one of which a busy runner has taken: a second runner for that job would be the harm."""
    hints: dict[Hint, None] = {}
    queued = sorted(
        (job for job in world.jobs if job.status is JobStatus.QUEUED and job.scope in scopes),
        key=lambda job: (job.created_at, job.id),
    )
    for runner in sorted(world.runners, key=lambda runner: runner.name):
        record = runner.record
        busy_at = record.busy_at
        if record.scope not in scopes or busy_at is None or runner.taken_job is not None or now - busy_at < UNNAMED:
            continue
        fitting = (
            job
            for job in queued
            if job.scope == record.scope and job.created_at <= busy_at + 1.0 and satisfies(record.labels, job.labels)
        )
        runs = dict.fromkeys(Hint(job.scope, job.repository, job.run_id) for job in fitting)
        hints.update(dict.fromkeys(list(runs)[:MOST_RUNS]))
    return list(hints)
