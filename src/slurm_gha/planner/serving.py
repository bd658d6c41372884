"""Which pools may serve which job, by a runner of which labels and request, and why no pool can. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from slurm_gha.domain.allow import ALLOWED, Allow, Answer, Ruling
from slurm_gha.domain.job import Job, Origin
from slurm_gha.domain.labels import Labels, satisfies
from slurm_gha.domain.pool import Policy, Pool, SlurmRequest
from slurm_gha.planner.matching import Want


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
        able = [p.name for p in self._policy.pools if p.name in want.refused_by and self._option(p, unrefused)]
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
        if pool.name in want.refused_by:
            return None
        if want.scale_set is not None:
            return Option(pool, pool.labels, pool.request) if pool.name == want.scale_set else None
        if not satisfies(pool.labels, want.labels):
            return None
        return Option(pool, pool.labels, pool.request)
