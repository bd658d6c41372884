"""Which pools may serve which job, by a runner of which labels and request, and why no pool can. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slurm_gha.domain import resources
from slurm_gha.domain.allow import ALLOWED, Allow, Answer, Ruling
from slurm_gha.domain.job import Job, Origin
from slurm_gha.domain.labels import Labels, satisfies
from slurm_gha.domain.pool import Policy, Pool, SlurmRequest
from slurm_gha.domain.resources import Reading
from slurm_gha.planner.actions import Cause
from slurm_gha.planner.matching import Want
from slurm_gha.planner.sizing import size


@dataclass(frozen=True, slots=True)
class Option:
    """A new runner that would serve a job: of ``pool``, with these labels and this request."""

    pool: Pool
    labels: Labels
    request: SlurmRequest


_Provenance = tuple[str, str, Origin | None, bool]


def _provenance(job: Job) -> _Provenance:
    """All of a job that rulings depend on."""
    return (job.scope, job.repository, job.origin, job.run_id > 0)


class Serving:
    """Answers for one policy, remembered by what jobs have in common."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._options: dict[tuple[str, Want], tuple[Option, ...]] = {}
        # Many pools have the same lists: each is gone through once for jobs of one provenance.
        self._limiting: dict[Allow, list[Pool]] = {}
        for pool in policy.pools:
            if pool.allow.limits:
                self._limiting.setdefault(pool.allow, []).append(pool)
        self._rulings: dict[_Provenance, dict[str, Ruling]] = {}
        self._refusing: dict[_Provenance, frozenset[str]] = {}
        self._readings: dict[tuple[str, Labels], Reading] = {}

    def want(self, job: Job) -> Want:
        """What the job wants of a runner."""
        return Want(job.labels, job.scale_set, self._refused_by(job))

    def _refused_by(self, job: Job) -> frozenset[str]:
        """The pools that do not let it run, or do not know yet whether to."""
        if not self._limiting:
            return frozenset()
        key = _provenance(job)
        if key not in self._refusing:
            rulings = {
                pool.name: ruling
                for allow, pools in self._limiting.items()
                if (ruling := allow.rule(job)).answer is not Answer.ALLOWED
                for pool in pools
                if job.scope in pool.scopes
            }
            self._rulings[key] = rulings
            self._refusing[key] = frozenset(rulings)
        return self._refusing[key]

    def ruling(self, job: Job) -> Ruling:
        """For a job without options: what the pools that could serve it by its labels say. ALLOWED: there is none.

        The sentence is everybody's; unknown to one of them, it is unknown, and worth waiting for.
        """
        want = self.want(job)
        unrefused = replace(want, refused_by=frozenset())
        asked = self._reading(job.scope, want.labels)
        refusing = (pool for pool in self._policy.pools if pool.name in want.refused_by)
        able = [pool.name for pool in refusing if self._option(pool, unrefused, asked)]
        if not able:
            return ALLOWED
        rulings = self._rulings[_provenance(job)]
        first = next((rulings[name] for name in able if rulings[name].answer is Answer.UNKNOWN), rulings[able[0]])
        told = "; ".join(
            rulings[name].reason
            if rulings[name].answer is Answer.UNKNOWN
            else f"pool {name} does not let it run: {rulings[name].reason}"
            for name in able
        )
        return replace(first, reason=told)

    def options(self, job: Job) -> tuple[Option, ...]:
        """The ways to serve a job, in the order of the pools."""
        want = self.want(job)
        key = (job.scope, want)
        if key not in self._options:
            asked = self._reading(job.scope, want.labels)
            found = (self._option(pool, want, asked) for pool in self._policy.pools if job.scope in pool.scopes)
            self._options[key] = tuple(option for option in found if option is not None)
        return self._options[key]

    def obstacle(self, job: Job) -> tuple[Cause, str]:
        """Why no pool can serve it: the labels that stand in the way, named against the pool that comes closest."""
        serving = [pool for pool in self._policy.pools if job.scope in pool.scopes]
        if not serving:
            return Cause.LABELS, f"no pool serves scope {job.scope}"
        if not job.labels:
            return Cause.LABELS, "it asks for no label, only for a runner group, and GitHub does not tell which"
        asked = self._reading(job.scope, job.labels)
        if asked.labels:
            return _obstacle_to_size(job, asked, serving)
        return Cause.LABELS, f"no pool has all of its labels {_lacking(job.labels, serving)}"

    def _option(self, pool: Pool, want: Want, asked: Reading) -> Option | None:
        if pool.name in want.refused_by:
            return None
        if want.scale_set is not None:
            return Option(pool, pool.labels, pool.request) if pool.name == want.scale_set else None
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


def _obstacle_to_size(job: Job, asked: Reading, serving: Sequence[Pool]) -> tuple[Cause, str]:
    """Why nobody serves a job with resource labels."""
    if asked.mistakes:
        return Cause.MISSPELT, "; ".join(asked.mistakes)
    dynamic = [pool for pool in serving if pool.dynamic is not None]
    named = ", ".join(map(resources.shown, sorted(asked.labels)))
    if not dynamic:
        return Cause.LABELS, f"no pool lets jobs ask for resources by labels ({named})"
    others = job.labels - asked.labels
    beyond = [reason for pool in dynamic if _takes(pool, job.labels, asked) for reason in size(pool, asked.asks).beyond]
    if beyond:
        return Cause.BOUNDS, "; ".join(beyond)
    return Cause.LABELS, f"no pool that takes {named} has all of its other labels {_lacking(others, dynamic)}"


def _lacking(labels: Labels, pools: Sequence[Pool]) -> str:
    closest = min(pools, key=lambda pool: (len(labels - pool.labels), pool.name))
    missing = ", ".join(sorted(labels - closest.labels))
    return f"(the closest, {closest.name}, lacks: {missing})"
