"""One controller and what it stands on, put together from edges: the same for production and for simulations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from slurm_gha.controller.acting import Actor
from slurm_gha.controller.claims import ClaimDesk
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Cadence, Controller
from slurm_gha.controller.observation import Observer
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Plan
from slurm_gha.sources.poll import PollSource


@dataclass(frozen=True, slots=True)
class PollPace:
    """The poll source's intervals in seconds."""

    busy_interval: float = 5.0
    idle_interval: float = 30.0
    linger: float = 300.0


@dataclass(frozen=True, slots=True)
class Assembly:
    """A controller, its claim desk and its poll source, ready to run."""

    controller: Controller
    desk: ClaimDesk
    source: PollSource

    async def run(self) -> None:
        """Run the loop and the source until cancelled."""
        self.desk.recover()
        async with anyio.create_task_group() as group:
            group.start_soon(self.controller.run)
            group.start_soon(self.source.run, self.nudge)

    def nudge(self, hint: Hint) -> None:
        self.controller.nudge(hint)


def assemble(
    policy: Callable[[], Policy],
    edges: Edges,
    *,
    pace: PollPace,
    cadence: Cadence,
    on_round: Callable[[World, Plan], None] = lambda world, decided: None,
    draining: Callable[[], bool] = lambda: False,
) -> Assembly:
    """Wire observer, actor, controller, desk and source. No I/O happens here."""
    observer = Observer(
        installation=policy().installation,
        scopes=edges.scopes,
        cluster=edges.cluster,
        journal=edges.journal,
        clock=edges.clock,
        bus=edges.bus,
    )
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
    )
    desk = ClaimDesk(
        policy=policy,
        scopes=edges.scopes,
        journal=edges.journal,
        observer=observer,
        clock=edges.clock,
        bus=edges.bus,
        token=edges.token,
        needed=controller.needed,
        woken=controller.woken,
    )
    source = PollSource(
        tuple(edges.scopes),
        edges.clock,
        busy_interval=pace.busy_interval,
        idle_interval=pace.idle_interval,
        linger=pace.linger,
        active=lambda: controller.active,
    )
    return Assembly(controller, desk, source)
