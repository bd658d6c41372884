"""Who comes first where room is scarce: shares by weight in the long run, and nobody waits for ever."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Handover, Policy, Pool, Share, SlurmRequest
from slurm_gha.domain.runner import Runner, RunnerRecord
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import ScopeView, SlurmView, World
from slurm_gha.planner.actions import Cause, Plan, Submit
from slurm_gha.planner.fairness import ELDERS_TURN
from slurm_gha.planner.plan import plan

NOW = 1_000_000.0
LABELS = frozenset({"linux"})
SCOPES = ("alpha", "beta")


def pool(name: str = "small", *labels: str, most: int = 4, each: int | None = None) -> Pool:
    request = SlurmRequest(cpus=1, time_seconds=600)
    offered = frozenset(labels) or LABELS
    return Pool(name, frozenset(SCOPES), offered, request, "/r", max_runners=most, max_runners_per_repository=each)


@dataclass
class Site:
    """A site where each runner has the job that it was started for, until the test ends it."""

    policy: Policy
    waiting: dict[int, Job] = field(default_factory=dict)
    running: dict[int, tuple[str, Job]] = field(default_factory=dict)
    turns: Mapping[str, int] = field(default_factory=dict)
    made: int = 0
    clock: float = NOW - 100_000.0

    def arrive(self, scope: str = "alpha", repository: str = "lab/a", labels: frozenset[str] = LABELS) -> Job:
        self.made += 1
        self.clock += 1.0
        job = Job(self.made, scope, repository, 1, 1, "j", "ci", labels, JobStatus.QUEUED, self.clock)
        self.waiting[job.id] = job
        return job

    def round(self) -> tuple[Plan, list[Job]]:
        """One plan, carried out: every new runner has its job at once."""
        runners = [self._runner(number, name, job) for number, (name, job) in self.running.items()]
        busy = (replace(job, status=JobStatus.IN_PROGRESS) for _, job in self.running.values())
        world = World(
            jobs=(*self.waiting.values(), *busy),
            runners=tuple(runners),
            scopes=MappingProxyType({name: ScopeView(name, NOW, NOW) for name in SCOPES}),
            slurm=SlurmView(NOW),
            turns=self.turns,
        )
        decided = plan(world, self.policy, NOW)
        self.turns = decided.turns
        admitted = []
        for action in decided.actions:
            if isinstance(action, Submit) and action.job is not None:
                self.running[action.job.id] = (action.pool, self.waiting.pop(action.job.id))
                admitted.append(action.job)
        return decided, admitted

    def end(self, number: int) -> None:
        del self.running[number]

    def _runner(self, number: int, name: str, job: Job) -> Runner:
        record = RunnerRecord(
            f"sg-abc-{name}-{number}",
            job.scope,
            name,
            LABELS,
            Handover.CLAIM,
            NOW - 60,
            slurm_id=number,
            busy_at=NOW - 30,
        )
        return Runner(record, SlurmJob(number, record.name, "RUNNING"), None, job.id)


@given(st.integers(1, 4), st.lists(st.integers(0, 3), max_size=60))
def test_one_repository_is_served_oldest_first(most: int, arrivals: list[int]) -> None:
    site, expected = Site(Policy("abc", (pool(most=most),))), deque[Job]()
    for many in arrivals:
        expected.extend(site.arrive() for _ in range(many))
        for job in site.round()[1]:
            assert job == expected.popleft()
        if site.running:
            site.end(min(site.running))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(0, 4), st.sampled_from(["alpha", "beta"]))
def test_nobody_waits_for_ever_whoever_else_arrives(seed: int, most: int, older: int, scope: str) -> None:
    """Newcomers with nothing yet arrive all the time, and the job's own repository has a runner that never ends."""
    chance = Random(seed)
    site = Site(Policy("abc", (pool(most=most + 1),), shares={"alpha": Share(100.0)}))
    site.arrive(scope, "lab/victim")
    site.round()
    lasting = set(site.running)
    for number in range(older):
        site.arrive(scope, f"lab/older{number}")
    victim = site.arrive(scope, "lab/victim")
    admissions = 0
    while victim.id in site.waiting:
        for _ in range(most + 1):
            site.arrive(chance.choice(SCOPES), f"lab/new{site.made}")
        admissions += len(site.round()[1])
        for number in [n for n in site.running if n not in lasting and chance.random() < 0.7]:
            site.end(number)
        assert admissions <= ELDERS_TURN * (older + 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1.0, 2.0, 3.0, 5.0]))
