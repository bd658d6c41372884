"""Carrying a plan out. Nothing here decides; a failure is recorded and left to the next round."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from slurm_gha.controller.adoption import adopted, in_scale_set
from slurm_gha.controller.edges import Edges, Ledger
from slurm_gha.controller.submitting import Submitter
from slurm_gha.controller.withdrawing import Withdrawer
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import Runner
from slurm_gha.domain.world import TroubleKind, World
from slurm_gha.github.errors import GitHubError
from slurm_gha.observe import events
from slurm_gha.planner.actions import Adopt, CancelStray, Deregister, Forget, Plan, Renew, Submit, Withdraw


class Actor:
    """Does what a plan says: what frees something first, then what takes something."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._ledger = Ledger(edges)
        self._submitter = Submitter(edges, self._ledger)
        self._withdrawer = Withdrawer(edges, self._ledger)

    @property
    def last_tried(self) -> Mapping[str, float]:
        """When each name's withdrawal, deregistration or renewal was last attempted."""
        return self._withdrawer.last_tried

    def recovered(self, pool: str, kind: TroubleKind) -> None:
        """Good news of a pool ends a back-off of that kind."""
        self._ledger.recovered(pool, kind)

    async def act(self, plan: Plan, world: World, policy: Policy) -> None:
        """Carry out one round's actions."""
        runners = {runner.name: runner for runner in world.runners}
        for action in plan.actions:
            if isinstance(action, Adopt):
                await self._adopt(action, policy, world)
        await self._take_away(plan, runners, policy)
        await self._submitter.submit([action for action in plan.actions if isinstance(action, Submit)], policy)
        strangers = {orphan.registration.name for orphan in world.orphans} | {stray.name for stray in world.strays}
        self._withdrawer.forget_all_but(runners.keys() | strangers)

    async def _take_away(self, plan: Plan, runners: Mapping[str, Runner], policy: Policy) -> None:
        cancel: list[int] = []
        async with anyio.create_task_group() as group:
            for action in plan.actions:
                match action:
                    case Forget():
                        group.start_soon(self._forget, action, runners.get(action.name))
                    case Withdraw():
                        group.start_soon(self._withdrawer.withdraw, action, runners.get(action.name), cancel)
                    case Deregister():
                        group.start_soon(self._withdrawer.deregister, action)
                    case Renew():
                        self._withdrawer.trying(action.name)
                        group.start_soon(self._submitter.renew, action.name, policy)
        strays = [action for action in plan.actions if isinstance(action, CancelStray)]
        for stray in strays:
            self._withdrawer.trying(stray.name)
        await self._withdrawer.cancel([*cancel, *(stray.slurm_id for stray in strays)])
        for stray in strays:
            now = self._edges.now()
            self._edges.bus.emit(events.StrayCancelled(at=now, name=stray.name, slurm_id=stray.slurm_id))

    async def _forget(self, action: Forget, runner: Runner | None) -> None:
        if runner is not None and not await self._withdrawer.leaves_nothing(runner):
            return
        self._ledger.close(action.name, action.outcome, action.detail)
        if action.failure and runner is not None:
            reason = f"runner {action.name} {action.outcome}: {action.detail}"
            self._ledger.back_off(runner.record.pool, TroubleKind.FAILING, reason)

    async def _adopt(self, action: Adopt, policy: Policy, world: World) -> None:
        if self._edges.journal.record(action.slurm.name) is not None:
            # Closed already: its claim is worth nothing, so it ends by itself.
            return
        registration_id, scope = None, in_scale_set(action.slurm)
        if scope is not None:
            try:
                registration_id = await self._edges.registering.find(scope, action.slurm.name)
            except GitHubError:
                return  # it is still there in the next round
        now = self._edges.now()
        record = adopted(action.slurm, policy, world, now, registration_id)
        if record is not None:
            self._edges.journal.adopt(record)
            self._edges.bus.emit(events.RunnerAdopted(at=now, name=record.name, slurm_id=action.slurm.id))
