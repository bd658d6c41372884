"""What a simulated day is made of: demand, cluster and weather, all drawn from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from slurm_gha.domain.allow import EVERYTHING, Allow
from slurm_gha.domain.labels import normalise
from slurm_gha.domain.pool import Handover, Policy, Pool, SlurmRequest
from slurm_gha.domain.scope import Source
from slurm_gha.domain.warm import NEVER, Hours, Warm
from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.simulation.pushed import Pushed

EPOCH = 1_750_000_000.0
INSTALLATION = "sim"
SCOPE = "lab"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulated stretch of time. Rates are an hour's; shares are probabilities.

    ``quiet_hours`` follow the demand, so that everything can come to rest and be looked at.
    ``kills``: how many times the service is killed and started again; ``sudden``: the probability that it is killed
    just while it works, counted for each call to Slurm that changes something and each call of a node.
    ``outages``: windows in which GitHub or Slurm is down. ``mishaps``: how many times something befalls a running or
    pending Slurm job. ``steal``: GitHub gives a job to any matching runner. ``rough``: single requests fail too, those
    between nodes and service included. ``stale``: in rough weather GitHub's listings lag behind by up to so many
    seconds. ``sources``: where news of demand comes from; ``scale_sets``: how GitHub's scale-set service behaves.
    ``more_faults``: of GitHub, beside the weather. ``longest_death``: seconds that a killed service may stay dead.
    ``idle_removal``: seconds after which GitHub drops a runner that has had no job; None: never.
    ``pushed``: how webhooks are sent and lost, for the source webhook. ``down``: windows in which the service does not
    run, as (begin, end) in seconds from the beginning.
    ``working``: the hours from the beginning in which pushes come (None: always), and in which the pools small and
    large keep ``ready`` runners; these are replaced at the age of ``recycle_after`` seconds.
    ``allow``: what every pool lets run.
    """

    seed: int = 1
    hours: float = 24.0
    quiet_hours: float = 2.0
    repositories: int = 2
    pushes_per_hour: float = 2.0
    cancelled: float = 0.1
    stdin_share: float = 0.0
    kills: int = 12
    sudden: float = 0.002
    outages: int = 4
    mishaps: int = 16
    steal: bool = True
    rough: bool = True
    stale: float = 3.0
    idle_removal: float | None = None
    longest_job: float = 420.0
    longest_death: float = 90.0
    sources: tuple[Source, ...] = (Source.POLL,)
    scale_sets: ScaleSetBehaviour = field(default_factory=ScaleSetBehaviour)
    more_faults: tuple[Fault, ...] = ()
    pushed: Pushed | None = None
    down: tuple[tuple[float, float], ...] = ()
    working: tuple[float, float] | None = None
    ready: int = 0
    recycle_after: float = 1800.0
    allow: Allow = EVERYTHING

    @property
    def heard_by(self) -> frozenset[Source]:
        """The sources; with ``pushed``, the webhook is one of them."""
        return frozenset(self.sources) | ({Source.WEBHOOK} if self.pushed is not None else set())

    @property
    def end(self) -> float:
        """Seconds from the beginning to the end of demand."""
        return self.hours * 3600.0

    def chance(self, what: str) -> random.Random:
        """A generator of its own for each purpose, so that one more draw here changes nothing there."""
        return random.Random(f"{self.seed}/{what}")

    def repository_names(self) -> list[str]:
        return [f"lab/project{number}" for number in range(1, self.repositories + 1)]

    def policy(self) -> Policy:
        """Three pools whose labels overlap, so that label stealing has something to steal."""
        handover = Handover.STDIN if self.chance("handover").random() < self.stdin_share else Handover.CLAIM
        sizes = (("small", 1, 12), ("large", 4, 6))
        pools = [
            Pool(
                name=name,
                scopes=frozenset({SCOPE}),
                labels=normalise(["self-hosted", "linux", name]),
                request=SlurmRequest(cpus=cpus, time_seconds=7200, memory_mb=1024 * cpus, partition="ci"),
                runner_dir="/opt/runner",
                handover=handover,
                max_runners=most,
                idle_timeout=180.0,
                warm=self._warm(),
                allow=self.allow,
            )
            for name, cpus, most in sizes
        ]
        both = Pool(
            name="gpu",
            scopes=frozenset({SCOPE}),
            labels=normalise(["self-hosted", "linux", "small", "gpu"]),
            request=SlurmRequest(cpus=2, time_seconds=7200, memory_mb=2048, partition="ci"),
            runner_dir="/opt/runner",
            max_runners=4,
            idle_timeout=180.0,
            allow=self.allow,
        )
        every = (*pools, both)
        queued = {(SCOPE, pool.name) for pool in every} if Source.SCALESET in self.sources else set()
        return Policy(installation=INSTALLATION, pools=every, max_runners=18, scale_sets=frozenset(queued))

    def _warm(self) -> Warm:
        if self.working is None:
            return NEVER
        begin, end = (datetime.fromtimestamp(EPOCH + 3600.0 * hour, UTC) for hour in self.working)
        hours = Hours(
            frozenset({begin.weekday()}), begin.hour * 60 + begin.minute, end.hour * 60 + end.minute, self.ready
        )
        return Warm(hours=(hours,), recycle_after=self.recycle_after)

    def nodes(self) -> dict[str, int]:
        return {"n1": 8, "n2": 8}

    def arrivals(self) -> Iterator[tuple[float, str, bool]]:
        """(seconds from the beginning, repository, whether it is cancelled soon): a bursty Poisson process."""
        chance, at = self.chance("arrivals"), 60.0 + (self.working[0] * 3600.0 if self.working else 0.0)
        names = self.repository_names()
        while at < min(self.end, self.working[1] * 3600.0 if self.working else self.end):
            for _ in range(chance.choice((1, 1, 1, 2, 6))):
                yield at, chance.choice(names), chance.random() < self.cancelled
            at += chance.expovariate(self.pushes_per_hour / 3600.0)

    def kill_times(self) -> list[float]:
        chance = self.chance("kills")
        times = [chance.uniform(120.0, self.end) for _ in range(self.kills)]
        return sorted([*times, *(begin for begin, _ in self.down)])

    def mishap_times(self) -> list[float]:
        """In seconds since the epoch."""
        chance = self.chance("mishaps")
        return sorted(EPOCH + chance.uniform(120.0, self.end) for _ in range(self.mishaps))

    def outage_windows(self, what: str) -> list[tuple[float, float]]:
        """(begin, end) in seconds from the beginning."""
        chance = self.chance(f"outages of {what}")
        starts = [chance.uniform(600.0, self.end * 0.9) for _ in range(self.outages)]
        return sorted((start, start + chance.uniform(30.0, 1200.0)) for start in starts)

    def github_faults(self) -> list[Fault]:
        """Latency always; in rough weather every kind of single failure; and the outages."""
        rest = r"^\w+ /(repos|orgs)/"
        if Source.SCALESET in self.sources:
            rest = r"^\w+ /(repos|orgs|actions|_services)/"
        faults = [Fault(FaultKind.LATENCY, seconds=0.05, jitter=0.1)]
        if self.rough:
            faults += [
                Fault(FaultKind.ERROR, probability=0.002, route=rest),
                Fault(FaultKind.DROP, probability=0.002, route=rest),
                Fault(FaultKind.MALFORM, probability=0.001, route=rest),
                Fault(FaultKind.TRUNCATE, probability=0.001, route=rest),
                Fault(FaultKind.LOSE, probability=0.02, route=r"^POST .*generate-jitconfig"),
                Fault(FaultKind.HANG, probability=0.0005, route=rest, seconds=120.0),
                Fault(FaultKind.THROTTLE, probability=0.0005, route=rest, retry_after=60.0),
                Fault(FaultKind.THROTTLE, probability=0.0002, route=rest, status=403),
            ]
        for begin, end in self.outage_windows("GitHub"):
            faults.append(Fault(FaultKind.ERROR, route=rest, start=EPOCH + begin, end=EPOCH + end, status=503))
        return [*faults, *self.more_faults]


FAIR_WEATHER = Scenario(kills=0, sudden=0.0, outages=0, mishaps=0, rough=False, cancelled=0.0, steal=False)
"""Nothing goes wrong: what is to go wrong is switched on."""

WORKFLOWS = {
    ".github/workflows/ci.yml": """
name: CI
on: push
jobs:
  build:
    runs-on: [self-hosted, linux, large]
    outputs: {version: "${{ steps.v.outputs.version }}"}
    steps: [{id: v, run: 'echo version=1 >> "$GITHUB_OUTPUT"'}]
  lint:
    runs-on: [self-hosted, small]
    steps: [{run: make lint}]
  test:
    needs: build
    strategy: {fail-fast: false, matrix: {python: ["3.11", "3.12", "3.13"]}}
    runs-on: [self-hosted, Small]
    steps: [{run: make test}]
  accelerate:
    needs: build
    runs-on: [self-hosted, gpu]
    steps: [{run: make gpu}]
""",
}
