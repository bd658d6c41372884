"""The faults of the simulated Slurm, and that one seed gives one history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest
from trio.testing import MockClock

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm.errors import SlurmUnreachable, SubmissionRefused
from slurm_gha.testing.simulated_slurm import SimulatedSlurm

START = 1_700_000_000.0


def virtually(main: Callable[[EventLoopClock], Awaitable[None]]) -> None:
    async def run() -> None:
        await main(EventLoopClock(START))

    anyio.run(run, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def submission(name: str = "sg-a-b-1", *, cpus: int = 1, seconds: int = 600, warn: int = 60) -> Submission:
    return Submission(name, SlurmRequest(cpus, seconds), "#!/bin/sh\n", "{}", "/dev/null", signal_before_end=warn)


def by_name(jobs: tuple[SlurmJob, ...]) -> dict[str, SlurmJob]:
    return {job.name: job for job in jobs}


def test_a_lost_answer_leaves_a_job_and_a_lost_request_does_not() -> None:
    async def main(clock: EventLoopClock) -> None:
        async with SimulatedSlurm(clock, {"n1": 4}) as slurm:
            slurm.faults.lost_answers = 1
            with pytest.raises(SlurmUnreachable) as lost:
                await slurm.submit(submission("sg-a-b-lost"))
            assert lost.value.unclear
            slurm.faults.lost_requests = 1
            with pytest.raises(SlurmUnreachable) as never:
                await slurm.submit(submission("sg-a-b-never"))
            assert never.value.unclear
            await slurm.submit(submission("sg-a-b-well"))
            assert set(by_name(await slurm.list_jobs())) == {"sg-a-b-lost", "sg-a-b-well"}

    virtually(main)


def test_a_new_job_may_be_late_in_the_listing() -> None:
    async def main(clock: EventLoopClock) -> None:
        async with SimulatedSlurm(clock, {"n1": 4}) as slurm:
            slurm.faults.appear_delay = 20
            slurm_id = await slurm.submit(submission())
            assert await slurm.list_jobs() == ()
            assert (await slurm.look_up([slurm_id]))[slurm_id].state == "GONE"
            await clock.sleep(20)
            assert [job.id for job in await slurm.list_jobs()] == [slurm_id]

    virtually(main)


def test_a_held_launch_an_unknown_state_and_a_refusing_partition() -> None:
    async def main(clock: EventLoopClock) -> None:
        async with SimulatedSlurm(clock, {"n1": 4}) as slurm:
            slurm.faults.hold_next = 1
            held = await slurm.submit(submission("sg-a-b-held"))
            odd = await slurm.submit(submission("sg-a-b-odd"))
            await clock.sleep(5)
            slurm.show_as(odd, "TELEPORTING")
            seen = by_name(await slurm.list_jobs())
            assert seen["sg-a-b-held"].stage is SlurmStage.HELD
            assert seen["sg-a-b-odd"].stage is SlurmStage.UNKNOWN
            slurm.release(held)
            await clock.sleep(5)
            assert by_name(await slurm.list_jobs())["sg-a-b-held"].stage is SlurmStage.RUNNING
            slurm.faults.refusals[None] = "Invalid account"
            with pytest.raises(SubmissionRefused, match="Invalid account"):
                await slurm.submit(submission())

    virtually(main)


def test_ends_from_outside_kill_the_script() -> None:
    killed: list[int] = []

    async def script(_given: Submission, job: SlurmJob) -> int:
        try:
            await anyio.sleep_forever()
        finally:
            killed.append(job.id)

    async def main(clock: EventLoopClock) -> None:
        async with SimulatedSlurm(clock, {"n1": 4}, on_start=script) as slurm:
            states = ["PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"]
            ids = {state: await slurm.submit(submission(f"sg-a-b-{n}")) for n, state in enumerate(states)}
            await clock.sleep(5)
            for state, slurm_id in ids.items():
                slurm.end(slurm_id, state)
            await clock.sleep(1)
            assert sorted(killed) == sorted(ids.values())
            assert {job.state for job in await slurm.list_jobs()} == set(states)

    virtually(main)


def test_processes_of_a_lost_slurmd_run_on_until_it_is_back() -> None:
    alive: set[int] = set()

    async def script(_given: Submission, job: SlurmJob) -> int:
        alive.add(job.id)
        try:
            await anyio.sleep_forever()
        finally:
            alive.discard(job.id)

    async def main(clock: EventLoopClock) -> None:
        async with SimulatedSlurm(clock, {"n1": 4}, on_start=script) as slurm:
            slurm_id = await slurm.submit(submission())
            await clock.sleep(5)
            slurm.fail_node("n1", processes_survive=True)
            assert [job.state for job in await slurm.list_jobs()] == ["NODE_FAIL"]
            waiting = await slurm.submit(submission("sg-a-b-2"))
            await clock.sleep(60)
            assert alive == {slurm_id}
            slurm.resume("n1")
            await clock.sleep(5)
            assert alive == {waiting}

    virtually(main)


def test_the_time_limit_counts_whole_minutes_and_warns_before() -> None:
    heard: list[tuple[str, float]] = []

    async def main(clock: EventLoopClock) -> None:
        async def script(_given: Submission, job: SlurmJob) -> int:
            began = clock.now()
            await slurm.signals(job.id).warned.wait()
            heard.append(("warned", clock.now() - began))
            await slurm.signals(job.id).terminated.wait()
            heard.append(("terminated", clock.now() - began))
            await anyio.sleep_forever()
            return 0

        async with SimulatedSlurm(clock, {"n1": 4}, on_start=script, kill_wait=7) as slurm:
            slurm_id = await slurm.submit(submission(seconds=90, warn=50))
            await clock.sleep(200)
            job = (await slurm.look_up([slurm_id]))[slurm_id]
            assert (job.state, job.reason) == ("TIMEOUT", "TimeLimit")
            assert job.started_at is not None
            assert job.ended_at is not None
            assert job.ended_at - job.started_at == pytest.approx(127)
            assert [(word, round(after)) for word, after in heard] == [("warned", 70), ("terminated", 120)]

    virtually(main)


def test_first_come_first_served_and_never_more_cpus_than_there_are() -> None:
    async def main(clock: EventLoopClock) -> None:
        async def script(_given: Submission, _job: SlurmJob) -> int:
            running = [job for job in slurm.jobs if job.stage is SlurmStage.RUNNING]
            assert sum(cpus[job.name] for job in running) <= 4
            await clock.sleep(10)
            return 0

        cpus = {f"sg-a-b-{number}": 1 + number % 4 for number in range(12)}
        async with SimulatedSlurm(clock, {"n1": 4}, on_start=script, start_delay=(0.5, 0.5)) as slurm:
            for name, count in cpus.items():
                await slurm.submit(submission(name, cpus=count))
            await clock.sleep(200)
            started = [job.started_at for job in slurm.jobs]
            assert all(job.state == "COMPLETED" for job in slurm.jobs)
            assert started == sorted(started, key=lambda at: at or 0)

    virtually(main)


def test_one_seed_gives_one_history() -> None:
    histories: list[list[tuple[float, int, str, str]]] = []

    async def main(seed: int, clock: EventLoopClock) -> None:
        async with SimulatedSlurm(clock, {"n1": 4, "n2": 2}, seed=seed) as slurm:
            slurm.faults.unreachable_rate = 0.2
            slurm.faults.lost_answer_rate = 0.3
            for number in range(30):
                try:
                    slurm_id = await slurm.submit(submission(f"sg-a-b-{number}", cpus=1 + number % 2))
                    if number % 3 == 0:
                        await clock.sleep(3)
                        await slurm.cancel([slurm_id])
                except SlurmUnreachable:
                    await clock.sleep(1)
            await clock.sleep(100)
            histories.append(list(slurm.history))

    for seed in (1, 1, 2):
        virtually(partial(main, seed))
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_ended_jobs_leave_the_listing_and_stay_in_the_accounting() -> None:
    async def main(clock: EventLoopClock) -> None:
        async def script(_given: Submission, _job: SlurmJob) -> int:
            return 3

        for accounting, state in ((True, "FAILED"), (False, "GONE")):
            async with SimulatedSlurm(clock, {"n1": 1}, on_start=script, accounting=accounting) as slurm:
                slurm_id = await slurm.submit(submission())
                await clock.sleep(250)
                assert [job.exit_code for job in await slurm.list_jobs()] == ["3:0"]
                await clock.sleep(100)
                assert await slurm.list_jobs() == ()
                assert slurm.jobs == ()
                assert (await slurm.look_up([slurm_id]))[slurm_id].state == state

    virtually(main)
