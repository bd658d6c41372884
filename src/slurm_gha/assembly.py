"""One controller and what it stands on, put together from edges: the same for production and for simulations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import anyio

from slurm_gha.controller.acting import Actor
from slurm_gha.controller.claims import ClaimDesk
from slurm_gha.controller.deliveries import DeliveryDesk
from slurm_gha.controller.doubts import doubtful
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Cadence, Controller
from slurm_gha.controller.observation import Observer
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.scope import Scope
from slurm_gha.domain.scope import Source as Word
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Plan
from slurm_gha.sources.doubt import DoubtSource
from slurm_gha.sources.first_look import FirstLook
from slurm_gha.sources.poll import PollSource
from slurm_gha.sources.webhook import CatchUp, HookDesk
from slurm_gha.store.deliveries import DeliveryBook


@dataclass(frozen=True, slots=True)
class PollPace:
    """The poll source's intervals in seconds; ``shortest`` gives, by scope, what the token's pace allows.

    ``backstop_interval``: between two looks at a scope that is pushed to.
    """

    busy_interval: float = 5.0
    idle_interval: float = 30.0
    linger: float = 300.0
    shortest: Mapping[str, Callable[[], float]] | None = None
    backstop_interval: float = 600.0


class Source(Protocol):
    """Where news comes from."""

    async def run(self, nudge: Callable[[Hint], None]) -> None:
        """Hint until cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Hooked:
    """What webhooks need: the configured scopes by name, their secrets, and their hooks on GitHub."""

    scopes: Mapping[str, Scope]
    secrets: Callable[[], Mapping[str, Secret]]
    hooks: Mapping[str, HookDesk]
    catch_up_interval: float = 600.0


@dataclass(frozen=True, slots=True)
class Assembly:
    """A controller, its claim desk and its sources, ready to run. ``deliveries``: where any scope has a webhook."""

    controller: Controller
    desk: ClaimDesk
    sources: tuple[Source, ...]
    deliveries: DeliveryDesk | None = None

    async def run(self) -> None:
        """Run the loop and the source until cancelled."""
        self.desk.recover()
        if self.deliveries is not None:
            self.deliveries.recover()
        async with anyio.create_task_group() as group:
            group.start_soon(self.controller.run)
            for source in self.sources:
                group.start_soon(source.run, self.nudge)

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
    hooked: Hooked | None = None,
) -> Assembly:
    """Wire observer, actor, controller, desk and sources. No I/O happens here."""
    observer = Observer(
        installation=policy().installation,
        scopes=edges.scopes,
        cluster=edges.cluster,
        journal=edges.journal,
        clock=edges.clock,
        bus=edges.bus,
    )
    configured = hooked.scopes if hooked is not None else {}
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
        scopes=edges.scopes,
        journal=edges.journal,
        observer=observer,
        clock=edges.clock,
        bus=edges.bus,
        token=edges.token,
        needed=controller.needed,
        woken=controller.woken,
    )
    sources: list[Source] = [*_polls(controller, edges, pace, configured)]
    deliveries = None
    if pushed:

        def doubts(now: float) -> list[Hint]:
            unsettled = observer.news.unsettled(now, pace.backstop_interval)
            return [*unsettled, *doubtful(controller.world(), pushed, now)]

        sources.append(DoubtSource(doubts, edges.clock))
    if hooked is not None and any(Word.WEBHOOK in scope.sources for scope in configured.values()):
        book = DeliveryBook(edges.journal)
        deliveries = DeliveryDesk(
            scopes=configured,
            secrets=hooked.secrets,
            book=book,
            observer=observer,
            clock=edges.clock,
            bus=edges.bus,
            woken=lambda: controller.woken(""),
            nudge=controller.nudge,
        )
        sources += [
            CatchUp(name, hooks, book, edges.clock, edges.bus, interval=hooked.catch_up_interval)
            for name, hooks in hooked.hooks.items()
        ]
    return Assembly(controller, desk, tuple(sources), deliveries)


def _polls(
    controller: Controller, edges: Edges, pace: PollPace, configured: Mapping[str, Scope]
) -> Iterator[PollSource | FirstLook]:
    """Quick polling, slow polling of what is pushed to, and one good look where polling was left out."""
    shortest = dict(pace.shortest or dict.fromkeys(edges.scopes, _at_once))
    quick, slow, never = {}, {}, []
    for name, least in shortest.items():
        scope = configured.get(name)
        if scope is None or not scope.pushed:
            quick[name] = least
        elif Word.POLL in scope.sources:
            slow[name] = least
        else:
            never.append(name)
    if quick:
        yield PollSource(
            quick,
            edges.clock,
            busy_interval=pace.busy_interval,
            idle_interval=pace.idle_interval,
            linger=pace.linger,
            active=lambda: controller.active,
        )
    if slow:
        yield PollSource(
            slow,
            edges.clock,
            busy_interval=pace.backstop_interval,
            idle_interval=pace.backstop_interval,
            linger=0.0,
            active=lambda: False,
        )
    if never:
        yield FirstLook(never, lambda name: controller.world().scopes[name].jobs_readable, edges.clock)


def _at_once() -> float:
    return 0.0
