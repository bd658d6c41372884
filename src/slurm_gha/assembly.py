"""One controller and what it stands on, put together from edges: the same for production and for simulations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import anyio

from slurm_gha.controller.acting import Actor
from slurm_gha.controller.claims import ClaimDesk
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Cadence, Controller
from slurm_gha.controller.observation import Observer
from slurm_gha.controller.queue_reading import assigned
from slurm_gha.controller.scalesets import ScaleSetBook
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.scaleset import JobNews, Place, as_job
from slurm_gha.domain.scope import Scope
from slurm_gha.domain.scope import Source as Word
from slurm_gha.domain.world import World
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.observe.events import UnexpectedError
from slurm_gha.planner.actions import Plan
from slurm_gha.planner.capacity import capacity
from slurm_gha.planner.serving import Serving
from slurm_gha.sources.poll import PollSource
from slurm_gha.sources.scaleset import ScaleSetSource, Wanted


@dataclass(frozen=True, slots=True)
class PollPace:
    """The poll source's intervals in seconds; ``shortest`` gives, by scope, what the token's pace allows."""

    busy_interval: float = 5.0
    idle_interval: float = 30.0
    linger: float = 300.0
    shortest: Mapping[str, Callable[[], float]] | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """What scale sets need: the configured scopes by name, the clients of those that use them, and who we are there.

    The clients are also the edges' ``scale_sets``.
    """

    scopes: Mapping[str, Scope]
    clients: Mapping[str, ScaleSetClient]
    owner: str


@dataclass(frozen=True, slots=True)
class Assembly:
    """A controller, its claim desk and its sources, ready to run. ``queues``: where any scope has scale sets."""

    controller: Controller
    desk: ClaimDesk
    source: PollSource | None
    queues: ScaleSetSource | None = None
    book: ScaleSetBook | None = None

    async def run(self) -> None:
        """Run the loop and the sources until cancelled."""
        self.desk.recover()
        async with anyio.create_task_group() as group:
            group.start_soon(self.controller.run)
            if self.source is not None:
                group.start_soon(self.source.run, self.nudge)
            if self.queues is not None:
                group.start_soon(self.queues.run, lambda: self.controller.woken(""))

    async def leave(self) -> None:
        """Before an end that was asked for: give back what another controller would have to wait for."""
        if self.queues is not None:
            await self.queues.leave()

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
    queued: Queued | None = None,
) -> Assembly:
    """Wire observer, actor, controller, desk and sources. No I/O happens here."""
    scopes = queued.scopes if queued is not None else {}
    book = ScaleSetBook(edges.journal, edges.clock, edges.bus) if scopes else None
    if book is not None and queued is not None:
        book.follow({wanted.place: wanted.name for wanted in wanted_scale_sets(policy(), scopes)})
    observer = Observer(
        installation=policy().installation,
        scopes=edges.scopes,
        cluster=edges.cluster,
        journal=edges.journal,
        clock=edges.clock,
        bus=edges.bus,
        scale_sets=book,
        listed=[name for name in edges.scopes if name not in scopes or scopes[name].sources != {Word.SCALESET}],
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
        registering=edges.registering,
        journal=edges.journal,
        observer=observer,
        clock=edges.clock,
        bus=edges.bus,
        token=edges.token,
        needed=controller.needed,
        woken=controller.woken,
    )
    polled = {
        name: least
        for name, least in (pace.shortest or dict.fromkeys(edges.scopes, _at_once)).items()
        if name not in scopes or Word.POLL in scopes[name].sources
    }
    source = PollSource(
        polled,
        edges.clock,
        busy_interval=pace.busy_interval,
        idle_interval=pace.idle_interval,
        linger=pace.linger,
        active=lambda: controller.active,
    )
    queues = None if book is None or queued is None else _queues(policy, edges, controller, book, queued)
    return Assembly(controller, desk, source if polled else None, queues, book)


def wanted_scale_sets(policy: Policy, scopes: Mapping[str, Scope]) -> tuple[Wanted, ...]:
    """A scale set for each pool in each scope that uses them."""
    return tuple(
        Wanted(Place(name, pool.name), pool.scale_set_name, pool.labels, pool.runner_group_id, pool.runner_group)
        for name, scope in scopes.items()
        if Word.SCALESET in scope.sources
        for pool in policy.pools
        if name in pool.scopes
    )


def _queues(
    policy: Callable[[], Policy], edges: Edges, controller: Controller, book: ScaleSetBook, queued: Queued
) -> ScaleSetSource:
    def may_run(place: Place, news: JobNews) -> bool:
        return bool(Serving(policy()).options(as_job(assigned(news, edges.now()), place)))

    def on_error(where: str, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        edges.bus.emit(UnexpectedError(at=edges.now(), where=where, error=told))

    return ScaleSetSource(
        lambda: wanted_scale_sets(policy(), queued.scopes),
        queued.clients,
        book,
        edges.clock,
        owner=queued.owner,
        capacity=lambda place: capacity(controller.world(), policy(), place, edges.now()),
        may_run=may_run,
        doubtful=lambda place: book.doubtful(place, controller.world().runners),
        on_error=on_error,
    )


def _at_once() -> float:
    return 0.0
