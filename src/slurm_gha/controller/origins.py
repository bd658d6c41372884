"""What set runs going, kept for jobs of which a scale set's messages do not tell it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.job import Job, Origin

# How long to wait for the origin of a run before it is asked for again (seconds).
ASK_AGAIN = 30.0
# How long an origin is kept after the last job that spoke of its run, for later jobs of that run (seconds).
KEPT = 3600.0
# Of more runs than this, those that no job has spoken of for longest are forgotten.
MOST = 10_000

Run = tuple[str, str, int]


def run_of(job: Job) -> Run:
    """What identifies a job's run: scope, repository and id."""
    return (job.scope, job.repository, job.run_id)


class Origins:
    """By run. A run's origin never changes, so one look at it is enough, however many jobs it has."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[Run, tuple[Origin, float]] = {}
        self._asked: dict[Run, float] = {}

    def learn(self, jobs: Iterable[Job]) -> None:
        """Keep what a reading of runs showed."""
        now = self._clock.now()
        for job in jobs:
            if job.origin is not None and job.run_id > 0:
                self._keep(run_of(job), job.origin, now)
        if len(self._known) > MOST:
            by_age = sorted(self._known.items(), key=lambda item: item[1][1])
            self._known = dict(by_age[len(by_age) - MOST // 2 :])

    def known(self, job: Job) -> Job:
        """The job with the origin of its run, where that has been read."""
        found = self._known.get(run_of(job))
        if found is None:
            return job
        self._keep(run_of(job), found[0], self._clock.now())
        return replace(job, origin=found[0])

    def due(self, run: Run) -> bool:
        """Whether to look at a run now. True once, and again only after a while."""
        now = self._clock.now()
        if now - self._asked.get(run, float("-inf")) < ASK_AGAIN:
            return False
        self._asked = {each: at for each, at in self._asked.items() if now - at < ASK_AGAIN}
        self._known = {each: known for each, known in self._known.items() if now - known[1] < KEPT}
        self._asked[run] = now
        return True

    def _keep(self, run: Run, origin: Origin, now: float) -> None:
        self._known[run] = (origin, now)
