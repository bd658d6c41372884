"""The loop: observe → plan → act. Watches read, one decider decides; a wake-up says only that it is worth a look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import anyio

from slurm_gha.controller.acting import Actor
from slurm_gha.controller.journey import Journey
from slurm_gha.controller.observation import Observer
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import Phase
from slurm_gha.domain.world import World
from slurm_gha.observe.events import Bus, RoundFinished, UnexpectedError
from slurm_gha.planner.actions import Cause, Plan
from slurm_gha.planner.plan import needed, plan
from slurm_gha.store.journal import Journal

# A look at a run takes two calls, one at a repository five and one for each unfinished run.
MANY_RUNS = 4
# How long to wait for the run of a job before it is asked for again (seconds).
ASK_AGAIN = 30.0


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often to look, in seconds. ``slurm`` while there are runners, ``slurm_idle`` while there are none.

    ``registrations`` while there are runners; ``closing`` while an ended one waits to be seen gone from GitHub.
    """

    slurm: float = 5.0
    slurm_idle: float = 30.0
    registrations: float = 15.0
    closing: float = 5.0


class Controller:
    """One installation's loop. ``run`` never returns by itself; cancelling it touches nothing that runs.

    ``pushed``: scopes of whose jobs GitHub brings news by itself.
    """

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        observer: Observer,
        actor: Actor,
        journal: Journal,
        clock: Clock,
        bus: Bus,
        cadence: Cadence = Cadence(),
        on_round: Callable[[World, Plan], None] = lambda world, decided: None,
        draining: Callable[[], bool] = lambda: False,
        pushed: Collection[str] = (),
    ) -> None:
        self._policy = policy
        self._observer = observer
        self._actor = actor
        self._journal = journal
        self._clock = clock
        self._bus = bus
        self._cadence = cadence
        self._on_round = on_round
        self._draining = draining
        self._pushed = frozenset(pushed)
        self._journey = Journey(bus, actor.recovered)
        self._surplus_since: Mapping[str, float] = MappingProxyType({})
        self._turns: Mapping[str, int] = MappingProxyType({})
        self._wake = anyio.Event()
        self._hinted: dict[str, set[str] | None] = {}
        self._hinted_runs: dict[str, set[tuple[str, int]]] = {}
        self._hint = anyio.Event()
        self._read_registrations: dict[str, float] = {}
        self._asked_origin: dict[int, float] = {}

    # What others may tell it

    def nudge(self, hint: Hint) -> None:
        """Look at a scope, or at one repository of it, or at one run of that, soon."""
        if hint.repository is not None and hint.run_id is not None:
            self._hinted_runs.setdefault(hint.scope, set()).add((hint.repository, hint.run_id))
        elif hint.repository is None:
            self._hinted[hint.scope] = None
        elif (known := self._hinted.setdefault(hint.scope, set())) is not None:
            known.add(hint.repository)
        self._hint.set()

    def woken(self, name: str) -> None:
        """A node said something of a runner: decide again, and look where its job came from.

        Where GitHub brings news by itself, that takes a look only if it has not told which job the runner had.
        """
        record = self._journal.record(name)
        if record is not None and record.finished_at is not None and record.repository is not None:
            told = record.scope in self._pushed and any(
                runner.taken_job is not None for runner in self.world().runners if runner.name == name
            )
            if not told:
                self.nudge(Hint(record.scope, record.repository))
        self._wake.set()

    def needed(self, name: str) -> bool:
        """Whether a runner that is about to start is still counted on."""
        return needed(self.world(), self._policy(), self._clock.now(), name)

    @property
    def active(self) -> bool:
        """Whether there is work: a queued job, or a runner that is not closed."""
        world = self.world()
        return bool(world.runners) or any(job.status is JobStatus.QUEUED for job in world.jobs)

    def world(self) -> World:
        """The snapshot of this moment."""
        world = self._observer.world(
            surplus_since=self._surplus_since, last_tried=self._actor.last_tried, draining=self._draining()
        )
        return replace(world, turns=self._turns)

    # The tasks

    async def run(self) -> None:
        """Watch and decide until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_slurm)
            group.start_soon(self._watch_registrations)
            group.start_soon(self._watch_jobs, group)
            group.start_soon(self._decide)

    async def _watch_slurm(self) -> None:
        while True:
            await self._guarded("reading Slurm", self._observer.look_at_slurm)
            self._wake.set()
            await self._until_slurm_is_due()

    async def _until_slurm_is_due(self) -> None:
        """In short naps: the first runner is submitted while nobody expects one, and is not to wait for its listing."""
        began = self._clock.now()
        while True:
            interval = self._cadence.slurm if self._journal.open_records() else self._cadence.slurm_idle
            left = began + interval - self._clock.now()
            if left <= 0:
                return
            await self._clock.sleep(min(left, self._cadence.slurm))

    async def _watch_registrations(self) -> None:
        """Registrations change slowly and are read slowly; hints read them too (see ``_look``)."""
        while True:
            await self._clock.sleep(self._cadence.closing)
            world = self.world()
            closing = {r.record.scope for r in world.runners if r.phase is Phase.ENDED}
            for scope in {runner.record.scope for runner in world.runners} | {o.scope for o in world.orphans}:
                wait = self._cadence.closing if scope in closing else self._cadence.registrations
                if self._clock.now() - self._read_registrations.get(scope, 0.0) >= wait:
                    await self._guarded("reading registrations", self._look_at_registrations, scope)
                    self._wake.set()

    async def _look_at_registrations(self, scope: str) -> None:
        self._read_registrations[scope] = self._clock.now()
        await self._observer.look_at_runners(scope)

    async def _watch_jobs(self, group: anyio.abc.TaskGroup) -> None:
        """Each scope is looked at by one task at a time; hints that come meanwhile wait for the next look."""
        looking: set[str] = set()

        async def look(scope: str, repositories: set[str] | None, runs: set[tuple[str, int]]) -> None:
            try:
                if repositories is None or repositories:
                    await self._guarded("reading GitHub", self._look, scope, repositories)
                if runs:
                    await self._guarded("reading GitHub", self._look_at_runs, scope, runs, repositories)
            finally:
                looking.discard(scope)
                self._wake.set()
                self._hint.set()

        while True:
            await self._hint.wait()
            self._hint = anyio.Event()
            for scope in sorted((self._hinted.keys() | self._hinted_runs.keys()) - looking):
                repositories = self._hinted.pop(scope, set())
                runs = self._hinted_runs.pop(scope, set())
                looking.add(scope)
                group.start_soon(look, scope, repositories, runs)

    async def _look(self, scope: str, repositories: set[str] | None) -> None:
        """Runners before jobs: a job taken between the two readings leaves a runner too many, never one too few."""
        idle = scope not in {record.scope for record in self._journal.open_records()}
        if repositories is None and (idle or scope not in self._read_registrations):
            await self._look_at_registrations(scope)
        await self._observer.look_at_jobs(scope, sorted(repositories) if repositories is not None else None)

    async def _look_at_runs(self, scope: str, runs: set[tuple[str, int]], looked_at: set[str] | None) -> None:
        """Single runs that no look at their repository has just shown. Of many, the repository is the cheaper look."""
        many: set[str] = set()
        single: list[tuple[str, int]] = []
        counts = Counter(repository for repository, _ in runs)
        for repository, run_id in sorted(runs):
            listed = self._observer.lists(scope, repository)
            if listed and (looked_at is None or repository in looked_at):
                continue
            if listed and counts[repository] > MANY_RUNS:
                many.add(repository)
            else:
                single.append((repository, run_id))
        async with anyio.create_task_group() as group:
            if many:
                group.start_soon(self._observer.look_at_jobs, scope, sorted(many))
            for repository, run_id in single:
                group.start_soon(self._observer.look_at_run, scope, repository, run_id)

    async def _decide(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await self._guarded("deciding", self.round)

    async def round(self) -> None:
        """One round: a plan from the present snapshot, carried out."""
        began = self._clock.now()
        policy = self._policy()
        world = self.world()
        self._journey.follow(world, began)
        decided = plan(world, policy, began)
        self._surplus_since, self._turns = decided.surplus_since, decided.turns
        self._journey.explain(decided, began)
        self._ask_for_origins(decided, began)
        self._on_round(world, decided)
        await self._actor.act(decided, world, policy)
        if decided.actions:
            self._on_round(self.world(), decided)
        now = self._clock.now()
        self._bus.emit(
            RoundFinished(
                at=now,
                seconds=now - began,
                jobs=len(decided.waiting),
                runners=len(world.runners),
                actions=len(decided.actions),
            )
        )

    def _ask_for_origins(self, decided: Plan, now: float) -> None:
        """Look where jobs come from that wait for their runs to be known: each again only after a while."""
        due: dict[int, Job] = {w.job.id: w.job for w in decided.waiting if w.cause is Cause.ORIGIN}
        self._asked_origin = {job_id: at for job_id, at in self._asked_origin.items() if job_id in due}
        for job_id, job in due.items():
            if now - self._asked_origin.get(job_id, float("-inf")) >= ASK_AGAIN:
                self._asked_origin[job_id] = now
                self.nudge(Hint(job.scope, job.repository, job.run_id))

    async def _guarded(self, where: str, call: Callable[..., object], *args: object) -> None:
        """The edge of the loop: whatever goes wrong inside is kept as an event, and the next round comes."""
        try:
            await call(*args)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - the edge of the loop
            self._bus.emit(UnexpectedError(at=self._clock.now(), where=where, error=f"{type(error).__name__}: {error}"))
            await self._clock.sleep(1.0)
