"""Jobs of the simulated scale-set service: capacity, acquiring, taking back, cancelling, and when scale sets go."""

from __future__ import annotations

from typing import Any

import anyio
from tests.contract.scale_set_service import MATRIX, OTHER, Service, decoded, kinds
from tests.contract.simulated_github import simulate

from slurm_gha.testing.runner.virtual import VirtualEnd

SETS = "_apis/runtime/runnerscalesets"


def test_no_more_jobs_are_assigned_than_there_is_capacity_for() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        service.dispatch(MATRIX)
        assert session.statistics["totalAssignedJobs"] == 0
        assert kinds(await service.read(session, 3)) == ["JobAssigned"] * 3
        numbers = session.statistics
        assert (numbers["totalAssignedJobs"], numbers["totalAvailableJobs"]) == (3, 5)
        _, jit = await service.mint(scale_set, "r1")
        assert (await service.run(jit)).end is VirtualEnd.FINISHED
        assert kinds(await service.drain(session, 3)) == ["JobStarted", "JobCompleted", "JobAssigned"]
        assert session.statistics["totalAssignedJobs"] == 3
        assert kinds(await service.read(session, 5)) == ["JobAssigned"] * 2
        assert kinds(await service.read(session, 0)) == []
        said = [capacity for _, capacity in service.scale_set(scale_set).capacities]
        assert (said[0], said[-2:]) == (3, [5, 0])

    simulate(scenario)


def test_one_job_is_offered_to_one_of_two_idle_runners() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        await service.drain(session)
        ends: list[VirtualEnd] = []

        async def live(name: str) -> None:
            _, jit = await service.mint(scale_set, name)
            ends.append((await service.run(jit, idle_exit=100)).end)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live, "r1")
            tasks.start_soon(live, "r2")
            await service.clock.sleep(5)
            service.dispatch()
            assert sum(each.assignment is not None for each in service.github.sessions.values()) == 1
        assert sorted(ends) == [VirtualEnd.FINISHED, VirtualEnd.IDLE]

    simulate(scenario)


def test_jobs_are_announced_and_assigned_once_acquired() -> None:
    async def scenario() -> None:
        service = Service(acquire=True)
        scale_set = await service.create()
        session = await service.open(scale_set)
        service.dispatch(MATRIX)
        announced = await service.read(session, 2)
        assert kinds(announced) == ["JobAvailable"] * 2
        assert (session.statistics["totalAssignedJobs"], session.statistics["totalAvailableJobs"]) == (0, 8)
        assert announced[0]["acquireJobUrl"]
        ids = [each["runnerRequestId"] for each in announced]
        assert all(ids)
        _, jit = await service.mint(scale_set, "r1")
        assert (await service.run(jit, idle_exit=10)).end is VirtualEnd.IDLE
        path = f"{SETS}/{scale_set}/acquirejobs"
        acquired = await service.call("POST", path, [ids[0], 12345], token=session.token)
        assert decoded(acquired) == {"count": 1, "value": [ids[0]]}
        again = await service.call("POST", path, [ids[0]], token=session.token)
        assert decoded(again) == {"count": 0, "value": []}
        [assigned] = await service.read(session, 2)
        assert (assigned["messageType"], assigned["runnerRequestId"]) == ("JobAssigned", ids[0])
        _, jit = await service.mint(scale_set, "r2")
        assert (await service.run(jit)).end is VirtualEnd.FINISHED
        items = [each for _ in range(3) for each in await service.read(session, 2)]
        assert [each["result"] for each in items if each["messageType"] == "JobCompleted"] == ["succeeded"]
        # The one not acquired is announced anew, and so is the next, as there is room.
        anew = {each["runnerRequestId"] for each in items if each["messageType"] == "JobAvailable"}
        assert len(anew) >= 2
        assert ids[0] not in anew

    simulate(scenario)


