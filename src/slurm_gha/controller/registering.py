"""Where a runner is registered: its scope over REST, or its pool's scale set. Told apart by its record."""

from __future__ import annotations

from collections.abc import Mapping

from slurm_gha.controller.minting import mint
from slurm_gha.controller.ports import GitHubScope, ScaleSetRunners
from slurm_gha.domain.pool import Pool
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.scaleset import Place
from slurm_gha.github.errors import GitHubUnavailable, NameTaken
from slurm_gha.github.values import Minted
from slurm_gha.store.journal import Journal
from slurm_gha.store.scalesets import ScaleSetStore


class Registering:
    """Registers and removes runners; raises GitHubError."""

    def __init__(
        self, scopes: Mapping[str, GitHubScope], scale_sets: Mapping[str, ScaleSetRunners], journal: Journal
    ) -> None:
        self._scopes = scopes
        self._scale_sets = scale_sets
        self._store = ScaleSetStore(journal)

    def reaches(self, record: RunnerRecord) -> bool:
        """Whether the configuration has what the runner would be registered with."""
        return record.scope in (self._scale_sets if record.scale_set else self._scopes)

    async def mint(self, record: RunnerRecord, pool: Pool) -> Minted:
        """Register the runner and give its configuration."""
        if not record.scale_set:
            return await mint(self._scopes[record.scope], record, pool)
        desk = self._desk(record.scope)
        scale_set = self._store.scale_sets().get(Place(record.scope, record.pool))
        if scale_set is None:
            raise GitHubUnavailable(f"pool {record.pool} has no scale set in scope {record.scope} at the moment")
        try:
            return await desk.mint(scale_set.id, record.name)
        except NameTaken:
            # The name is ours alone, so this is our own earlier attempt, whose answer never arrived.
            found = await desk.find_runner(record.name)
            if found is not None:
                await desk.remove_runner(found)
            return await desk.mint(scale_set.id, record.name)

    async def remove(self, scope: str, registration_id: int, *, scale_set: bool) -> None:
        """Deregister; raises RunnerBusy while it has a job; one that is gone already is no error."""
        if scale_set:
            await self._desk(scope).remove_runner(registration_id)
        elif scope in self._scopes:
            await self._scopes[scope].remove(registration_id)
        else:
            raise GitHubUnavailable(f"scope {scope} is no longer configured")

    async def find(self, scope: str, name: str) -> int | None:
        """The id under which a scale set's runner is registered."""
        return await self._desk(scope).find_runner(name)

    def _desk(self, scope: str) -> ScaleSetRunners:
        if scope not in self._scale_sets:
            raise GitHubUnavailable(f"scope {scope} has no scale sets any more")
        return self._scale_sets[scope]
