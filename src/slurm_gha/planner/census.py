"""How many runners there are, by everything that limits count them by; and which limit has no room. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_gha.domain.pool import Policy, Pool
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Cause
from slurm_gha.planner.verdicts import Use, Verdict


@dataclass(frozen=True, slots=True)
class Held:
    """What keeps a job from getting a runner: in one word, and in a sentence."""

    cause: Cause
    reason: str


Place = tuple[Cause, str]
"""A limit that counts whoever's runners: its kind, and whose it is."""


def places(pool: str, scope: str) -> tuple[Place, ...]:
    """The limits that a runner counts to, whoever's it is."""
    return (Cause.SERVICE_LIMIT, ""), (Cause.SCOPE_LIMIT, scope), (Cause.POOL_LIMIT, pool)


class Census:
    """The living runners of a world, and those that are added to them.

    A runner counts to the repository whose job it has; as long as it has none, to the one whose job it was made for.
    """

    def __init__(self, world: World, policy: Policy, verdicts: Mapping[str, Verdict]) -> None:
        self._policy = policy
        self._total = 0
        self._pools: Counter[str] = Counter()
        self._scopes: Counter[str] = Counter()
        self._repositories: Counter[tuple[str, str]] = Counter()
        self._shares: Counter[tuple[str, str, str]] = Counter()
        busy = {runner.taken_job for runner in world.runners if runner.taken_job is not None}
        homes = {(job.scope, job.id): job.repository for job in world.jobs if job.id in busy}
        for runner in world.runners:
            if verdicts[runner.name].use in (Use.ENDED, Use.LOST):
                continue
            record, home = runner.record, None
            if runner.taken_job is not None:
                home = homes.get((record.scope, runner.taken_job))
            self.add(record.pool, record.scope, home or record.repository)

    def add(self, pool: str, scope: str, repository: str | None) -> None:
        """One more runner; ``repository`` None: nobody's yet."""
        self._total += 1
        self._pools[pool] += 1
        self._scopes[scope] += 1
        if repository is not None:
            name = repository.lower()
            self._repositories[scope, name] += 1
            self._shares[pool, scope, name] += 1

    def of_scope(self, scope: str) -> int:
        return self._scopes[scope]

    def of_repository(self, scope: str, repository: str) -> int:
        return self._repositories[scope, repository.lower()]

    def full(self) -> Held | None:
        """Whether there is no room for anybody."""
        if self._total < self._policy.max_runners:
            return None
        return Held(Cause.SERVICE_LIMIT, f"the limit of {self._policy.max_runners} runners over all pools is reached")

    def closed_to(self, scope: str, repository: str | None) -> Held | None:
        """Whether there is no room in any pool for a scope's repository."""
        most = self._policy.share_of(scope).max_runners
        if most is not None and self._scopes[scope] >= most:
            return Held(Cause.SCOPE_LIMIT, f"scope {scope} is at its limit of {most} runners")
        most = self._policy.max_runners_per_repository
        if most is not None and repository is not None and self.of_repository(scope, repository) >= most:
            return Held(Cause.REPOSITORY_LIMIT, f"repository {repository} is at its limit of {most} runners")
        return None

    def closed(self, pool: Pool, scope: str, repository: str | None) -> Held | None:
        """Whether a pool has no room for a scope's repository."""
        if self._pools[pool.name] >= pool.max_runners:
            return Held(Cause.POOL_LIMIT, f"pool {pool.name} is at its limit of {pool.max_runners} runners")
        most = pool.max_runners_per_repository
        if most is not None and repository is not None and self._shares[pool.name, scope, repository.lower()] >= most:
            told = f"repository {repository} is at its limit of {most} runners in pool {pool.name}"
            return Held(Cause.REPOSITORY_LIMIT, told)
        return None

    def spares(self, pool: Pool, scope: str, repository: str) -> bool:
        """Whether no limit of the repository's own is in its way."""
        everywhere, here = self._policy.max_runners_per_repository, pool.max_runners_per_repository
        return (everywhere is None or self.of_repository(scope, repository) < everywhere) and (
            here is None or self._shares[pool.name, scope, repository.lower()] < here
        )

    def crowded(self, pool: Pool, scope: str) -> frozenset[Place]:
        """Those of :func:`places` that are reached: what one runner less, that counts to them all, would open."""
        reached = (
            self.full() is not None,
            self.closed_to(scope, None) is not None,
            self._pools[pool.name] >= pool.max_runners,
        )
        return frozenset(place for place, full in zip(places(pool.name, scope), reached, strict=True) if full)
