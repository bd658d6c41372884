"""A Slurm in memory: it fits the ``Cluster`` port, lives by the injected clock, and fails when told to.

Everything that happens in it follows from its seed and from the order of the calls. Use it as an asynchronous
context manager: the jobs run in its task group. The contract tests hold it against a real Slurm.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType, TracebackType

import anyio
from anyio.abc import TaskGroup

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm.errors import SlurmUnreachable, SubmissionRefused
from slurm_gha.testing.simulated_slurm_parts import Faults, Signals, SimulatedJob, SimulatedNode

OnStart = Callable[[Submission, SlurmJob], Awaitable[int]]
"""What a batch script does: called when the job is running, gives the script's exit code."""

__all__ = ["Faults", "OnStart", "Signals", "SimulatedSlurm"]

UNREACHABLE = "Unable to contact slurm controller (connect failure)"
UNCLEAR = "Socket timed out on send/recv operation"


class SimulatedSlurm:
    """Nodes, a queue in order of partition tier and submission, and jobs that are coroutines, each on one node.

    ``nodes``: CPUs by name. ``start_delay``: least and most seconds from allocation to the script's start.
    ``on_start``: the batch script; by default it sleeps until it gets TERM. ``kill_wait``: seconds from TERM to the
    coroutine's cancellation. ``min_job_age``: seconds after which an ended job leaves the listing.
    ``accounting``: whether jobs can be looked up after that. ``tiers``: priority tier by partition (default 1): a job
    preempts running ones of lower tiers. ``prefix``: only jobs whose name starts so are listed (see
    :func:`slurm_gha.domain.runner.name_prefix`).
    """

    def __init__(
        self,
        clock: Clock,
        nodes: Mapping[str, int],
        *,
        memory_mb: int = 1_000_000,
        start_delay: tuple[float, float] = (0.3, 1.0),
        seed: int = 0,
        on_start: OnStart | None = None,
        kill_wait: float = 30.0,
        min_job_age: float = 300.0,
        accounting: bool = True,
        tiers: Mapping[str, int] | None = None,
        prefix: str = "",
        faults: Faults | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.history: list[tuple[float, int, str, str]] = []
        """Every change, as (time, id, name, state): for comparing two runs, and for counting submissions."""
        self._clock = clock
        self._nodes = {name: SimulatedNode(name, cpus, memory_mb) for name, cpus in nodes.items()}
        self._start_delay = start_delay
        self._seed = seed
        self._on_start = on_start or self._sleep_until_terminated
        self._kill_wait = kill_wait
        self._min_job_age = min_job_age
        self._accounting = accounting
        self._tiers = dict(tiers or {})
        self._prefix = prefix
        self._jobs: dict[int, SimulatedJob] = {}
        self._past: dict[int, SlurmJob] = {}
        self._last_id = 0
        self._calls: Counter[str] = Counter()
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> SimulatedSlurm:
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._tasks is not None
        self._tasks.cancel_scope.cancel()
        self._tasks = None
        return await self._stack.__aexit__(kind, error, trace)

    # The port

    async def submit(self, submission: Submission) -> int:
        dice = await self._command("sbatch")
        faults, request = self.faults, submission.request
        if faults.lost_requests > 0:
            faults.lost_requests -= 1
            raise SlurmUnreachable(f"sbatch: {UNCLEAR}", unclear=True)
        for key in (None, request.partition):
            if key in faults.refusals:
                raise SubmissionRefused(faults.refusals[key])
        self._last_id += 1
        job = SimulatedJob(self._last_id, submission, self._clock.now(), self._tiers.get(request.partition or "", 1))
        self._jobs[job.id] = job
        memory = request.memory_mb or 0
        fitting = any(node.cpus >= request.cpus and node.memory_mb >= memory for node in self._nodes.values())
        if not fitting or request.nodes > 1:
            # slurmctld keeps a record of a job that it has refused for this reason.
            job.reason = "BadConstraints"
            job.scope.cancel()
            self._finish(job, "FAILED", "0:0")
            raise SubmissionRefused("Requested node configuration is not available")
        if faults.hold_next > 0:
            faults.hold_next -= 1
            job.reason = faults.hold_reason
        self._note(job)
        self._schedule()
        if faults.lost_answers > 0 or dice.random() < faults.lost_answer_rate:
            faults.lost_answers = max(0, faults.lost_answers - 1)
            raise SlurmUnreachable(f"sbatch: {UNCLEAR}", unclear=True)
        return job.id

    async def list_jobs(self) -> tuple[SlurmJob, ...]:
        await self._command("squeue")
        return tuple(job.view() for job in self._listed() if job.submission.name.startswith(self._prefix))

    async def look_up(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        await self._command("sacct")
        listed = {job.id: job.view() for job in self._listed()}
        found = {}
        for number in ids:
            job = listed.get(number) or (self._past.get(number) if self._accounting else None)
            ours = job is not None and job.name.startswith(self._prefix)
            found[number] = job if job is not None and ours else SlurmJob(id=number, name="", state="GONE")
        return found

    async def cancel(self, ids: Sequence[int]) -> None:
        await self._command("scancel")
        for number in ids:
            job = self._jobs.get(number)
            if job is not None:
                self._end(job, "CANCELLED")

    # What a test may look at

    @property
    def calls(self) -> Mapping[str, int]:
        """How many times each command has been run, failed ones included."""
        return MappingProxyType(self._calls)

    @property
    def jobs(self) -> tuple[SlurmJob, ...]:
        """The truth, whatever the faults hide: every job that is in the queue, running or ended not long ago."""
        return tuple(job.view() for job in self._jobs.values())

    def signals(self, slurm_id: int) -> Signals:
        """The signals of a job that has not been purged."""
        return self._jobs[slurm_id].signals

    # What a test may do

    def hold(self, slurm_id: int, reason: str = "JobHeldUser") -> None:
        """Hold a pending job that no node has been given yet."""
        job = self._jobs[slurm_id]
        if job.state != "PENDING" or job.node is not None:
            raise ValueError(f"Slurm job {slurm_id} is {job.state} and cannot be held")
        job.reason = reason
        self._note(job)
        self._schedule()

    def release(self, slurm_id: int) -> None:
        """Let a held job start."""
        self._jobs[slurm_id].reason = "None"
        self._schedule()

    def fail_node(self, name: str, *, processes_survive: bool = False) -> None:
        """A node is lost: its jobs end with NODE_FAIL at once.

        ``processes_survive``: the scripts run on all the same until :meth:`resume`, as under a slurmd that died alone.
        """
        node = self._nodes[name]
        node.up = False
        for job in list(self._jobs.values()):
            if job.node is node and not job.ended:
                self._finish(job, "NODE_FAIL", "0:0")
                if not processes_survive:
                    job.scope.cancel()
        self._schedule()

    def resume(self, name: str) -> None:
        """The node is back; what still ran on it is killed."""
        node = self._nodes[name]
        node.up = True
        for job in self._jobs.values():
            if job.node is node and job.ended:
                job.scope.cancel()
        self._schedule()

    def end(self, slurm_id: int, state: str) -> None:
        """End a job from outside, without a warning: PREEMPTED, OUT_OF_MEMORY, BOOT_FAIL, DEADLINE…"""
        self._end(self._jobs[slurm_id], state, kill=True)

    def show_as(self, slurm_id: int, state: str | None) -> None:
        """Show a state word of tomorrow's Slurm for this job; None shows the true one again."""
        self._jobs[slurm_id].shown_as = state

    # How it lives

    async def _command(self, name: str) -> random.Random:
        """Count, take time, perhaps fail. The dice depend on the seed and the number of the call alone."""
        self._calls[name] += 1
        dice = random.Random(f"{self._seed}/{name}/{self._calls[name]}")
        await self._clock.sleep(dice.uniform(*self.faults.latency))
        if self.faults.down or dice.random() < self.faults.unreachable_rate:
            raise SlurmUnreachable(f"{name}: {UNREACHABLE}")
        return dice

    def _listed(self) -> list[SimulatedJob]:
        now = self._clock.now()
        for job in [job for job in self._jobs.values() if job.ended_at is not None]:
            if job.ended_at is not None and now - job.ended_at >= self._min_job_age and job.scope.cancel_called:
                self._past[job.id] = self._jobs.pop(job.id).view()
        newest = now - self.faults.appear_delay
        return [job for job in self._jobs.values() if job.submitted_at <= newest and not self._is_purged(job, now)]

    def _is_purged(self, job: SimulatedJob, now: float) -> bool:
        return job.ended_at is not None and now - job.ended_at >= self._min_job_age

    def _schedule(self) -> None:
        """Give nodes to the first jobs in the queue; the first that does not fit blocks those behind it."""
        assert self._tasks is not None, "use SimulatedSlurm as an asynchronous context manager"
        waiting = [job for job in self._jobs.values() if job.state == "PENDING" and job.node is None and not job.ended]
        waiting = [job for job in waiting if job.reason in {"None", "Resources", "Priority"}]
        blocked = False
        for job in sorted(waiting, key=lambda job: (-job.tier, job.id)):
            node = None if blocked else self._room_for(job)
            if node is not None:
                job.node, job.reason = node, "None"
                self._tasks.start_soon(self._live, job)
                continue
            if not blocked:
                self._preempt_for(job)
            job.reason = "Priority" if blocked else "Resources"
            blocked = True

    def _room_for(self, job: SimulatedJob, above: int | None = None) -> SimulatedNode | None:
        """A node with room for ``job``, counting as free what runs in tiers below ``above``."""
        request = job.submission.request
        for node in self._nodes.values():
            there = [other for other in self._jobs.values() if other.node is node and not other.ended]
            there = [other for other in there if above is None or other.tier >= above]
            cpus = node.cpus - sum(other.submission.request.cpus for other in there)
            memory = node.memory_mb - sum(other.submission.request.memory_mb or 0 for other in there)
            if node.up and cpus >= request.cpus and memory >= (request.memory_mb or 0):
                return node
        return None

    def _preempt_for(self, job: SimulatedJob) -> None:
        """Preempt the youngest lower jobs of the first node where that makes room."""
        node = self._room_for(job, above=job.tier)
        if node is None:
            return
        lower = [other for other in self._jobs.values() if other.node is node and other.tier < job.tier]
        needed = job.submission.request.cpus
        for other in sorted((other for other in lower if not other.ended), key=lambda other: -other.id):
            if needed <= 0:
                break
            needed -= other.submission.request.cpus
            self._end(other, "PREEMPTED", kill=True)

    async def _live(self, job: SimulatedJob) -> None:
        dice = random.Random(f"{self._seed}/job/{job.id}")
        with job.scope:
            await self._clock.sleep(dice.uniform(*self._start_delay))
            job.state, job.started_at = "RUNNING", self._clock.now()
            self._note(job)
            async with anyio.create_task_group() as watch:
                watch.start_soon(self._watch_time, job)
                code = await self._on_start(job.submission, job.view())
                watch.cancel_scope.cancel()
            if not job.ended:
                ended_well = "COMPLETED" if code == 0 else "FAILED"
                job.reason = "NonZeroExitCode" if code and job.ending_as is None else job.reason
                self._finish(job, job.ending_as or ended_well, f"{code}:0")
        if not job.ended:
            self._finish(job, job.ending_as or "CANCELLED", "0:9")
        job.scope.cancel()
        self._schedule_if_open()

    async def _watch_time(self, job: SimulatedJob) -> None:
        """USR1 ahead of the time limit, then TERM. Slurm counts limits in whole minutes."""
        limit = 60.0 * -(-job.submission.request.time_seconds // 60)
        ahead = min(limit, float(job.submission.signal_before_end))
        await self._clock.sleep(limit - ahead)
        job.signals.warned.set()
        await self._clock.sleep(ahead)
        if job.ending_as is None:
            job.reason = "TimeLimit"
        self._end(job, "TIMEOUT")
        await anyio.sleep_forever()

    def _end(self, job: SimulatedJob, state: str, *, kill: bool = False) -> None:
        """Begin the end of a job: TERM, and KILL after ``kill_wait`` or at once. The first reason to end it stays."""
        assert self._tasks is not None
        if job.ended:
            return
        if job.started_at is None:
            job.node = None
            self._finish(job, state, "0:0")
            job.scope.cancel()
            self._schedule()
            return
        if job.ending_as is None:
            job.ending_as, job.state = state, "COMPLETING"
            self._note(job)
            job.signals.terminated.set()
            if not kill:
                self._tasks.start_soon(self._kill_later, job)
        if kill:
            job.scope.cancel()

    async def _kill_later(self, job: SimulatedJob) -> None:
        await self._clock.sleep(self._kill_wait)
        job.scope.cancel()

    def _finish(self, job: SimulatedJob, state: str, exit_code: str) -> None:
        job.state, job.exit_code, job.ended_at = state, exit_code, self._clock.now()
        self._note(job)

    def _schedule_if_open(self) -> None:
        if self._tasks is not None:
            self._schedule()

    def _note(self, job: SimulatedJob) -> None:
        self.history.append((self._clock.now(), job.id, job.submission.name, job.state))

    async def _sleep_until_terminated(self, _submission: Submission, job: SlurmJob) -> int:
        await self.signals(job.id).terminated.wait()
        return 143
