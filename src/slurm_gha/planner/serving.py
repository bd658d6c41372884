"""Which pools may serve which job, by a runner of which labels and request, and why no pool can. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from slurm_gha.domain.job import Job
from slurm_gha.domain.labels import Labels, satisfies
from slurm_gha.domain.pool import Policy, Pool, SlurmRequest
from slurm_gha.planner.matching import Want


@dataclass(frozen=True, slots=True)
class Option:
    """A new runner that would serve a job: of ``pool``, with these labels and this request."""

    pool: Pool
    labels: Labels
    request: SlurmRequest


class Serving:
    """Answers for one policy, remembered by what jobs have in common."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._options: dict[tuple[str, Want], tuple[Option, ...]] = {}

    def want(self, job: Job) -> Want:
        """What the job wants of a runner."""
        return Want(job.labels, job.scale_set)

    def options(self, job: Job) -> tuple[Option, ...]:
        """The ways to serve a job, in the order of the pools."""
        want = self.want(job)
        key = (job.scope, want)
        if key not in self._options:
            found = (self._option(pool, want) for pool in self._policy.pools if job.scope in pool.scopes)
            self._options[key] = tuple(option for option in found if option is not None)
        return self._options[key]

    def obstacle(self, job: Job) -> str:
        """Why no pool can serve it: the labels that stand in the way, named against the pool that comes closest."""
        serving = [pool for pool in self._policy.pools if job.scope in pool.scopes]
        if not serving:
            return f"no pool serves scope {job.scope}"
        if not job.labels:
            return "it asks for no label, only for a runner group, and GitHub does not tell which"
        closest = min(serving, key=lambda pool: (len(job.labels - pool.labels), pool.name))
        missing = ", ".join(sorted(job.labels - closest.labels))
        return f"no pool has all of its labels (the closest, {closest.name}, lacks: {missing})"

    def _option(self, pool: Pool, want: Want) -> Option | None:
        if want.scale_set is not None:
            return Option(pool, pool.labels, pool.request) if pool.name == want.scale_set else None
        if pool.name in want.refused_by or not satisfies(pool.labels, want.labels):
            return None
        return Option(pool, pool.labels, pool.request)