def test_a_job_that_no_runner_takes_is_taken_back_up_to_three_times() -> None:
    async def scenario() -> None:
        service = Service(assignment_timeout=100, requeue_delays=(10.0, 40.0, 200.0), statistics_messages=False)
        session = await service.open(await service.create())
        await service.poll(session)
        [job] = service.dispatch()
        items: list[tuple[float, dict[str, Any]]] = []
        start = service.clock.now()
        while service.clock.now() < start + 2000:
            items += [(service.clock.now() - start, each) for each in await service.read(session)]
        assert [(round(at), each["messageType"]) for at, each in items] == [
            (0, "JobAssigned"),
            (100, "JobCompleted"),
            (110, "JobAssigned"),
            (210, "JobCompleted"),
            (250, "JobAssigned"),
            (350, "JobCompleted"),
            (550, "JobAssigned"),
        ]
        assert {each["result"] for _, each in items if "result" in each} == {"canceled"}
        assert {each["jobId"] for _, each in items} == {job.guid}
        assert (job.status, session.statistics["totalAssignedJobs"]) == ("queued", 1)

    simulate(scenario)


def test_a_job_taken_back_is_assigned_again_though_nobody_polls() -> None:
    async def scenario() -> None:
        service = Service(assignment_timeout=20, requeue_delays=(10.0,), poll_seconds=1)
        session = await service.open(await service.create())
        await service.poll(session)
        [job] = service.dispatch()
        states = []
        for seconds in (0, 21, 10):
            await service.clock.sleep(seconds)
            service.github.tick()
            states.append(service.github.scale_sets.state_of(job))
        assert states == ["assigned", "waiting", "assigned"]
        assert kinds(await service.read(session)) == ["JobAssigned", "JobCompleted", "JobAssigned"]

    simulate(scenario)


