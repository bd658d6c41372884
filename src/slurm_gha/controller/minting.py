"""JIT configurations: minted once a runner's name is on disk, and again if an earlier answer was lost."""

from __future__ import annotations

from slurm_gha.controller.ports import GitHubScope
from slurm_gha.domain.pool import Pool
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.github.errors import NameTaken
from slurm_gha.github.values import Minted


async def mint(scope: GitHubScope, record: RunnerRecord, pool: Pool) -> Minted:
    """Register the runner, with its own labels, and give its configuration; raises GitHubError.

    The name is ours alone, so one that is taken is our own earlier attempt, whose answer never arrived.
    """
    name, labels = record.name, sorted(record.labels)
    try:
        return await scope.mint(name, labels, pool.runner_group_id)
    except NameTaken:
        for registration in await scope.runners():
            if registration.name == name:
                await scope.remove(registration.id)
        return await scope.mint(name, labels, pool.runner_group_id)
