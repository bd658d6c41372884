"""A site under a virtual clock: the production controller between a simulated GitHub and a simulated Slurm.

The policy is that of the sample configuration, with room for more runners; intervals are the defaults.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources
from pathlib import Path

import anyio
import httpx2

from slurm_gha.assembly import Assembly, Hooked, PollPace, Queued, assemble
from slurm_gha.config.loading import examine_text
from slurm_gha.config.schema import Settings
from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Cadence
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.scope import Scope, ScopeKind, Source
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.github.scaleset.connection import Connection
from slurm_gha.github.scope import ScopeClient
from slurm_gha.observe.events import Bus, Event, GitHubUnreadable, JobSeen, SlurmUnreadable, UnexpectedError
from slurm_gha.store.journal import Journal
from slurm_gha.testing.github.app import create_app as create_github
from slurm_gha.testing.github.faults import Fault, FaultKind, Faults
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.runner_routes import routes as runner_routes
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.sending import Sender
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.simulated_slurm import SimulatedSlurm
from slurm_gha.testing.simulation.node import Node, script_for
from slurm_gha.testing.simulation.pushed import Pushed
from slurm_gha.web.app import create_app
from slurm_gha.web.health import Health

EPOCH = 1_750_000_000.0
DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
TOKEN = "simulated-token"
ORGANISATION = "example-organisation"
LATENCY = 0.080
MEMORY_MB = 10_000_000
# So many jobs come with each push, a minute apart: GitHub lets 80 runners a minute be made.
PUSHED_TOGETHER = 50
WORKFLOW = """
name: Long
on: push
jobs:
  work:
    strategy: {{fail-fast: false, matrix: {{n: [{numbers}]}}}}
    runs-on: [self-hosted, slurm-runner-small]
    steps: [{{run: sleep 86400}}]
"""


class SiteError(Exception):
    """What was to be measured did not come about."""


@dataclass(slots=True)
class Counts:
    """Calls so far: GitHub's, counted and not, and Slurm's, by command."""

    counted: int = 0
    uncounted: int = 0
    slurm: dict[str, int] = field(default_factory=dict)

    def since(self, before: Counts) -> Counts:
        slurm = {name: number - before.slurm.get(name, 0) for name, number in self.slurm.items()}
        return Counts(self.counted - before.counted, self.uncounted - before.uncounted, slurm)

    @property
    def slurm_total(self) -> int:
        return sum(self.slurm.values())


class Site:
    """The production controller between a simulated GitHub and a simulated Slurm."""

    def __init__(self, clock: EventLoopClock, github: GitHub, limits: Limits, slurm: SimulatedSlurm) -> None:
        self.clock = clock
        self.github = github
        self._limits, self._slurm = limits, slurm
        self.troubles: list[str] = []
        self.seen_at: dict[int, float] = {}

    def heard(self, event: Event) -> None:
        if isinstance(event, JobSeen):
            self.seen_at.setdefault(event.job_id, event.at)
        if isinstance(event, UnexpectedError | GitHubUnreadable | SlurmUnreadable):
            self.troubles.append(repr(event))

    def by_route(self) -> dict[str, int]:
        """GitHub's counted calls so far, by route."""
        return {route: count.counted for (_, route), count in self._limits.counters.items()}

    def counts(self) -> Counts:
        """The counts of now; raises SiteError if anything went wrong on the way, for then they mean nothing."""
        if self.troubles:
            raise SiteError(self.troubles[0])
        total = self._limits.totals()
        return Counts(total.counted, total.uncounted, dict(self._slurm.calls))

    async def all_busy(self, runners: int) -> None:
        """Wait until so many runners work, and GitHub and the service have had time to take note of it."""
        for _ in range(120):
            if self._busy() >= runners:
                await self.clock.sleep(2 * MINUTE)
                self.must_be_busy(runners)
                return
            await self.clock.sleep(MINUTE)
        raise SiteError(f"after two hours {self._busy()} runners of {runners} work; {self.troubles[:1]}")

    def must_be_busy(self, runners: int) -> None:
        if self._busy() != runners:
            raise SiteError(f"{self._busy()} runners of {runners} work")

    def _busy(self) -> int:
        return sum(job.status == "in_progress" for job in self.github.jobs.values())


Demand = Callable[[GitHub, EventLoopClock], Coroutine[None, None, None]]