def test_weights_are_kept_in_the_long_run(seed: int, weight: float) -> None:
    chance, had = Random(seed), Counter[str]()
    site = Site(Policy("abc", (pool(most=24),), shares={"alpha": Share(weight), "beta": Share(1.0)}))
    for _ in range(60):
        for scope, many in (("alpha", 30), ("beta", 90)):  # however many more jobs the one has
            waiting = sum(job.scope == scope for job in site.waiting.values())
            for _ in range(many - waiting):
                site.arrive(scope, f"lab/{chance.randrange(3)}")
        site.round()
        had.update(job.scope for _, job in site.running.values())
        for number in [n for n in site.running if chance.random() < 0.3]:
            site.end(number)
    share = had["alpha"] / had.total()
    assert abs(share - weight / (weight + 1)) < 0.12


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_repositories_of_a_scope_share_alike(seed: int) -> None:
    chance, had = Random(seed), Counter[str]()
    site = Site(Policy("abc", (pool(most=12),)))
    for _ in range(60):
        for name, many in (("lab/matrix", 20), ("lab/small", 4), ("lab/other", 4)):
            waiting = sum(job.repository == name for job in site.waiting.values())
            for _ in range(many - waiting):
                site.arrive("alpha", name)
        site.round()
        had.update(job.repository for _, job in site.running.values())
        for number in [n for n in site.running if chance.random() < 0.3]:
            site.end(number)
    assert all(abs(had[name] / had.total() - 1 / 3) < 0.1 for name in ("lab/matrix", "lab/small", "lab/other"))


def test_each_limit_is_named() -> None:
    shares = {"beta": Share(max_runners=1)}
    under = Policy(
        "abc", (pool(most=3, each=1), pool("large", "big", most=9)), max_runners_per_repository=2, shares=shares
    )
    big = frozenset({"big"})
    site = Site(under)
    jobs = {
        "lab/a": [site.arrive("alpha", "lab/a"), site.arrive("alpha", "Lab/A")],
        "lab/b": [site.arrive("alpha", "lab/b", big) for _ in range(3)],
        "beta": [site.arrive("beta", "x/y"), site.arrive("beta", "x/z")],
    }
    decided, _ = site.round()
    told = {entry.job.id: (entry.cause, entry.reason) for entry in decided.waiting}
    assert [told[job.id] for job in jobs["lab/a"]][1] == (
        Cause.REPOSITORY_LIMIT,
        "repository Lab/A is at its limit of 1 runners in pool small",
    )
    assert told[jobs["lab/b"][2].id] == (Cause.REPOSITORY_LIMIT, "repository lab/b is at its limit of 2 runners")
    assert told[jobs["beta"][1].id] == (Cause.SCOPE_LIMIT, "scope beta is at its limit of 1 runners")
    site.arrive("alpha", "lab/c")
    last = [site.arrive("alpha", "lab/d"), site.arrive("alpha", "lab/e")]
    decided, _ = site.round()
    (limit,) = {entry.reason for entry in decided.waiting if entry.job in last and entry.cause is Cause.POOL_LIMIT}
    assert limit == "pool small is at its limit of 3 runners"


def test_a_runner_counts_to_the_repository_whose_job_it_took() -> None:
    site = Site(Policy("abc", (pool(most=9),), max_runners_per_repository=1))
    mine = site.arrive("alpha", "lab/thief")
    site.round()
    name, job = site.running[mine.id]
    site.running[mine.id] = (name, replace(job, repository="lab/other"))
    again = site.arrive("alpha", "lab/thief")
    assert site.round()[1] == [again]
