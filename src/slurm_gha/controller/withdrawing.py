"""Taking runners away, in order: deregister first, and only then cancel; a busy runner is left alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from slurm_gha.controller.edges import Edges, Ledger
from slurm_gha.domain.runner import Runner
from slurm_gha.domain.world import TroubleKind
from slurm_gha.github.errors import GitHubError, RunnerBusy
from slurm_gha.observe import events
from slurm_gha.planner.actions import Deregister, Withdraw
from slurm_gha.slurm.errors import SlurmError


class Withdrawer:
    """Remembers when each name was last tried, so that plan() can space the tries."""

    def __init__(self, edges: Edges, ledger: Ledger) -> None:
        self._edges = edges
        self._ledger = ledger
        self._last_tried: dict[str, float] = {}

    @property
    def last_tried(self) -> Mapping[str, float]:
        """When each name was last tried, in seconds since the epoch."""
        return dict(self._last_tried)

    def trying(self, name: str) -> None:
        """A try begins now."""
        self._last_tried[name] = self._edges.now()

    def forget_all_but(self, names: Collection[str]) -> None:
        """Keep the memory of these names only."""
        self._last_tried = {name: at for name, at in self._last_tried.items() if name in names}

    async def withdraw(self, action: Withdraw, runner: Runner | None, cancel: list[int]) -> None:
        """Deregister, and only then put the Slurm job on the list to cancel; a busy runner is left alone."""
        name, journal = action.name, self._edges.journal
        self.trying(name)
        if not journal.withdraw(name, self._edges.now(), action.reason):
            return
        record = journal.record(name)
        if record is None:
            return
        registration = runner.registration if runner else None
        registration_id = record.registration_id or (registration.id if registration else None)
        if registration_id is not None and record.deregistered_at is None:
            try:
                await self._edges.registering.remove(record.scope, registration_id, scale_set=record.scale_set)
            except RunnerBusy:
                journal.unwithdraw(name)
                journal.busy(name, self._edges.now())
                self._emit(events.WithdrawalDeferred(at=self._edges.now(), name=name))
                return
            except GitHubError as error:
                self._emit(events.GitHubUnreadable(at=self._edges.now(), scope=record.scope, error=str(error)))
                return
            journal.deregistered(name, self._edges.now())
            self._emit(events.RegistrationRemoved(at=self._edges.now(), name=name, scope=record.scope))
        if record.slurm_id is not None:
            cancel.append(record.slurm_id)
        if self._edges.handover is not None:
            self._edges.handover.remove(name)
        self._emit(events.RunnerWithdrawn(at=self._edges.now(), name=name, because=action.reason))
        if action.failure:
            self._ledger.back_off(record.pool, TroubleKind.FAILING, action.reason)

    async def cancel(self, slurm_ids: Sequence[int]) -> None:
        """One scancel for all of them."""
        if not slurm_ids:
            return
        try:
            await self._edges.cluster.cancel(slurm_ids)
        except SlurmError as error:
            self._emit(events.SlurmUnreadable(at=self._edges.now(), error=str(error)))

    async def leaves_nothing(self, runner: Runner) -> bool:
        """Whether a runner that is to be forgotten has no registration that nobody would remove.

        Where GitHub lists runners, one that was made by a call whose answer was lost is found again. It does not list
        those of scale sets, so these are asked for by name.
        """
        record, slurm = runner.record, runner.slurm
        started = slurm is not None and slurm.started_at is not None
        if not record.scale_set or record.registration_id is not None or not started:
            return True
        try:
            found = await self._edges.registering.find(record.scope, record.name)
            if found is not None:
                await self._edges.registering.remove(record.scope, found, scale_set=True)
        except GitHubError as error:
            self._emit(events.GitHubUnreadable(at=self._edges.now(), scope=record.scope, error=str(error)))
            # A scope that is no longer configured can never be asked again.
            return not self._edges.registering.reaches(record)
        return True

    async def deregister(self, action: Deregister) -> None:
        """Remove the registration of a runner whose Slurm job is over; a busy one is left for another round."""
        self.trying(action.name)
        record = self._edges.journal.record(action.name)
        scale_set = record is not None and record.scale_set
        try:
            await self._edges.registering.remove(action.scope, action.registration_id, scale_set=scale_set)
        except RunnerBusy:
            self._emit(events.WithdrawalDeferred(at=self._edges.now(), name=action.name))
            return
        except GitHubError as error:
            self._emit(events.GitHubUnreadable(at=self._edges.now(), scope=action.scope, error=str(error)))
            return
        if record is not None and not self._edges.journal.is_closed(action.name):
            self._edges.journal.deregistered(action.name, self._edges.now())
        self._emit(events.RegistrationRemoved(at=self._edges.now(), name=action.name, scope=action.scope))

    def _emit(self, event: events.Event) -> None:
        self._edges.bus.emit(event)
