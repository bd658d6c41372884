"""A world played with plan() as the only decision maker: in the end everything is served."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import Labels
from slurm_gha.domain.pool import Policy, Pool, SlurmRequest
from slurm_gha.domain.runner import Registration, Runner, RunnerRecord
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.world import OrphanRegistration, ScopeView, SlurmView, Trouble, World
from slurm_gha.planner.actions import Adopt, CancelStray, Deregister, Forget, Submit, Withdraw
from slurm_gha.planner.plan import needed, plan

SCOPE = "alpha"
EPOCH = 1_000_000.0
JOB_KINDS = (frozenset({"l1"}), frozenset({"l1", "l2"}), frozenset({"l2"}), frozenset({"nobody-has-this"}))


def _pool(name: str, *labels: str, limit: int) -> Pool:
    request = SlurmRequest(cpus=1, time_seconds=600)
    return Pool(name, frozenset({SCOPE}), frozenset(labels), request, "/opt/runner", max_runners=limit)


POLICY = Policy("abc", (_pool("one", "l1", limit=3), _pool("both", "l1", "l2", limit=4)), max_runners=6)


@dataclass(slots=True)
class Truth:
    """One runner as it really is. ``state``: of its Slurm job, None if sbatch never took it.

    ``job``: what it works on. ``hangs``: it never comes online, or its Slurm job never ends by itself.
    """

    name: str
    slurm_id: int
    made_for: int
    labels: Labels
    state: str | None
    started_at: float | None = None
    ended_at: float | None = None
    registered: bool = False
    online: bool = False
    job: int | None = None
    hangs: bool = False


@dataclass(slots=True)
class Seen:
    """The last listings, and when they began."""

    jobs: tuple[Job, ...] = ()
    jobs_at: float | None = None
    jobs_error: str | None = None
    registrations: dict[str, Registration] = field(default_factory=dict)
    registrations_at: float | None = None
    registrations_error: str | None = None
    slurm: dict[str, SlurmJob] = field(default_factory=dict)
    slurm_at: float | None = None
    slurm_error: str | None = None
    orphans: dict[str, float] = field(default_factory=dict)


class Allocation(RuleBasedStateMachine):
    """GitHub and Slurm play as they like; listings are as old as the rules let them be."""

    def __init__(self) -> None:
        super().__init__()
        self.now = EPOCH
        self.jobs: dict[int, Job] = {}
        self.truth: dict[str, Truth] = {}
        self.records: dict[str, RunnerRecord] = {}
        self.seen = Seen()
        self.surplus_since: dict[str, float] = {}
        self.last_tried: dict[str, float] = {}
        self.troubles: dict[str, Trouble] = {}
        self.submitted = 0
        # What may cost a runner beyond one for each job.
        self.excuses = 0

    # What happens out there

    @rule(labels=st.sampled_from(JOB_KINDS), many=st.integers(1, 3))
    def jobs_arrive(self, labels: Labels, many: int) -> None:
        for _ in range(many):
            number = len(self.jobs) + 1
            self.jobs[number] = Job(
                number, SCOPE, "octo/repo", 1, 1, f"job {number}", "ci", labels, JobStatus.QUEUED, self.now
            )

    @precondition(lambda self: self._queued())
    @rule(data=st.data())
    def a_job_is_cancelled(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self._queued()))
        self.jobs[number] = replace(self.jobs[number], status=JobStatus.COMPLETED, conclusion="cancelled")
        self.excuses += 1

    @precondition(lambda self: self._in_state("PENDING"))
    @rule(data=st.data())
    def a_slurm_job_starts_and_claims(self, data: st.DataObject) -> None:
        self._start(data.draw(st.sampled_from(self._in_state("PENDING"))))

    @precondition(lambda self: any(t.registered and not t.online for t in self.truth.values()))
    @rule(data=st.data())
    def a_runner_comes_online(self, data: st.DataObject) -> None:
        names = [t.name for t in self.truth.values() if t.registered and t.state == "RUNNING" and not t.hangs]
        if names:
            self.truth[data.draw(st.sampled_from(names))].online = True

    @precondition(lambda self: self._assignable())
    @rule(data=st.data())
    def github_assigns_as_it_likes(self, data: st.DataObject) -> None:
        self._assign(*data.draw(st.sampled_from(self._assignable())))

    @precondition(lambda self: any(t.job for t in self.truth.values()))
    @rule(data=st.data())
    def a_job_finishes(self, data: st.DataObject) -> None:
        self._finish(data.draw(st.sampled_from([t.name for t in self.truth.values() if t.job is not None])))

    @precondition(lambda self: self._in_state("RUNNING") + self._in_state("PENDING"))
    @rule(data=st.data(), state=st.sampled_from(("NODE_FAIL", "PREEMPTED", "CANCELLED by 0", "FAILED")))
    def a_slurm_job_dies(self, data: st.DataObject, state: str) -> None:
        """Its registration stays behind; a job it had is failed by GitHub."""
        truth = self.truth[data.draw(st.sampled_from(self._in_state("RUNNING") + self._in_state("PENDING")))]
        self._end(truth, state)
        if truth.job is not None:
            self.jobs[truth.job] = replace(self.jobs[truth.job], status=JobStatus.COMPLETED, conclusion="failure")
            truth.job = None
        else:
            self.excuses += 1

    @precondition(lambda self: self._in_state("PENDING"))
    @rule(data=st.data())
    def a_slurm_job_is_held(self, data: st.DataObject) -> None:
        self.truth[data.draw(st.sampled_from(self._in_state("PENDING")))].state = "REQUEUE_HOLD"
        self.excuses += 1

    @precondition(lambda self: self._in_state("PENDING") + self._in_state("RUNNING"))
    @rule(data=st.data())
    def a_runner_hangs(self, data: st.DataObject) -> None:
        truth = self.truth[data.draw(st.sampled_from(self._in_state("PENDING") + self._in_state("RUNNING")))]
        if not truth.hangs:
            truth.hangs = True
            self.excuses += 1

    # What the service does

    @initialize(labels=st.sampled_from(JOB_KINDS[:2]), many=st.integers(1, 5))
    def the_day_begins(self, labels: Labels, many: int) -> None:
        self.jobs_arrive(labels, many)
        self.the_service_is_up_to_date(3.0)

    @rule(seconds=st.sampled_from((1.0, 6.0, 20.0, 90.0)))
    def the_service_is_up_to_date(self, seconds: float) -> None:
        self.now += seconds
        self.slurm_is_read(fails=False)
        self.registrations_are_read(fails=False)
        self.jobs_are_read(fails=False)
        self._round(["ok"] * 6)

    @rule(seconds=st.sampled_from((0.5, 3.0, 8.0, 20.0, 70.0, 400.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(fails=st.sampled_from((False, False, True)))
    def jobs_are_read(self, fails: bool) -> None:
        self.seen.jobs_error = "HTTP 502" if fails else None
        if not fails:
            self.seen.jobs = tuple(j for j in self.jobs.values() if j.status is not JobStatus.COMPLETED)
            self.seen.jobs_at = self.now
            for job in self.seen.jobs:
                if job.runner_name in self.records and self.records[job.runner_name].busy_at is None:
                    self._note(job.runner_name, busy_at=self.now)

    @rule(fails=st.sampled_from((False, False, True)))
    def registrations_are_read(self, fails: bool) -> None:
        self.seen.registrations_error = "HTTP 502" if fails else None
        if fails:
            return
        self.seen.registrations_at = self.now
        self.seen.registrations = {
            t.name: Registration(t.slurm_id, t.name, t.online, t.job is not None, t.labels)
            for t in self.truth.values()
            if t.registered
        }
        for registration in self.seen.registrations.values():
            record = self.records.get(registration.name)
            if record is not None and registration.online and record.online_at is None:
                self._note(record.name, online_at=self.now)
                self._recovered(record.pool)
            if record is not None and registration.busy and record.busy_at is None:
                self._note(record.name, busy_at=self.now)
        ownerless = {name for name in self.seen.registrations if name not in self.records}
        self.seen.orphans = {name: self.seen.orphans.get(name, self.now) for name in ownerless}

    @rule(fails=st.sampled_from((False, False, True)))
    def slurm_is_read(self, fails: bool) -> None:
        self.seen.slurm_error = "slurmctld does not answer" if fails else None
        if fails:
            return
        self.seen.slurm_at = self.now
        self.seen.slurm = {
            t.name: SlurmJob(t.slurm_id, t.name, t.state, started_at=t.started_at, ended_at=t.ended_at)
            for t in self.truth.values()
            if t.state is not None
        }
        for name, job in self.seen.slurm.items():
            if name in self.records and self.records[name].slurm_id is None:
                self._note(name, slurm_id=job.id, submitted_at=self.now)

    @rule()
    def the_service_restarts(self) -> None:
        """What is not in the journal is lost."""
        self.seen, self.surplus_since, self.last_tried = Seen(), {}, {}

    @rule(answers=st.lists(st.sampled_from(("ok", "ok", "ok", "unclear", "lost")), min_size=6, max_size=6))
    def a_round(self, answers: list[str]) -> None:
        self._round(answers)

    def _round(self, answers: list[str]) -> None:
        world = self._world()
        decided = plan(world, POLICY, self.now)
        self.surplus_since = dict(decided.surplus_since)
        submissions = iter(answers)
        made = sum(isinstance(action, Submit) for action in decided.actions)
        # The listing is old: a job in it is taken, done or cancelled by now.
        old = [j for j in world.jobs if j.status is JobStatus.QUEUED and self.jobs[j.id].status is not j.status]
        self.excuses += min(made, len(old))
        seen_busy = {r.name for r in world.runners if r.taken_job or (r.registration and r.registration.busy)}
        ended = {r.name for r in world.runners if r.slurm is not None and r.slurm.stage is SlurmStage.ENDED}
        for action in decided.actions:
            match action:
                case Submit():
                    assert world.slurm.readable
                    self._submit(action, next(submissions))
                case Withdraw():
                    assert action.name not in seen_busy
                    self._withdraw(action)
                case Deregister():
                    assert action.name not in seen_busy or action.name in ended
                    self._deregister(action)
                case Forget():
                    del self.records[action.name]
                    self._fails(action.name, action.failure)
                case CancelStray():
                    self._cancel(action.name)
                case Adopt():
                    # Its record is closed: its claim is worth nothing, and it ends by itself.
                    assert self.truth[action.slurm.name].state is not None

    def _submit(self, action: Submit, answer: str) -> None:
        assert action.job is not None
        if answer == "lost":
            self.excuses += 1
        self.submitted += 1
        pool = POLICY.pools_by_name[action.pool]
        name = f"sg-abc-{pool.name}-{self.submitted:04d}"
        number = self.submitted
        self.truth[name] = Truth(name, number, action.job.id, pool.labels, None if answer == "lost" else "PENDING")
        known = number if answer == "ok" else None
        self.records[name] = RunnerRecord(
            name, SCOPE, pool.name, pool.labels, pool.handover, self.now, job_id=action.job.id, slurm_id=known
        )
        if answer == "ok":
            self._recovered(pool.name)

    def _withdraw(self, action: Withdraw) -> None:
        if action.failure and self.records[action.name].withdrawn_at is None:
            # It took too long, whoever's fault that was.
            self.excuses += 1
        self.last_tried[action.name] = self.now
        self._note(action.name, withdrawn_at=self.now, withdrawn_because=action.reason)
        truth = self.truth[action.name]
        if truth.job is not None:
            # GitHub refuses: the runner is busy.
            self._note(action.name, withdrawn_at=None, busy_at=self.records[action.name].busy_at or self.now)
            return
        if truth.registered:
            truth.registered = truth.online = False
            self._note(action.name, deregistered_at=self.now)
        self._fails(action.name, action.failure)
        if self.records[action.name].slurm_id is not None:
            self._cancel(action.name)

    def _deregister(self, action: Deregister) -> None:
        self.last_tried[action.name] = self.now
        truth = self.truth[action.name]
        if truth.job is None:
            truth.registered = truth.online = False
            if action.name in self.records:
                self._note(action.name, deregistered_at=self.now)

    def _cancel(self, name: str) -> None:
        truth = self.truth[name]
        assert truth.job is None, "a Slurm job at work was cancelled"
        if truth.state in ("PENDING", "RUNNING", "REQUEUE_HOLD"):
            self._end(truth, "CANCELLED by 1000")

    def _fails(self, name: str, failure: bool) -> None:
        pool = name.split("-")[2]
        if failure and (pool not in self.troubles or self.now >= self.troubles[pool].until):
            self.troubles[pool] = Trouble(pool, 1, self.now + 30.0, "it failed")

    def _recovered(self, pool: str) -> None:
        self.troubles.pop(pool, None)

    # What must hold all along

    @invariant()
    def limits_hold(self) -> None:
        alive = [t for t in self.truth.values() if t.state in ("PENDING", "RUNNING", "REQUEUE_HOLD")]
        # One whose sbatch gave no answer, and that Slurm shows only after it was given up, is a stray: not counted.
        alive = [t for t in alive if t.name in self.records]
        assert len(alive) <= POLICY.max_runners
        for pool in POLICY.pools:
            assert sum(t.labels == pool.labels for t in alive) <= pool.max_runners

    @invariant()
    def every_runner_is_explained(self) -> None:
        assert self.submitted <= len(self.jobs) + self.excuses

    def teardown(self) -> None:
        """From here on everything works: each job that some pool can serve gets done, and nothing is left."""
        for truth in self.truth.values():
            if truth.job is not None:
                self._finish(truth.name)
        for _ in range(400):
            self._a_quiet_moment()
            if not (self.records or self._servable() or any(t.registered for t in self.truth.values())):
                break
        assert not self._servable(), "a job starves"
        assert not self.records, "a runner is tracked for ever"
        left = [t for t in self.truth.values() if t.registered or t.state in ("PENDING", "RUNNING", "REQUEUE_HOLD")]
        assert not left, "something is left behind"
        self.every_runner_is_explained()

    def _a_quiet_moment(self) -> None:
        self.now += 5.0
        self.slurm_is_read(fails=False)
        self.registrations_are_read(fails=False)
        self.jobs_are_read(fails=False)
        self._round(["ok"] * 6)
        for name in self._in_state("PENDING"):
            self._start(name)
        for truth in self.truth.values():
            truth.online = truth.registered and truth.state == "RUNNING" and (truth.online or not truth.hangs)
        if assignable := self._assignable():
            self._assign(*assignable[0])
        for truth in list(self.truth.values()):
            if truth.job is not None:
                self._finish(truth.name)

    # How they happen

    def _world(self) -> World:
        seen = self.seen
        taken = {job.runner_name: job.id for job in seen.jobs if job.runner_name is not None}
        return World(
            jobs=seen.jobs,
            runners=tuple(
                Runner(
                    record,
                    seen.slurm.get(name) if record.slurm_id is not None else None,
                    seen.registrations.get(name),
                    taken.get(name),
                )
                for name, record in self.records.items()
            ),
            scopes=MappingProxyType(
                {
                    SCOPE: ScopeView(
                        SCOPE, seen.jobs_at, seen.registrations_at, seen.jobs_error, seen.registrations_error
                    )
                }
            ),
            slurm=SlurmView(seen.slurm_at, seen.slurm_error),
            strays=tuple(job for name, job in seen.slurm.items() if name not in self.records),
            orphans=tuple(
                OrphanRegistration(SCOPE, seen.registrations[name], since)
                for name, since in seen.orphans.items()
                if name not in self.records
            ),
            troubles=MappingProxyType(self.troubles),
            surplus_since=MappingProxyType(self.surplus_since),
            last_tried=MappingProxyType(self.last_tried),
        )

    def _queued(self) -> list[int]:
        return [job.id for job in self.jobs.values() if job.status is JobStatus.QUEUED]

    def _servable(self) -> list[int]:
        return [n for n in self._queued() if any(self.jobs[n].labels <= pool.labels for pool in POLICY.pools)]

    def _in_state(self, state: str) -> list[str]:
        return [t.name for t in self.truth.values() if t.state == state]

    def _assignable(self) -> list[tuple[str, int]]:
        return [
            (t.name, number)
            for t in self.truth.values()
            if t.online and t.registered and t.job is None
            for number in self._queued()
            if self.jobs[number].labels <= t.labels
        ]

    def _start(self, name: str) -> None:
        """The node starts it; its claim is heard if Slurm can be read, and refused where there is no demand."""
        truth = self.truth[name]
        truth.state, truth.started_at = "RUNNING", self.now
        self.slurm_is_read(fails=False)
        record = self.records.get(name)
        if record is None or record.withdrawn_at is not None:
            self._end(truth, "COMPLETED")
        elif not needed(self._world(), POLICY, self.now, name):
            self._note(name, withdrawn_at=self.now, withdrawn_because="its job was gone when it started")
            self._end(truth, "COMPLETED")
        else:
            truth.registered = True
            self._note(name, claimed_at=self.now, minted_at=self.now, registration_id=truth.slurm_id)

    def _assign(self, name: str, number: int) -> None:
        truth = self.truth[name]
        truth.job = number
        if truth.made_for != number:
            self.excuses += 1
        self.jobs[number] = replace(self.jobs[number], status=JobStatus.IN_PROGRESS, runner_name=name)

    def _finish(self, name: str) -> None:
        truth = self.truth[name]
        assert truth.job is not None
        self.jobs[truth.job] = replace(self.jobs[truth.job], status=JobStatus.COMPLETED, conclusion="success")
        truth.job, truth.registered, truth.online = None, False, False
        if not truth.hangs:
            self._end(truth, "COMPLETED")

    def _end(self, truth: Truth, state: str) -> None:
        truth.state, truth.ended_at = state, self.now
        if state != "COMPLETED":
            truth.online = False

    def _note(self, name: str, **facts: object) -> None:
        self.records[name] = replace(self.records[name], **facts)  # type: ignore[arg-type]


TestAllocation = pytest.mark.slow(Allocation.TestCase)
