"""A scenario, run: the production controller, poll source, client, claim endpoint and journal under a virtual clock."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
from trio.testing import MockClock

from slurm_gha.assembly import PollPace, Queued, assemble
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.handover import HandoverDirectory
from slurm_gha.controller.loop import Cadence
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.runner import name_prefix
from slurm_gha.domain.scope import Scope, ScopeKind, Source
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.github.scaleset.connection import Connection
from slurm_gha.github.scope import ScopeClient
from slurm_gha.observe.events import Bus, Event, RunnerWithdrawn, UnexpectedError
from slurm_gha.store.journal import Journal
from slurm_gha.testing.github.app import create_app as create_github
from slurm_gha.testing.github.faults import Faults
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.runner_routes import routes as runner_routes
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.sending import Sender
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.simulated_slurm import Faults as SlurmFaults
from slurm_gha.testing.simulated_slurm import SimulatedSlurm
from slurm_gha.testing.simulation.determinism import deterministic_scheduling
from slurm_gha.testing.simulation.doors import ServiceDoor, WatchedSlurm
from slurm_gha.testing.simulation.invariants import Watch
from slurm_gha.testing.simulation.mishaps import Mishaps
from slurm_gha.testing.simulation.node import Node, script_for
from slurm_gha.testing.simulation.scenario import EPOCH, INSTALLATION, SCOPE, WORKFLOWS, Scenario
from slurm_gha.web.app import create_app
from slurm_gha.web.health import Health

OWNER = "slurm-gha of the simulation"
TOKEN = "simulated-token"  # noqa: S105 - the simulator's own
# A service that is to die at work does so within these seconds: before, during or after what it does.
LAST_MOMENTS = 0.5
# The probability that a call of a node to the service is lost in rough weather, and that its answer is.
LOSS = 0.005


@dataclass(slots=True)
class Outcome:
    """What a simulated stretch came to. ``digest`` stands for every event in order: equal seeds, equal digests.

    ``first_waits``: of jobs that wait for no other. ``longest_idle``: the oldest that one of our runners was while it
    was online without a job (seconds).
    """

    violations: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    digest: str = ""
    events: int = 0
    jobs: int = 0
    conclusions: dict[str, int] = field(default_factory=dict)
    slurm_jobs: int = 0
    withdrawn: int = 0
    deaths: int = 0
    mishaps: dict[str, int] = field(default_factory=dict)
    lost_calls: int = 0
    waits: list[float] = field(default_factory=list)
    first_waits: list[float] = field(default_factory=list)
    longest_idle: float = 0.0
    counted: int = 0
    uncounted: int = 0
    slurm_calls: dict[str, int] = field(default_factory=dict)
    story: list[str] = field(default_factory=list)

    @property
    def ran(self) -> int:
        """How many jobs ran to an end of their own."""
        return self.conclusions.get("success", 0) + self.conclusions.get("failure", 0)


class Simulation:
    """One scenario in one directory (journal, handed-over configurations).

    ``meanwhile`` runs beside it, for what a scenario does not know of: it may do anything to ``github`` and ``slurm``.
    """

    def __init__(
        self,
        scenario: Scenario,
        directory: Path,
        *,
        keep_story: bool = False,
        meanwhile: Callable[[Simulation], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self.scenario = scenario
        self.directory = directory
        self.outcome = Outcome()
        self._keep_story = keep_story
        self._meanwhile = meanwhile
        self._digest = hashlib.sha256()
        self._fate = scenario.chance("sudden deaths")

    def run(self) -> Outcome:
        """Run to the end of the quiet hours, in virtual time."""
        with deterministic_scheduling(self.scenario.seed):
            anyio.run(self._main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
        return self.outcome

    async def _main(self) -> None:
        scenario = self.scenario
        clock = self.clock = EventLoopClock(EPOCH)
        clock.now()
        self.github = GitHub(
            clock,
            seed=scenario.seed,
            behaviour=Behaviour(
                steal=scenario.steal,
                offline_removal=30 * 86400.0,
                idle_removal=scenario.idle_removal,
                scale_sets=scenario.scale_sets,
            ),
        )
        pushed = scenario.pushed
        blind = pushed is not None and not pushed.catch_up
        self.github.add_token(TOKEN, scopes=("repo", "admin:org") if blind else None)
        if pushed is not None:
            pushed.rain_on(self.github.hooks, EPOCH, "lab", SCOPE)
        for name in scenario.repository_names():
            self.github.add_repository(name, WORKFLOWS)
        self.limits = Limits(clock)
        faults = Faults(
            clock, scenario.github_faults(), seed=scenario.seed, stale=scenario.stale if scenario.rough else 0.0
        )
        app = create_github(
            self.github, faults=faults, limits=self.limits, extra_routes=runner_routes(self.github, poll_seconds=110.0)
        )
        foreign, _ = self.github.mint_runner("orgs/lab", "somebody-elses", ["windows"])
        policy = scenario.policy()
        # Where GitHub drops idle runners by itself, nothing can be learnt from one that is gone.
        watched = {foreign.id} if scenario.idle_removal is None else set()
        self.watch = Watch(policy, self.github, frozenset(watched))
        self.life = anyio.CancelScope()
        self.door = ServiceDoor(scenario.chance("lost calls"), LOSS if scenario.rough else 0.0, self._perhaps_die)
        chance = scenario.chance("nodes")
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=self.github.url) as github_http,
            httpx2.AsyncClient(transport=self.door, base_url="http://service") as service_http,
        ):
            node = Node(
                service=service_http,
                github=github_http,
                clock=clock,
                chance=chance,
                duration=lambda message: chance.uniform(5.0, scenario.longest_job),
                outcome=lambda message: "failed" if chance.random() < 0.1 else "succeeded",
                read=lambda path: Path(path).read_text(),
            )
            self.slurm = SimulatedSlurm(
                clock,
                scenario.nodes(),
                seed=scenario.seed,
                on_start=self._on_start(node),
                prefix="",
                faults=SlurmFaults(
                    unreachable_rate=0.002 if scenario.rough else 0.0,
                    lost_answer_rate=0.02 if scenario.rough else 0.0,
                    appear_delay=0.5 if scenario.rough else 0.0,
                ),
            )
            async with self.slurm, anyio.create_task_group() as group:
                group.start_soon(self._serve, github_http)
                group.start_soon(self._demand)
                if pushed is not None:
                    group.start_soon(Sender(self.github.hooks.outbox, service_http, clock).run)
                group.start_soon(self._slurm_weather)
                self.mishaps = Mishaps(self.slurm, clock, scenario.chance("what befalls"))
                group.start_soon(self.mishaps.befall, scenario.mishap_times())
                group.start_soon(self._inspect)
                if self._meanwhile is not None:
                    group.start_soon(self._meanwhile, self)
                await clock.sleep(scenario.end + scenario.quiet_hours * 3600.0)
                group.cancel_scope.cancel()
        self._conclude()

    def _on_start(self, node: Node) -> Any:
        async def on_start(submission: Submission, job: SlurmJob) -> int:
            signals, either = self.slurm.signals(job.id), anyio.Event()

            async def when(event: anyio.Event) -> None:
                await event.wait()
                either.set()

            async with anyio.create_task_group() as group:
                group.start_soon(when, signals.warned)
                group.start_soon(when, signals.terminated)
                code = await node.run(submission, job, either)
                group.cancel_scope.cancel()
            return code

        return on_start

    async def _serve(self, http: httpx2.AsyncClient) -> None:
        """The service, killed at the scenario's times and at work, and started again a little later."""
        chance = self.scenario.chance("restarts")
        kills = [EPOCH + at for at in self.scenario.kill_times()]
        for life in itertools.count():
            due = next((at for at in kills if at > self.clock.now()), None)
            with anyio.CancelScope() as self.life:
                if due is not None:
                    self.life.deadline = anyio.current_time() + due - self.clock.now()
                await self._live(http, life)
            self.outcome.deaths += 1
            now = self.clock.now()
            up_again = (EPOCH + end - now for begin, end in self.scenario.down if EPOCH + begin <= now < EPOCH + end)
            await self.clock.sleep(max((chance.uniform(1.0, self.scenario.longest_death), *up_again)))

    def _perhaps_die(self) -> None:
        """The service is at work: now and then it is killed just then."""
        if self._fate.random() < self.scenario.sudden and self.clock.now() < EPOCH + self.scenario.end:
            last = anyio.current_time() + self._fate.uniform(0.0, LAST_MOMENTS)
            self.life.deadline = min(self.life.deadline, last)

    async def _live(self, http: httpx2.AsyncClient, life: int) -> None:
        scenario, clock = self.scenario, self.clock
        chance = scenario.chance(f"life {life}")
        pushed, sources = scenario.pushed, scenario.heard_by
        url = f"{self.github.url}/lab"
        scope = Scope(SCOPE, url, self.github.url, ScopeKind.ORGANISATION, "lab", sources=sources)
        client = GitHubClient(http, self.github.url, Secret(TOKEN), clock, jitter=chance.random)
        queues = {SCOPE: ScaleSetClient(Connection(http, client, scope, clock))} if Source.SCALESET in sources else {}
        bus = Bus(self._heard)
        policy = scenario.policy()
        journal = Journal.open(self.directory / "journal.sqlite", synchronous="OFF")
        try:
            edges = Edges(
                cluster=WatchedSlurm(self.slurm, self.watch, clock, self._perhaps_die),
                scopes={SCOPE: ScopeClient(client, scope)},
                journal=journal,
                clock=clock,
                bus=bus,
                script=script_for,
                output_path=lambda name: f"/var/log/{name}.log",
                handover=HandoverDirectory(self.directory / "handover"),
                suffix=lambda: f"{chance.getrandbits(40):010x}",
                token=lambda: Secret(f"{chance.getrandbits(128):032x}"),
                scale_sets=queues,
            )
            pace = PollPace(
                busy_interval=30.0,
                idle_interval=120.0,
                linger=120.0,
                backstop_interval=pushed.backstop if pushed is not None else 600.0,
            )
            assembly = assemble(
                lambda: policy,
                edges,
                pace=pace,
                cadence=Cadence(slurm=10.0, slurm_idle=60.0, registrations=30.0, closing=10.0),
                hooked=pushed.hooked(scope, client) if pushed is not None else None,
                queued=Queued({SCOPE: scope}, queues, OWNER) if queues else None,
            )
            self.door.open(
                create_app(assembly.desk, lambda: Health(clock.now(), ()), lambda: b"", deliveries=assembly.deliveries)
            )
            await assembly.run()
        finally:
            self.door.shut()
            self._open_records = len(journal.open_records())
            journal.close()

    def _heard(self, event: Event) -> None:
        line = repr(event)
        self._digest.update(line.encode())
        self.outcome.events += 1
        if self._keep_story:
            self.outcome.story.append(line)
        if isinstance(event, RunnerWithdrawn):
            self.outcome.withdrawn += 1
        if isinstance(event, UnexpectedError):
            self.outcome.unexpected.append(line)

    async def _demand(self) -> None:
        """Pushes come, and some of their runs are cancelled soon after."""
        chance = self.scenario.chance("cancellations")
        async with anyio.create_task_group() as group:
            for at, repository, cancelled in self.scenario.arrivals():
                await self.clock.sleep(EPOCH + at - self.clock.now())
                for run in self.github.push(repository):
                    if cancelled:
                        group.start_soon(self._cancel_later, repository, run.id, chance.uniform(0.0, 900.0))

    async def _cancel_later(self, repository: str, run_id: int, seconds: float) -> None:
        await self.clock.sleep(seconds)
        run = self.github.runs[run_id]
        if run.status != "completed":
            self.github.cancel_run(repository, run_id)

    async def _slurm_weather(self) -> None:
        """slurmctld is down now and then."""
        for begin, end in self.scenario.outage_windows("Slurm"):
            await self.clock.sleep(max(0.0, EPOCH + begin - self.clock.now()))
            self.slurm.faults.down = True
            await self.clock.sleep(max(1.0, EPOCH + end - self.clock.now()))
            self.slurm.faults.down = False

    async def _inspect(self) -> None:
        seen = 0
        while True:
            await self.clock.sleep(5.0)
            now = self.clock.now()
            for at, slurm_id, name, state in self.slurm.history[seen:]:
                if state == "PENDING":
                    self.watch.submitted(at, slurm_id, name)
            seen = len(self.slurm.history)
            self.watch.look(now, self.slurm.jobs)
            self.github.tick()
            for runner in self.github.runners.values():
                if runner.online and not runner.busy and runner.name.startswith(name_prefix(INSTALLATION)):
                    self.outcome.longest_idle = max(self.outcome.longest_idle, now - runner.created_at)

    def _conclude(self) -> None:
        outcome = self.outcome
        self.watch.at_rest(self.clock.now(), self.slurm.jobs, self._open_records)
        outcome.violations = self.watch.violations
        outcome.mishaps = dict(self.mishaps.hit)
        outcome.lost_calls = self.door.lost
        outcome.digest = self._digest.hexdigest()
        outcome.jobs = len(self.github.jobs)
        for job in self.github.jobs.values():
            key = job.conclusion or job.status
            outcome.conclusions[key] = outcome.conclusions.get(key, 0) + 1
            if job.started_at is not None:
                outcome.waits.append(job.started_at - job.queued_at)
                if not job.needs:
                    outcome.first_waits.append(outcome.waits[-1])
        outcome.slurm_jobs = len({slurm_id for _, slurm_id, _, _ in self.slurm.history})
        outcome.counted = sum(count.counted for count in self.limits.counters.values())
        outcome.uncounted = sum(count.uncounted for count in self.limits.counters.values())
        outcome.slurm_calls = dict(self.slurm.calls)


def simulate(scenario: Scenario, directory: Path, *, keep_story: bool = False) -> Outcome:
    """Run a scenario; the directory must be empty."""
    return Simulation(scenario, directory, keep_story=keep_story).run()


__all__ = ["INSTALLATION", "Outcome", "Simulation", "simulate"]
