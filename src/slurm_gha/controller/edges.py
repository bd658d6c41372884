"""What acting needs beside a plan, and the bookkeeping that every action shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from slurm_gha.controller.handover import HandoverDirectory
from slurm_gha.controller.ports import Cluster, GitHubScope, ScaleSetRunners
from slurm_gha.controller.registering import Registering
from slurm_gha.controller.troubles import escalate
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.pool import Pool
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.world import TroubleKind
from slurm_gha.observe import events
from slurm_gha.observe.events import Bus
from slurm_gha.store.journal import Journal


@dataclass(frozen=True, slots=True)
class Edges:
    """The outside world. ``suffix`` gives a fresh name ending, ``token`` a fresh secret.

    ``scale_sets``: by scope, the runners of its scale sets, where it has any.
    """

    cluster: Cluster
    scopes: Mapping[str, GitHubScope]
    journal: Journal
    clock: Clock
    bus: Bus
    script: Callable[[RunnerRecord, Pool, Secret | None], str]
    output_path: Callable[[str], str]
    handover: HandoverDirectory | None
    suffix: Callable[[], str]
    token: Callable[[], Secret]
    submit_concurrency: int = 8
    signal_before_end: int = 60
    scale_sets: Mapping[str, ScaleSetRunners] = field(default_factory=dict)

    @property
    def registering(self) -> Registering:
        """Where runners are registered."""
        return Registering(self.scopes, self.scale_sets, self.journal)

    def now(self) -> float:
        return self.clock.now()


class Ledger:
    """Closing records and keeping pools' back-offs, each with its event."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges

    def close(self, name: str, outcome: str, detail: str) -> None:
        """A runner's story is over; what was left for its node to read goes too."""
        now = self._edges.now()
        self._edges.journal.close_record(name, now, outcome, detail)
        if self._edges.handover is not None:
            self._edges.handover.remove(name)
        self._edges.bus.emit(events.RunnerClosed(at=now, name=name, outcome=outcome, detail=detail))

    def back_off(self, pool: str, kind: TroubleKind, reason: str) -> None:
        """One more failure of a pool."""
        now = self._edges.now()
        before = self._edges.journal.troubles().get(pool)
        trouble = escalate(pool, before, kind, reason, now)
        if trouble is before:
            return
        self._edges.journal.set_trouble(trouble)
        self._edges.bus.emit(
            events.PoolBackedOff(at=now, pool=pool, failures=trouble.failures, until=trouble.until, reason=reason)
        )

    def recovered(self, pool: str, kind: TroubleKind) -> None:
        """Good news of a pool ends a back-off of that kind."""
        trouble = self._edges.journal.troubles().get(pool)
        if trouble is not None and trouble.kind is kind:
            self._edges.journal.clear_trouble(pool)
            self._edges.bus.emit(events.PoolRecovered(at=self._edges.now(), pool=pool))
