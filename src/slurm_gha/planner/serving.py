"""Which pools may serve which job, by a runner of which labels and request, and why no pool can. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slurm_gha.domain import resources
from slurm_gha.domain.job import Job
from slurm_gha.domain.labels import Labels, satisfies
from slurm_gha.domain.pool import Policy, Pool, SlurmRequest
from slurm_gha.domain.resources import Reading
from slurm_gha.planner.actions import Obstacle
from slurm_gha.planner.matching import Want
from slurm_gha.planner.sizing import size


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
        self._readings: dict[tuple[str, Labels], Reading] = {}

    def want(self, job: Job) -> Want:
        """What the job wants of a runner."""
        return Want(job.labels, job.scale_set)

    def options(self, job: Job) -> tuple[Option, ...]:
        """The ways to serve a job, in the order of the pools."""
        want = self.want(job)
        key = (job.scope, want)
        if key not in self._options:
            asked = self._reading(job.scope, want.labels)
            found = (self._option(pool, want, asked) for pool in self._policy.pools if job.scope in pool.scopes)
            self._options[key] = tuple(option for option in found if option is not None)
        return self._options[key]

    def obstacle(self, job: Job) -> tuple[Obstacle, str]:
        """Why no pool can serve it: the labels that stand in the way, named against the pool that comes closest."""
        serving = [pool for pool in self._policy.pools if job.scope in pool.scopes]
        if not serving:
            return Obstacle.LABELS, f"no pool serves scope {job.scope}"
        if not job.labels:
            return Obstacle.LABELS, "it asks for no label, only for a runner group, and GitHub does not tell which"
        asked = self._reading(job.scope, job.labels)
        if asked.labels:
            return _obstacle_to_size(job, asked, serving)
        return Obstacle.LABELS, f"no pool has all of its labels {_lacking(job.labels, serving)}"

    def _option(self, pool: Pool, want: Want, asked: Reading) -> Option | None:
        if want.scale_set is not None:
            return Option(pool, pool.labels, pool.request) if pool.name == want.scale_set else None
        if pool.name in want.refused_by:
            return None
        if satisfies(pool.labels, want.labels):
            return Option(pool, pool.labels, pool.request)
        if not asked.asks or asked.mistakes or not _takes(pool, want.labels, asked):
            return None
        sized = size(pool, asked.asks)
        return None if sized.beyond else Option(pool, pool.labels | asked.labels, sized.request)

    def _reading(self, scope: str, labels: Labels) -> Reading:
        """What the labels ask for; one that some pool of the scope has of its own is just a label."""
        key = (scope, labels)
        if key not in self._readings:
            own = frozenset[str]().union(*(pool.labels for pool in self._policy.pools if scope in pool.scopes))
            self._readings[key] = resources.read(labels - own)
        return self._readings[key]


def _takes(pool: Pool, labels: Labels, asked: Reading) -> bool:
    """Whether a pool lets jobs ask for resources, and has all the labels that ask for none."""
    return pool.dynamic is not None and labels - asked.labels <= pool.labels


def _obstacle_to_size(job: Job, asked: Reading, serving: Sequence[Pool]) -> tuple[Obstacle, str]:
    """Why nobody serves a job with resource labels."""
    if asked.mistakes:
        return Obstacle.MISSPELT, "; ".join(asked.mistakes)
    dynamic = [pool for pool in serving if pool.dynamic is not None]
    named = ", ".join(map(resources.shown, sorted(asked.labels)))
    if not dynamic:
        return Obstacle.LABELS, f"no pool lets jobs ask for resources by labels ({named})"
    others = job.labels - asked.labels
    beyond = [reason for pool in dynamic if _takes(pool, job.labels, asked) for reason in size(pool, asked.asks).beyond]
    if beyond:
        return Obstacle.BOUNDS, "; ".join(beyond)
    return Obstacle.LABELS, f"no pool that takes {named} has all of its other labels {_lacking(others, dynamic)}"


def _lacking(labels: Labels, pools: Sequence[Pool]) -> str:
    closest = min(pools, key=lambda pool: (len(labels - pool.labels), pool.name))
    missing = ", ".join(sorted(labels - closest.labels))
    return f"(the closest, {closest.name}, lacks: {missing})"