@asynccontextmanager
async def site(
    directory: Path,
    repositories: int,
    runners: int,
    *,
    demand: Demand | None = None,
    duration: float = DAY,
    sources: Collection[Source] = (Source.POLL,),
) -> AsyncIterator[Site]:
    """A site whose organisation has so many repositories, and room for so many runners; jobs take ``duration`` seconds.

    ``demand`` pushes; without it, long jobs for all the runners come to the first repository. ``sources``: where the
    service hears of jobs.
    """
    chance = random.Random(1)
    clock = EventLoopClock(EPOCH)
    clock.now()
    # The runners' own time-outs are put off: at each of them the simulated GitHub wakes every runner that waits.
    behaviour = Behaviour(lease=2 * DAY, session_timeout=2 * DAY, assignment_timeout=2 * DAY)
    github = GitHub(clock, behaviour=behaviour)
    github.add_token(TOKEN)
    for number in range(repositories):
        github.add_repository(f"{ORGANISATION}/project{number}", {})
    limits, faults = Limits(clock), Faults(clock, [Fault(FaultKind.LATENCY, seconds=LATENCY)])
    app = create_github(github, faults=faults, limits=limits, extra_routes=runner_routes(github))
    settings = sample_settings()
    async with AsyncExitStack() as stack:
        github_http = await stack.enter_async_context(
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=github.url)
        )
        client = GitHubClient(github_http, github.url, Secret(TOKEN), clock, jitter=chance.random)
        scope = Scope(
            "example",
            f"{github.url}/{ORGANISATION}",
            github.url,
            ScopeKind.ORGANISATION,
            ORGANISATION,
            sources=frozenset(sources),
        )
        pushed = Pushed() if Source.WEBHOOK in sources else None
        if pushed is not None:
            pushed.rain_on(github.hooks, EPOCH, ORGANISATION, scope.name)
        queues = {}
        if Source.SCALESET in sources:
            queues[scope.name] = ScaleSetClient(Connection(github_http, client, scope, clock))

        async def on_start(submission: Submission, job: SlurmJob) -> int:
            return await node.run(submission, job, slurm.signals(job.id).terminated)

        slurm = SimulatedSlurm(clock, {"n1": max(16, runners)}, memory_mb=MEMORY_MB, on_start=on_start)
        there = Site(clock, github, limits, slurm)
        journal = stack.enter_context(Journal.open(directory / "journal.sqlite", synchronous="OFF"))
        edges = Edges(
            cluster=slurm,
            scopes={"example": ScopeClient(client, scope)},
            journal=journal,
            clock=clock,
            bus=Bus(there.heard),
            script=script_for,
            output_path=lambda name: f"/var/log/{name}.log",
            handover=None,
            suffix=lambda: f"{chance.getrandbits(40):010x}",
            token=lambda: Secret(f"{chance.getrandbits(128):032x}"),
            submit_concurrency=settings.slurm.submit_concurrency,
            scale_sets=queues,
        )
        policy = _policy(settings, runners)
        if queues:
            policy = replace(policy, scale_sets=frozenset((scope.name, pool.name) for pool in policy.pools))
        assembly = _assembled(
            settings,
            policy,
            edges,
            hooked=pushed.hooked(scope, client) if pushed is not None else None,
            queued=Queued({scope.name: scope}, queues, "benchmark") if queues else None,
        )
        service = create_app(assembly.desk, lambda: Health(clock.now(), ()), bytes, deliveries=assembly.deliveries)
        transport = httpx2.ASGITransport(app=service)
        service_http = await stack.enter_async_context(
            httpx2.AsyncClient(transport=transport, base_url="http://service")
        )
        node = Node(
            service=service_http,
            github=github_http,
            clock=clock,
            chance=chance,
            duration=lambda message: duration,
            outcome=lambda message: "succeeded",
            read=lambda path: Path(path).read_text(),
        )
        await stack.enter_async_context(slurm)
        async with anyio.create_task_group() as group:
            group.start_soon(assembly.run)
            if pushed is not None:
                group.start_soon(Sender(github.hooks.outbox, service_http, clock).run)
            group.start_soon(demand or partial(_push, jobs=runners), github, clock)
            yield there
            group.cancel_scope.cancel()


def _assembled(
    settings: Settings, policy: Policy, edges: Edges, *, hooked: Hooked | None, queued: Queued | None
) -> Assembly:
    """As the service does it."""
    poll, interval = settings.poll, settings.slurm.interval
    return assemble(
        lambda: policy,
        edges,
        pace=PollPace(poll.busy_interval, poll.idle_interval, poll.linger),
        cadence=Cadence(slurm=interval, slurm_idle=max(30.0, interval)),
        hooked=hooked,
        queued=queued,
    )


def sample_settings() -> Settings:
    """The sample configuration as it is shipped."""
    text = resources.files("slurm_gha.config").joinpath("sample.toml").read_text(encoding="utf-8")
    settings = examine_text(text, "sample.toml").settings
    if settings is None:
        raise SiteError("the sample configuration does not hold")
    return settings


def _policy(settings: Settings, runners: int) -> Policy:
    """The sample's policy, with a small pool that is large enough; its jobs may take a day."""
    policy = settings.policy()
    first, *rest = policy.pools
    request = replace(first.request, time_seconds=int(2 * DAY))
    first = replace(first, max_runners=max(first.max_runners, runners), request=request)
    return replace(policy, pools=(first, *rest), max_runners=max(policy.max_runners, runners))


async def _push(github: GitHub, clock: EventLoopClock, jobs: int) -> None:
    """Long jobs for the first repository, some each minute."""
    for begin in range(0, jobs, PUSHED_TOGETHER):
        numbers = ", ".join(map(str, range(begin, min(begin + PUSHED_TOGETHER, jobs))))
        workflow = {".github/workflows/long.yml": WORKFLOW.format(numbers=numbers)}
        github.push(f"{ORGANISATION}/project0", files=workflow)
        await clock.sleep(MINUTE)
