"""Webhooks: the desk that takes deliveries, and what catches up with those that got lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slurm_gha.controller.deliveries import DeliveryDesk
from slurm_gha.controller.doubts import doubtful
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Controller
from slurm_gha.controller.observation import Observer
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.scope import Scope, Source
from slurm_gha.domain.secret import Secret
from slurm_gha.sources.doubt import DoubtSource
from slurm_gha.sources.webhook import CatchUp, HookDesk, Sharers
from slurm_gha.store.deliveries import DeliveryBook


@dataclass(frozen=True, slots=True)
class Hooked:
    """What webhooks need: the configured scopes by name, their secrets, and their hooks on GitHub."""

    scopes: Mapping[str, Scope]
    secrets: Callable[[], Mapping[str, Secret]]
    hooks: Mapping[str, HookDesk]
    catch_up_interval: float = 600.0


def doubts(controller: Controller, observer: Observer, edges: Edges, pushed: list[str], age: float) -> DoubtSource:
    """Second looks at what was told and nothing that was read for ``age`` seconds confirms."""

    def found(now: float) -> list[Hint]:
        return [*observer.news.unsettled(now, age), *doubtful(controller.world(), pushed, now)]

    return DoubtSource(found, edges.clock)


def webhooks(
    controller: Controller, observer: Observer, edges: Edges, hooked: Hooked
) -> tuple[DeliveryDesk, tuple[CatchUp, ...]] | None:
    """The desk, and a source for each scope that catches up with its hook; None where no scope has webhooks."""
    if not any(Source.WEBHOOK in scope.sources for scope in hooked.scopes.values()):
        return None
    book = DeliveryBook(edges.journal)
    desk = DeliveryDesk(
        scopes=hooked.scopes,
        secrets=hooked.secrets,
        book=book,
        observer=observer,
        clock=edges.clock,
        bus=edges.bus,
        woken=lambda: controller.woken(""),
        nudge=controller.nudge,
    )
    sharers = Sharers()
    return desk, tuple(
        CatchUp(name, hooks, book, edges.clock, edges.bus, interval=hooked.catch_up_interval, sharers=sharers)
        for name, hooks in hooked.hooks.items()
    )