def test_cancelled_jobs_are_told_of_as_far_as_they_had_come() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        jobs = service.dispatch(MATRIX)
        await service.read(session, 2)
        waiting, assigned, running = jobs[5], jobs[1], jobs[0]
        _, jit = await service.mint(scale_set, "r1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.run, jit, 500.0)
            assert kinds(await service.read(session, 2))[-1:] in ([], ["JobStarted"])
            await service.clock.sleep(1)
            await service.drain(session, 2)
            service.github.cancel_job(waiting.id)
            service.github.cancel_job(assigned.id)
            items = await service.read(session, 0)
            assert [(each["messageType"], each["jobId"], each["result"]) for each in items[:1]] == [
                ("JobCompleted", assigned.guid, "canceled")
            ]
            assert waiting.guid not in {each["jobId"] for each in items}
            service.github.cancel_job(running.id)
        items = await service.drain(session, 0)
        ended = [each for each in items if each["messageType"] == "JobCompleted"]
        assert [(each["jobId"], each["result"], each["runnerName"]) for each in ended] == [
            (running.guid, "canceled", "r1")
        ]

    simulate(scenario)


def test_a_job_may_be_called_completed_while_it_runs() -> None:
    async def scenario() -> None:
        service = Service(completed_early=20.0)
        scale_set = await service.create()
        session = await service.open(scale_set)
        [job] = service.dispatch()
        await service.read(session)
        runner, jit = await service.mint(scale_set, "r1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.run, jit, 300.0)
            items: list[dict[str, Any]] = []
            while "JobCompleted" not in kinds(items):
                items += await service.read(session)
            assert (job.status, items[-1]["runnerId"]) == ("in_progress", runner)
            assert session.statistics["totalRunningJobs"] == 1
            refused = await service.call("DELETE", f"_apis/distributedtask/pools/0/agents/{runner}")
            assert refused.status_code == 400
            assert "JobStillRunningException" in decoded(refused)["typeName"]
        assert job.conclusion == "success"
        assert kinds(await service.drain(session)) == []

    simulate(scenario)


def test_runners_are_found_and_removed() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        runner, _ = await service.mint(scale_set, "r1")
        plain, _ = service.github.mint_runner("orgs/octo", "plain", ["x"])
        elsewhere, _ = service.github.mint_runner("repos/octo/app", "other", ["x"])
        agents = "_apis/distributedtask/pools/0/agents"
        found = {"id": runner, "name": "r1", "runnerScaleSetId": scale_set}
        assert decoded(await service.call("GET", f"{agents}/{runner}")) == found
        assert decoded(await service.call("GET", f"{agents}?agentName=R1")) == {"count": 1, "value": [found]}
        assert decoded(await service.call("GET", f"{agents}?agentName=r2")) == {"count": 0, "value": []}
        assert decoded(await service.call("GET", f"{agents}/{plain.id}"))["runnerScaleSetId"] == 0
        for _ in range(2):
            assert (await service.call("DELETE", f"{agents}/{runner}")).status_code == 204
        for missing in (runner, elsewhere.id):
            gone = await service.call("GET", f"{agents}/{missing}")
            assert gone.status_code == 404
            assert "AgentNotFoundException" in decoded(gone)["typeName"]
        assert (await service.call("DELETE", f"{agents}/{elsewhere.id}")).status_code == 204
        assert elsewhere.id in service.github.runners

    simulate(scenario)


def test_a_scale_set_left_alone_is_removed_and_its_jobs_are_for_others() -> None:
    async def scenario() -> None:
        service = Service(abandoned_after=1000.0, statistics_messages=False)
        scale_set = await service.create()
        session = await service.open(scale_set)
        await service.poll(session)
        [job] = service.dispatch()
        runner, _ = await service.mint(scale_set, "r1")
        await service.clock.sleep(130)
        assert (await service.call("GET", f"{SETS}/{scale_set}")).status_code == 200
        await service.clock.sleep(1000)
        gone = await service.call("POST", f"{SETS}/{scale_set}/sessions", {"ownerName": "here"})
        assert gone.status_code == 404
        assert runner not in service.github.runners
        plain, _ = service.github.mint_runner("orgs/octo", "plain", ["lab"])
        assert service.github.next_message(service.github.open_session(plain)) is not None
        assert job.assignment is not None

    simulate(scenario)


def test_a_scale_set_made_later_gets_what_waits_and_the_less_laden_gets_the_next() -> None:
    async def scenario() -> None:
        service = Service()
        [early] = service.dispatch()
        first = await service.create("lab")
        session = await service.open(first)
        assert [each["jobId"] for each in await service.read(session)] == [early.guid]
        second = await service.create("second", ["lab", "x"])
        other = await service.open(second)
        await service.poll(other)
        [late] = service.dispatch()
        assert [each["jobId"] for each in await service.read(other)] == [late.guid]
        [elsewhere] = service.dispatch(OTHER)
        assert service.github.scale_sets.state_of(elsewhere) is None

    simulate(scenario)


def test_labels_changed_are_those_of_the_next_assignments() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        [job] = service.dispatch()
        await service.read(session)
        change = {"labels": [{"name": "other", "type": "System"}]}
        assert (await service.call("PATCH", f"{SETS}/{scale_set}", change)).status_code == 200
        [completed] = await service.read(session)
        assert (completed["messageType"], completed["result"]) == ("JobCompleted", "canceled")
        assert service.github.scale_sets.state_of(job) is None
        plain, _ = service.github.mint_runner("orgs/octo", "plain", ["lab"])
        assert service.github.next_message(service.github.open_session(plain)) is not None

    simulate(scenario)


def test_a_service_may_keep_one_label_and_say_so_only_in_its_answer() -> None:
    async def scenario() -> None:
        service = Service(several_labels=False)
        body = {"name": "lab", "labels": [{"name": "x", "type": "System"}, {"name": "self-hosted", "type": "System"}]}
        answer = decoded(await service.call("POST", SETS, body))
        assert [each["name"] for each in answer["labels"]] == ["lab"]
        [plain], [ours] = service.dispatch(OTHER), service.dispatch()
        states = [service.github.scale_sets.state_of(job) for job in (plain, ours)]
        assert states == [None, "waiting"]

    simulate(scenario)
