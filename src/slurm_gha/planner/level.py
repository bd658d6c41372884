"""How many jobs a scale set has, and which: GitHub's count is the level, messages only give the jobs their names. Pure.

A message may be lost, come late or come twice; the count comes with every answer. So the jobs that the planner sees are
always as many as GitHub counted: those that no message named are there without a name, and those that the count denies
are not there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from slurm_gha.domain.labels import Labels
from slurm_gha.domain.scaleset import AssignedJob, Statistics

# A count that came this soon after a runner took its job may not hold that yet (seconds).
COUNT_LAG = 5.0


@dataclass(frozen=True, slots=True)
class Taker:
    """A runner of ours that has taken a job which no message has named, and since when (seconds since the epoch)."""

    name: str
    since: float


def level(
    known: Iterable[AssignedJob],
    statistics: Statistics,
    at: float,
    *,
    live: Collection[str],
    takers: Iterable[Taker] = (),
    labels: Labels = frozenset(),
    not_before: float = float("-inf"),
) -> tuple[AssignedJob, ...]:
    """The unfinished jobs, exactly ``statistics.assigned`` of them, those without ``started_at`` wanting a runner.

    ``at``: when the count was taken. ``live``: our runners that have not ended. ``takers``: see there; one that took
    its job after the count, and after ``not_before``, stands for a job that was waiting then. ``labels`` are those of
    jobs without a name.
    """
    jobs = sorted(known, key=lambda job: (job.queued_at, job.job_id))
    started = [job for job in jobs if job.started_at is not None]
    waiting = [job for job in jobs if job.started_at is None]
    alive = [job for job in started if job.runner_name in live]
    over = [job for job in started if job.runner_name not in live]
    # A job that runs on a live runner of ours runs, even where the count is not that far yet.
    running_count = min(statistics.assigned, max(statistics.running, len(alive)))
    waiting_count = statistics.assigned - running_count
    running = [*reversed(alive), *reversed(over)][:running_count]
    named = {job.runner_name for job in running}
    unnamed = sorted((taker for taker in takers if taker.name not in named), key=lambda t: (t.since, t.name))
    running = [
        replace(job, runner_name=unnamed.pop(0).name) if job.runner_name is None and unnamed else job for job in running
    ]
    # What runs without a name: first those that we take for waiting and that are too many, then nobody knows which.
    while len(running) < running_count:
        job = waiting.pop(0) if len(waiting) > waiting_count else _anonymous(len(running), "running", at, labels)
        running.append(_taken(job, unnamed.pop(0) if unnamed else None, at))
    # The oldest ones are dropped: what has come to its end unseen is among them.
    waiting = waiting[max(0, len(waiting) - waiting_count) :]
    waiting += [_anonymous(number, "waiting", at, labels) for number in range(waiting_count - len(waiting))]
    for taker in unnamed:
        if waiting and taker.since > max(at - COUNT_LAG, not_before):
            running.append(_taken(waiting.pop(0), taker, at))
    return tuple(sorted([*running, *waiting], key=lambda job: (job.queued_at, job.job_id)))


def _taken(job: AssignedJob, taker: Taker | None, at: float) -> AssignedJob:
    since, name = (at, None) if taker is None else (taker.since, taker.name)
    return replace(job, started_at=since, runner_name=name)


def _anonymous(number: int, what: str, at: float, labels: Labels) -> AssignedJob:
    """A job that GitHub counts and no message has named."""
    return AssignedJob(f"{what} {number + 1}, not named yet", "", "?", "", 0, None, labels, at)
