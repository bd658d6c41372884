"""All of it, wired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import anyio

from slurm_gha.assembly.hooks import Hooked, doubts, webhooks
from slurm_gha.assembly.polling import PollPace, polls
from slurm_gha.assembly.queues import Queued, opened, queues
from slurm_gha.controller.acting import Actor
from slurm_gha.controller.claims import ClaimDesk
from slurm_gha.controller.deliveries import DeliveryDesk
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Cadence, Controller
from slurm_gha.controller.observation import Observer
from slurm_gha.controller.scalesets import ScaleSetBook
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.scope import Source as Word
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Plan
from slurm_gha.sources.scaleset import ScaleSetSource


class Source(Protocol):
    """Where news comes from."""

    async def run(self, nudge: Callable[[Hint], None]) -> None:
        """Hint until cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Assembly:
    """A controller, its claim desk and its sources, ready to run.

    ``deliveries``: where any scope has a webhook. ``queues`` and ``book``: where any scope has scale sets.
    """

    controller: Controller
    desk: ClaimDesk
    sources: tuple[Source, ...]
    deliveries: DeliveryDesk | None = None
    queues: ScaleSetSource | None = None
    book: ScaleSetBook | None = None

    async def run(self) -> None:
        """Run the loop and the sources until cancelled."""
        self.desk.recover()
        if self.deliveries is not None:
            self.deliveries.recover()
        async with anyio.create_task_group() as group:
            group.start_soon(self.controller.run)
            for source in self.sources:
                group.start_soon(source.run, self.controller.nudge)
            if self.queues is not None:
                group.start_soon(self.queues.run, lambda: self.controller.woken(""))

    async def leave(self) -> None:
        """Before an end that was asked for: give back what another controller would have to wait for."""
        if self.queues is not None:
            await self.queues.leave()


def assemble(
    policy: Callable[[], Policy],
    edges: Edges,
    *,
    pace: PollPace,
    cadence: Cadence,
    on_round: Callable[[World, Plan], None] = lambda world, decided: None,
    draining: Callable[[], bool] = lambda: False,
    hooked: Hooked | None = None,
    queued: Queued | None = None,
) -> Assembly:
    """Wire observer, actor, controller, desk and sources. No I/O but the journal's happens here."""
    configured = {**(hooked.scopes if hooked is not None else {}), **(queued.scopes if queued is not None else {})}
    by_queue_alone = {name for name, scope in configured.items() if scope.sources == {Word.SCALESET}}
    book = opened(policy(), edges, queued) if queued is not None else None
    observer = Observer(
        installation=policy().installation,
        scopes=edges.scopes,
        cluster=edges.cluster,
        journal=edges.journal,
        clock=edges.clock,
        bus=edges.bus,
        scale_sets=book,
        listed=[name for name in edges.scopes if name not in by_queue_alone],
    )
    pushed = [name for name in edges.scopes if name in configured and configured[name].pushed]
    controller = Controller(
        policy=policy,
        observer=observer,
        actor=Actor(edges),
        journal=edges.journal,
        clock=edges.clock,
        bus=edges.bus,
        cadence=cadence,
        on_round=on_round,
        draining=draining,
        pushed=pushed,
    )
    desk = ClaimDesk(
        policy=policy,
        registering=edges.registering,
        journal=edges.journal,
        observer=observer,
        clock=edges.clock,
        bus=edges.bus,
        token=edges.token,
        needed=controller.needed,
        woken=controller.woken,
    )
    sources: list[Source] = [*polls(controller, edges, pace, configured)]
    if pushed:
        sources.append(doubts(controller, observer, edges, pushed, pace.backstop_interval))
    deliveries = None
    if hooked is not None and (hooks := webhooks(controller, observer, edges, hooked)) is not None:
        deliveries, catching_up = hooks
        sources += catching_up
    reading = queues(policy, edges, controller, book, queued) if book is not None and queued is not None else None
    return Assembly(controller, desk, tuple(sources), deliveries, reading, book)
