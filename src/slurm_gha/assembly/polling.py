"""How each scope is polled: quickly, slowly where news comes by itself, or just once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Controller
from slurm_gha.domain.scope import Scope, Source
from slurm_gha.sources.first_look import FirstLook
from slurm_gha.sources.poll import PollSource


@dataclass(frozen=True, slots=True)
class PollPace:
    """The poll source's intervals in seconds."""

    busy_interval: float = 5.0
    idle_interval: float = 30.0
    linger: float = 300.0
    backstop_interval: float = 600.0


def polls(
    controller: Controller, edges: Edges, pace: PollPace, configured: Mapping[str, Scope]
) -> Iterator[PollSource | FirstLook]:
    """Quick polling, slow polling of what is pushed to, and one good look where polling was left out.

    A scope whose scale sets are its only source is not looked at over REST at all.
    """
    quick: list[str] = []
    slow: list[str] = []
    never: list[str] = []
    for name in edges.scopes:
        scope = configured.get(name)
        if scope is None or not scope.pushed:
            quick.append(name)
        elif Source.POLL in scope.sources:
            slow.append(name)
        elif Source.WEBHOOK in scope.sources:
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
