"""Worlds as Hypothesis draws them: every mixture of what journal, Slurm and GitHub may say, the odd ones included."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from hypothesis import strategies as st

from slurm_gha.domain.allow import EVERYTHING, Allow
from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.labels import Labels, satisfies
from slurm_gha.domain.pool import Handover, Policy, Pool, Share, SlurmRequest
from slurm_gha.domain.runner import Registration, Runner, RunnerRecord, runner_name
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.warm import Warm
from slurm_gha.domain.world import OrphanRegistration, ScopeView, SlurmView, Trouble, TroubleKind, World

NOW = 1_000_000.0
INSTALLATION = "abc"
PUSH, FORKED = Origin("push", "main", "octocat", fork=False), Origin("pull_request", "main", "mallory", fork=True)
SCOPES = ("alpha", "beta")
POOLS = ("small", "large", "gpu")
LABELS = ("linux", "big", "gpu", "self-hosted")
KNOWN_STATES = (
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "SUSPENDED",
    "COMPLETING",
    "REQUEUE_HOLD",
    "COMPLETED",
    "NODE_FAIL",
)
ENDED_STATES = ("CANCELLED by 1000", "TIMEOUT", "PREEMPTED", "OUT_OF_MEMORY", "GONE")
UNKNOWN_STATES = ("TELEPORTING", "", "??")
STATES = KNOWN_STATES + ENDED_STATES + UNKNOWN_STATES
REASONS = ("None", "Priority", "Resources", "JobHeldAdmin", "launch failed requeued held", "(null)")
ERRORS = (None, None, None, "HTTP 502")
# Just before and just after every duration that the policy below and the planner know.
AGES = (0.0, 1.0, 4.0, 6.0, 9.0, 11.0, 29.0, 31.0, 59.0, 61.0, 119.0, 121.0, 599.0, 601.0, 2399.0, 2401.0, 90_000.0)

label_sets = st.frozensets(st.sampled_from(LABELS), max_size=3)
wide_label_sets = st.frozensets(st.sampled_from(LABELS), min_size=1)

Item = TypeVar("Item")


class Dice:
    """Choices out of drawn bytes, one each: quicker than a draw for every field; 0 is the plainest."""

    def __init__(self, draw: st.DrawFn, throws: int) -> None:
        self._bytes = iter(draw(st.binary(min_size=throws, max_size=throws)))

    def pick(self, *items: Item) -> Item:
        return items[next(self._bytes) % len(items)]

    def once_in(self, times: int) -> bool:
        return next(self._bytes) % times == times - 1

    def past(self) -> float:
        return NOW - self.pick(*AGES)

    def maybe_past(self, times: int = 2) -> float | None:
        """A moment, once in so many times; else None."""
        moment = self.past()
        return moment if self.once_in(times) else None

    def labels(self) -> Labels:
        bits = next(self._bytes)
        return frozenset(label for place, label in enumerate(LABELS) if bits >> place & 1)


@dataclass(frozen=True, slots=True)
class Scene:
    """A world and the policy that it is planned under, at ``NOW``."""

    world: World
    policy: Policy


def _pool(dice: Dice, name: str) -> Pool:
    return Pool(
        name=name,
        scopes=frozenset(dice.pick(SCOPES, ("alpha",), ("beta",))),
        labels=dice.labels() | {"linux"},
        request=SlurmRequest(cpus=1, time_seconds=600),
        runner_dir="/opt/runner",
        handover=dice.pick(*Handover),
        max_runners=dice.pick(4, 3, 2, 1, 0),
        idle_timeout=120.0,
        allow=dice.pick(EVERYTHING, Allow(), Allow(events=("push",), forks=True), Allow(repositories=("octo/re*",))),
        max_runners_per_repository=dice.pick(None, None, 1, 2),
        warm=Warm(dice.pick(0, 0, 1, 2), recycle_after=900.0),
    )


def _job(dice: Dice, number: int) -> Job:
    return Job(
        id=number,
        scope=dice.pick(*SCOPES, *SCOPES, "elsewhere"),
        repository=dice.pick("octo/repo", "octo/repo", "octo/other"),
        run_id=dice.pick(1, 1, 1, 0),
        run_attempt=1,
        name=f"job {number}",
        workflow="ci",
        labels=dice.labels() & dice.labels(),
        status=dice.pick(*(JobStatus.QUEUED,) * 8, *JobStatus),
        created_at=dice.past(),
        origin=dice.pick(PUSH, PUSH, FORKED, None),
    )


def _slurm_job(dice: Dice, number: int, name: str) -> SlurmJob:
    return SlurmJob(
        id=number,
        name=name,
        state=dice.pick(*STATES),
        reason=dice.pick(*REASONS),
        submitted_at=dice.maybe_past(),
        started_at=dice.maybe_past(),
        ended_at=dice.maybe_past(),
        exit_code=dice.pick("", "0:0", "1:0"),
    )


def _runner(dice: Dice, number: int, policy: Policy) -> Runner:
    """Any mixture of record, Slurm job and registration, whether or not it could come about."""
    pool = dice.pick(*(pool.name for pool in policy.pools), "retired")
    configured = policy.pools_by_name.get(pool)
    name = runner_name(INSTALLATION, pool, f"{number:04d}")
    labels = configured.labels if configured else dice.labels() | {"linux"}
    slurm = _slurm_job(dice, number, name) if dice.pick(True, True, True, False) else None
    record = RunnerRecord(
        name=name,
        scope=dice.pick(*SCOPES, *SCOPES, "removed"),
        pool=pool,
        labels=labels,
        handover=dice.pick(*Handover),
        intended_at=dice.past(),
        slurm_id=number if slurm is not None or dice.once_in(2) else None,
        claimed_at=dice.maybe_past(),
        minted_at=dice.maybe_past(),
        registration_id=dice.pick(None, number),
        repository=dice.pick("octo/repo", "octo/other", None),
        online_at=dice.maybe_past(),
        busy_at=dice.maybe_past(3),
        finished_at=dice.maybe_past(5),
        withdrawn_at=dice.maybe_past(4),
        deregistered_at=dice.maybe_past(5),
    )
    registration = Registration(number, name, dice.pick(False, True), dice.once_in(3), labels)
    return Runner(
        record=record,
        slurm=slurm,
        registration=dice.pick(None, registration),
        taken_job=dice.pick(None, None, None, None, 99),
    )


def _name(dice: Dice) -> str:
    """A name that stands in Slurm or on GitHub: ours, another installation's, anybody's."""
    prefix = dice.pick(f"sg-{INSTALLATION}-", f"sg-{INSTALLATION}-", f"sg-{INSTALLATION}d-", "sg-ab-", "", "SG-ABC-")
    return prefix + dice.pick("small-x1", "small-x2", "large-x1", "abc")


def _orphan(dice: Dice, number: int) -> OrphanRegistration:
    registration = Registration(number, _name(dice), dice.pick(False, True), dice.once_in(3))
    return OrphanRegistration(dice.pick(*SCOPES), registration, dice.past())


def _scope_view(dice: Dice, name: str) -> ScopeView:
    never = None if dice.once_in(8) else dice.past()
    return ScopeView(name, never, dice.past(), dice.pick(*ERRORS), dice.pick(*ERRORS))


def _trouble(dice: Dice, pool: str) -> Trouble:
    until = NOW + dice.pick(-10.0, 30.0, 0.0, -100.0)
    return Trouble(pool, dice.pick(1, 2, 7), until, "invalid account", dice.pick(*TroubleKind))


@st.composite
def scenes(draw: st.DrawFn, *, max_jobs: int = 8, max_runners: int = 7) -> Scene:
    """A world of a few jobs and runners, and a policy of one to three pools."""
    dice = Dice(draw, 192)
    policy = Policy(
        installation=INSTALLATION,
        pools=tuple(_pool(dice, name) for name in POOLS[: dice.pick(1, 2, 3)]),
        max_runners=dice.pick(1000, 1000, 5, 2, 0),
        max_runners_per_repository=dice.pick(None, None, None, 2),
        shares={name: Share(dice.pick(1.0, 3.0), dice.pick(None, None, 2)) for name in SCOPES},
    )
    numbers = range(draw(st.integers(0, max_runners)))
    runners = tuple(_runner(Dice(draw, 64), 100 + number, policy) for number in numbers)
    jobs = tuple(_job(Dice(draw, 16), number) for number in range(1, 1 + draw(st.integers(0, max_jobs))))
    strays = tuple(_slurm_job(dice, 500 + number, _name(dice)) for number in range(dice.pick(0, 0, 1, 3)))
    orphans = tuple(_orphan(dice, 700 + number) for number in range(dice.pick(0, 0, 1, 3)))
    known = [runner.name for runner in runners]
    tried = [*known, *(stray.name for stray in strays), *(orphan.registration.name for orphan in orphans)]
    world = World(
        jobs=jobs,
        runners=runners,
        scopes=MappingProxyType({name: _scope_view(dice, name) for name in SCOPES}),
        slurm=SlurmView(None if dice.once_in(8) else dice.past(), dice.pick(*ERRORS)),
        strays=strays,
        orphans=orphans,
        troubles=MappingProxyType({pool.name: _trouble(dice, pool.name) for pool in policy.pools if dice.once_in(4)}),
        surplus_since=MappingProxyType({name: dice.past() for name in known if dice.once_in(2)}),
        last_tried=MappingProxyType({name: dice.past() for name in tried if dice.once_in(4)}),
        draining=dice.once_in(6),
    )
    return Scene(world, policy)


def readable(scene: Scene) -> Scene:
    """The same scene with everything read a moment ago and nothing in the way."""
    views = {name: ScopeView(name, NOW - 1.0, NOW - 1.0) for name in scene.world.scopes}
    world = replace(
        scene.world,
        scopes=MappingProxyType(views),
        slurm=SlurmView(NOW - 1.0),
        troubles=MappingProxyType({}),
        draining=False,
    )
    return Scene(world, scene.policy)


def reference_maximum(jobs: list[Labels], runners: list[Labels], forbidden: Collection[tuple[int, int]] = ()) -> int:
    """The size of a maximum matching, found vertex by vertex (Kuhn): slow, and unlike ours."""
    holder: dict[int, int] = {}

    def place(job: int, seen: set[int]) -> bool:
        for runner, offered in enumerate(runners):
            if runner in seen or not satisfies(offered, jobs[job]) or (job, runner) in forbidden:
                continue
            seen.add(runner)
            if runner not in holder or place(holder[runner], seen):
                holder[runner] = job
                return True
        return False

    return sum(place(job, set()) for job in range(len(jobs)))
