"""How many jobs a scale set may be told that it can run. Pure."""

from __future__ import annotations

from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import Phase
from slurm_gha.domain.scaleset import Place
from slurm_gha.domain.world import World


def capacity(world: World, policy: Policy, place: Place, now: float) -> int:
    """Jobs that the place's scale set can have at the same time, those that it has included.

    None while nothing may be started: draining, the pool in back-off, Slurm unreadable. One more than there are runners
    while a pool that failed is on trial.
    """
    pool = policy.pools_by_name.get(place.pool)
    if pool is None or place.scope not in pool.scopes or world.draining or not world.slurm.readable:
        return 0
    live = [runner for runner in world.runners if runner.phase is not Phase.ENDED]
    own = sum(r.record.pool == place.pool and r.record.scope == place.scope and r.record.scale_set for r in live)
    of_pool = sum(runner.record.pool == place.pool for runner in live)
    most = min(pool.max_runners - (of_pool - own), policy.max_runners - (len(live) - own))
    trouble = world.troubles.get(place.pool)
    if trouble is not None:
        if now < trouble.until:
            return 0
        most = min(most, own + 1)
    return max(0, most)
