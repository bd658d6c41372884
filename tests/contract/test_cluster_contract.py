"""One suite for every ``Cluster``: the simulated Slurm on virtual time, and a real one."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
import pytest
from trio.testing import MockClock

from slurm_gha.controller.ports import Cluster
from slurm_gha.domain.clock import EventLoopClock, SystemClock
from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.runner import name_prefix, runner_name
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm.cluster import SlurmCluster
from slurm_gha.slurm.errors import SlurmUnreachable, SubmissionRefused
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.simulated_slurm import SimulatedSlurm

INSTALLATION = "contract"
NODES = {"n1": 4, "n2": 4}
HOSTILE = 'a|b, "c" \\ $(touch /tmp/x) `id` %j %u ü \' ; -- <&>'


@dataclass(frozen=True)
class Work:
    """What a batch script does, for both Slurms: wait, then exit; perhaps deaf to TERM."""

    seconds: float = 0.0
    code: int = 0
    deaf: bool = False

    def script(self) -> str:
        deaf = "trap '' TERM\n" if self.deaf else ""
        plan = json.dumps([self.seconds, self.code, self.deaf])
        # A shell waits for its child before it heeds a signal; "wait" does not.
        return f"#!/bin/bash\n# {plan}\n{deaf}sleep {self.seconds} &\nwait\nexit {self.code}\n"

    @staticmethod
    def of(script: str) -> Work:
        seconds, code, deaf = json.loads(script.splitlines()[1].removeprefix("# "))
        return Work(seconds, code, deaf)


class Bench(Protocol):
    """A Slurm, and what a test may do to it."""

    cluster: Cluster
    output: Path

    async def sleep(self, seconds: float) -> None: ...
    def now(self) -> float: ...
    async def hold(self, slurm_id: int) -> None: ...
    async def release(self, slurm_id: int) -> None: ...
    async def node_down(self, name: str) -> None: ...
    async def node_up(self, name: str) -> None: ...
    async def controller_down(self) -> None: ...
    async def controller_up(self) -> None: ...
    async def foreign(self, name: str) -> None:
        """Another job of the same user."""

    async def overrun(self) -> tuple[Cluster, int]:
        """A job that is going to meet its time limit of a minute, perhaps submitted a while ago, perhaps elsewhere."""


class SimulatedBench:
    def __init__(self, slurm: SimulatedSlurm, clock: EventLoopClock) -> None:
        self.cluster: Cluster = slurm
        self.output = Path("/nonexistent")
        self._slurm = slurm
        self._clock = clock

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def now(self) -> float:
        return self._clock.now()

    async def hold(self, slurm_id: int) -> None:
        self._slurm.hold(slurm_id)

    async def release(self, slurm_id: int) -> None:
        self._slurm.release(slurm_id)

    async def node_down(self, name: str) -> None:
        self._slurm.fail_node(name)

    async def node_up(self, name: str) -> None:
        self._slurm.resume(name)

    async def controller_down(self) -> None:
        self._slurm.faults.down = True

    async def controller_up(self) -> None:
        self._slurm.faults.down = False

    async def foreign(self, name: str) -> None:
        await self._slurm.submit(submission(name, Work(5)))

    async def overrun(self) -> tuple[Cluster, int]:
        return self.cluster, await self._slurm.submit(overrun_submission(self.output))


class RealBench:
    def __init__(self, slurm: PrivateSlurm, elsewhere: PrivateSlurm, overrun: int) -> None:
        self.cluster: Cluster = cluster_of(slurm)
        self.output = elsewhere.home
        self._slurm = slurm
        self._elsewhere = elsewhere
        self._overrun = overrun
        self._clock = SystemClock()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def now(self) -> float:
        return self._clock.now()

    async def _run(self, *argv: str) -> None:
        await anyio.to_thread.run_sync(lambda: self._slurm.run(*argv))

    async def hold(self, slurm_id: int) -> None:
        await self._run("scontrol", "hold", str(slurm_id))

    async def release(self, slurm_id: int) -> None:
        await self._run("scontrol", "release", str(slurm_id))

    async def node_down(self, name: str) -> None:
        await anyio.to_thread.run_sync(self._slurm.node_down, name)

    async def node_up(self, name: str) -> None:
        await anyio.to_thread.run_sync(self._slurm.resume, name)

    async def controller_down(self) -> None:
        await anyio.to_thread.run_sync(self._slurm.stop_controller)

    async def controller_up(self) -> None:
        await anyio.to_thread.run_sync(self._slurm.start_controller)

    async def foreign(self, name: str) -> None:
        script = Work(5).script()
        await anyio.to_thread.run_sync(
            lambda: self._slurm.run("sbatch", "--output=/dev/null", f"--job-name={name}", input=script)
        )

    async def overrun(self) -> tuple[Cluster, int]:
        return cluster_of(self._elsewhere), self._overrun


Scenario = Callable[[Bench], Awaitable[None]]
Play = Callable[[Scenario], None]

_serial = iter(range(1_000_000))


def fresh(word: str = "r") -> str:
    return runner_name(INSTALLATION, word, f"{next(_serial):06}")


def submission(
    name: str | None = None,
    work: Work | None = None,
    *,
    cpus: int = 1,
    partition: str | None = None,
    constraint: str | None = None,
    time_seconds: int = 600,
    comment: str = "{}",
    warn: int = 60,
) -> Submission:
    request = SlurmRequest(cpus, time_seconds, partition=partition, memory_mb=100, constraint=constraint)
    script = (work or Work()).script()
    return Submission(name or fresh(), request, script, comment, "/dev/null", signal_before_end=warn)


async def until(bench: Bench, slurm_id: int, met: Callable[[SlurmJob], bool], *, seconds: float = 30.0) -> SlurmJob:
    """The job as listed when it first meets the condition."""
    deadline = bench.now() + seconds
    seen: SlurmJob | None = None
    while bench.now() < deadline:
        seen = {job.id: job for job in await bench.cluster.list_jobs()}.get(slurm_id, seen)
        if seen is not None and met(seen):
            return seen
        await bench.sleep(0.1)
    raise AssertionError(f"Slurm job {slurm_id} did not get there within {seconds} s; last seen: {seen}")


def at(stage: SlurmStage) -> Callable[[SlurmJob], bool]:
    return lambda job: job.stage is stage


def play_simulated(scenario: Scenario) -> None:
    async def main() -> None:
        clock = EventLoopClock(1_700_000_000.0)

        async def script(given: Submission, job: SlurmJob) -> int:
            work = Work.of(given.script)
            with anyio.move_on_after(work.seconds):
                if work.deaf:
                    await anyio.sleep_forever()
                await slurm.signals(job.id).terminated.wait()
                return 143
            return work.code

        slurm = SimulatedSlurm(
            clock,
            NODES,
            on_start=script,
            kill_wait=2,
            min_job_age=3,
            accounting=False,
            tiers={"low": 1, "ci": 10},
            prefix=name_prefix(INSTALLATION),
        )
        slurm.faults.refusals["nope"] = "Invalid partition name specified"
        async with slurm:
            await scenario(SimulatedBench(slurm, clock))

    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def cluster_of(slurm: PrivateSlurm) -> SlurmCluster:
    return SlurmCluster(INSTALLATION, bin_dir=slurm.bin_dir, conf=slurm.conf, timeout=30)


def overrun_submission(directory: Path) -> Submission:
    script = f"{Work(600).script().splitlines()[0]}\n# [600, 0, false]\n"
    script += "trap 'echo warned' USR1\ntrap 'echo terminated; exit' TERM\nwhile :; do sleep 0.2; done\n"
    request = SlurmRequest(1, 60, memory_mb=100)
    output = str(directory / "overrun.txt")
    return Submission(fresh("overrun"), request, script, "{}", output, signal_before_end=55)


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[PrivateSlurm, PrivateSlurm, int]]:
    with (
        PrivateSlurm(nodes=1, cpus=1) as elsewhere,
        PrivateSlurm(nodes=len(NODES), cpus=4, min_job_age=3, kill_wait=2, message_timeout=3) as slurm,
    ):
        # Slurm looks at time limits twice a minute: this job is begun here, and looked at in the last test.
        overrun = anyio.run(cluster_of(elsewhere).submit, overrun_submission(elsewhere.home))
        while elsewhere.run("squeue", "-h", "-o", "%T").stdout.strip() != "RUNNING":
            time.sleep(0.1)
        # A limit of a minute, of which so much is over that the warning is due at once and the end at another look:
        # in one look, the order of the two is not sure.
        elsewhere.run("scontrol", "update", f"jobid={overrun}", "endtime=now+35")
        yield slurm, elsewhere, overrun


@pytest.fixture(params=["simulated", pytest.param("real", marks=[pytest.mark.slow, pytest.mark.slurm])])
def play(request: pytest.FixtureRequest) -> Play:
    if request.param == "simulated":
        return play_simulated
    slurm, elsewhere, overrun = request.getfixturevalue("real")

    def play_real(scenario: Scenario) -> None:
        async def main() -> None:
            await scenario(RealBench(slurm, elsewhere, overrun))

        anyio.run(main)

    return play_real


def test_a_job_runs_and_completes(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        before = bench.now()
        asked = submission(work=Work(1), comment=json.dumps({"repository": "o/r"}))
        slurm_id = await bench.cluster.submit(asked)
        running = await until(bench, slurm_id, at(SlurmStage.RUNNING))
        assert (running.id, running.name, running.state) == (slurm_id, asked.name, "RUNNING")
        assert running.comment == asked.comment
        assert running.node in NODES
        assert running.ended_at is None
        ended = await until(bench, slurm_id, at(SlurmStage.ENDED))
        assert ended.state == "COMPLETED"
        assert ended.submitted_at is not None
        assert ended.started_at is not None
        assert ended.ended_at is not None
        # Slurm counts whole seconds.
        assert before - 1 <= ended.submitted_at <= ended.started_at <= ended.ended_at <= bench.now() + 1

    play(scenario)


def test_a_failing_script_fails_the_job(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        slurm_id = await bench.cluster.submit(submission(work=Work(0, code=7)))
        ended = await until(bench, slurm_id, at(SlurmStage.ENDED))
        assert (ended.state, ended.reason) == ("FAILED", "NonZeroExitCode")

    play(scenario)


def test_a_job_that_does_not_fit_yet_waits_and_can_be_cancelled(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        first = [await bench.cluster.submit(submission(work=Work(60), cpus=4)) for _ in NODES]
        for slurm_id in first:
            await until(bench, slurm_id, at(SlurmStage.RUNNING))
        waiting = await bench.cluster.submit(submission(work=Work(60), cpus=4))
        seen = await until(bench, waiting, lambda job: job.reason in {"Resources", "Priority"})
        assert seen.stage is SlurmStage.PENDING
        assert (seen.started_at, seen.ended_at, seen.node) == (None, None, "")
        await bench.cluster.cancel([waiting])
        ended = await until(bench, waiting, at(SlurmStage.ENDED))
        assert ended.state.startswith("CANCELLED")
        assert ended.started_at is None
        await bench.cluster.cancel(first)

    play(scenario)


def test_cancelling_a_running_job_ends_it(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        slurm_id = await bench.cluster.submit(submission(work=Work(60)))
        await until(bench, slurm_id, at(SlurmStage.RUNNING))
        await bench.cluster.cancel([slurm_id])
        ended = await until(bench, slurm_id, at(SlurmStage.ENDED))
        assert ended.state.startswith("CANCELLED")
        await bench.cluster.cancel([slurm_id])  # an ended one is no error

    play(scenario)


def test_a_script_deaf_to_term_is_killed(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        slurm_id = await bench.cluster.submit(submission(work=Work(60, deaf=True)))
        await until(bench, slurm_id, at(SlurmStage.RUNNING))
        await bench.sleep(0.5)  # until the trap is set
        await bench.cluster.cancel([slurm_id])
        ended = await until(bench, slurm_id, at(SlurmStage.ENDED))
        assert ended.state.startswith("CANCELLED")

    play(scenario)


def test_unknown_jobs_can_be_cancelled_and_are_gone(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        slurm_id = await bench.cluster.submit(submission(work=Work(60)))
        await bench.cluster.cancel([987_654])
        await bench.cluster.cancel([987_654, slurm_id])
        found = await bench.cluster.look_up([slurm_id, 987_654])
        assert found[987_654].state == "GONE"
        assert found[987_654].stage is SlurmStage.ENDED
        assert set(found) == {slurm_id, 987_654}
        assert (await bench.cluster.look_up([987_654]))[987_654].state == "GONE"
        assert await bench.cluster.look_up([]) == {}
        await bench.cluster.cancel([])

    play(scenario)


def test_an_ended_job_leaves_the_listing_and_is_then_gone(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        slurm_id = await bench.cluster.submit(submission())
        await until(bench, slurm_id, at(SlurmStage.ENDED))
        assert (await bench.cluster.look_up([slurm_id]))[slurm_id].state == "COMPLETED"
        with anyio.fail_after(30):
            while any(job.id == slurm_id for job in await bench.cluster.list_jobs()):
                await bench.sleep(0.5)
        assert (await bench.cluster.look_up([slurm_id]))[slurm_id].state == "GONE"

    play(scenario)


def test_refusals_carry_slurms_own_words(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(SubmissionRefused, match="Invalid partition name specified") as refused:
            await bench.cluster.submit(submission(partition="nope"))
        assert "error" not in str(refused.value).lower()
        name = fresh()
        request = SlurmRequest(1, 600, memory_mb=10_000_000)
        with pytest.raises(SubmissionRefused, match="Requested node configuration is not available"):
            await bench.cluster.submit(Submission(name, request, "#!/bin/sh\n", "{}", "/dev/null"))
        # slurmctld keeps a record of such a job, which has ended before it began.
        (trace,) = [job for job in await bench.cluster.list_jobs() if job.name == name]
        assert (trace.state, trace.reason, trace.stage) == ("FAILED", "BadConstraints", SlurmStage.ENDED)

    play(scenario)


def test_a_held_job_is_seen_as_held_and_starts_when_released(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        blockers = [await bench.cluster.submit(submission(work=Work(60), cpus=4)) for _ in NODES]
        slurm_id = await bench.cluster.submit(submission(work=Work(60)))
        await bench.hold(slurm_id)
        held = await until(bench, slurm_id, at(SlurmStage.HELD))
        assert held.reason in {"JobHeldUser", "JobHeldAdmin"}
        await bench.cluster.cancel(blockers)
        await bench.release(slurm_id)
        await until(bench, slurm_id, at(SlurmStage.RUNNING))
        await bench.cluster.cancel([slurm_id])

    play(scenario)


def test_a_lost_node_ends_its_jobs(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        slurm_id = await bench.cluster.submit(submission(work=Work(60)))
        running = await until(bench, slurm_id, at(SlurmStage.RUNNING))
        await bench.node_down(running.node)
        ended = await until(bench, slurm_id, at(SlurmStage.ENDED))
        assert ended.state == "NODE_FAIL"
        await bench.node_up(running.node)
        again = await bench.cluster.submit(submission(work=Work(0.5)))
        assert (await until(bench, again, at(SlurmStage.ENDED))).state == "COMPLETED"

    play(scenario)


def test_a_job_of_a_lower_partition_is_preempted(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        low = [await bench.cluster.submit(submission(work=Work(60), cpus=4, partition="low")) for _ in NODES]
        running = [slurm_id for slurm_id in low if await settled(bench, slurm_id) is SlurmStage.RUNNING]
        assert running
        high = [await bench.cluster.submit(submission(work=Work(60), cpus=4, partition="ci")) for _ in NODES]
        with anyio.fail_after(30):
            while not [job for job in await bench.cluster.list_jobs() if job.id in low and job.state == "PREEMPTED"]:
                await bench.sleep(0.1)
        for slurm_id in high:
            await until(bench, slurm_id, at(SlurmStage.RUNNING))
        await bench.cluster.cancel([*low, *high])

    play(scenario)


async def settled(bench: Bench, slurm_id: int) -> SlurmStage:
    """RUNNING, or PENDING because something else is in the way."""
    job = await until(bench, slurm_id, lambda job: job.stage is SlurmStage.RUNNING or job.reason == "Resources")
    return job.stage


def test_a_stopped_controller_is_unreachable_and_comes_back(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        slurm_id = await bench.cluster.submit(submission(work=Work(60)))
        await until(bench, slurm_id, at(SlurmStage.RUNNING))
        await bench.controller_down()
        failures: list[SlurmUnreachable] = []

        async def fails(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(SlurmUnreachable) as failure:
                await call()
            failures.append(failure.value)

        async with anyio.create_task_group() as group:
            group.start_soon(fails, lambda: bench.cluster.submit(submission()))
            group.start_soon(fails, bench.cluster.list_jobs)
            group.start_soon(fails, lambda: bench.cluster.look_up([slurm_id]))
            group.start_soon(fails, lambda: bench.cluster.cancel([slurm_id]))
        assert len(failures) == 4
        assert not any(failure.unclear for failure in failures)
        await bench.controller_up()
        again = await until(bench, slurm_id, lambda job: True)
        assert again.stage is SlurmStage.RUNNING
        await bench.cluster.cancel([slurm_id])

    play(scenario)


def test_hostile_names_and_comments_change_nothing(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        comment = json.dumps({"repository": HOSTILE, "line": "a\nb\tc\x1f"})
        asked = submission(work=Work(5), comment=comment)
        slurm_id = await bench.cluster.submit(asked)
        await bench.foreign("other|x|RUNNING\nsg-contract|99")
        await bench.foreign(f"{name_prefix(INSTALLATION)}not ours $(id)" if bench.output.exists() else "foreign")
        await bench.foreign(shlex.quote(HOSTILE))
        seen = await until(bench, slurm_id, lambda job: True)
        assert (seen.name, seen.comment) == (asked.name, comment)
        assert all(job.name.startswith(name_prefix(INSTALLATION)) for job in await bench.cluster.list_jobs())
        assert not any(" " in job.name for job in await bench.cluster.list_jobs())
        await bench.cluster.cancel([slurm_id])

    play(scenario)


def test_many_at_once_get_ids_of_their_own(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        ids: list[int] = []

        async def one() -> None:
            ids.append(await bench.cluster.submit(submission(work=Work(60))))

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(one)
        assert len(set(ids)) == 40
        assert set(ids) <= {job.id for job in await bench.cluster.list_jobs()}
        await bench.cluster.cancel(ids)
        for slurm_id in ids:
            await until(bench, slurm_id, at(SlurmStage.ENDED))

    play(scenario)


def test_the_time_limit_warns_and_then_ends_a_job(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        cluster, slurm_id = await bench.overrun()
        with anyio.fail_after(120):
            while True:
                job = (await cluster.look_up([slurm_id]))[slurm_id]
                if job.stage is SlurmStage.ENDED:
                    break
                await bench.sleep(0.5)
        assert job.state == "TIMEOUT"
        if bench.output.exists():
            said = (bench.output / "overrun.txt").read_text()
            assert "warned" in said, said
            assert "terminated" in said, said
            assert "DUE TO TIME LIMIT" in said, said

    play(scenario)
