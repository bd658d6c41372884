"""Which runner gets which job: any online idle runner with all of the job's labels, oldest job first.

Pure. The two questions are asked when a job is queued and when a runner becomes idle, so that at any other time no
waiting job fits any idle runner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from slurm_gha.domain.labels import Labels, satisfies


class Waiting(Protocol):
    @property
    def wanted(self) -> Labels: ...


class Offering(Protocol):
    @property
    def offered(self) -> Labels: ...


JobT = TypeVar("JobT", bound=Waiting)
RunnerT = TypeVar("RunnerT", bound=Offering)
Choose = Callable[[int], int]
"""Picks an index below a number: ``first`` always 0, or a seeded random choice, so that labels get stolen."""


def first(_: int) -> int:
    return 0


def runner_for(job: Waiting, idle: Iterable[RunnerT], choose: Choose = first) -> RunnerT | None:
    """The runner, of those idle (in order of preference), that a newly queued job goes to."""
    fitting = [runner for runner in idle if satisfies(runner.offered, job.wanted)]
    return fitting[choose(len(fitting))] if fitting else None


def job_for(runner: Offering, queued: Sequence[JobT], choose: Choose = first) -> JobT | None:
    """The job, of those queued (oldest first), that a runner gets when it becomes idle."""
    if choose is first:
        return next((job for job in queued if satisfies(runner.offered, job.wanted)), None)
    fitting = [job for job in queued if satisfies(runner.offered, job.wanted)]
    return fitting[choose(len(fitting))] if fitting else None
