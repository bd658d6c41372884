"""Sessions of the simulated scale-set service: one at a time, their tokens, their silence, and how messages come."""

from __future__ import annotations

import dataclasses

import anyio
import httpx2
import pytest
from tests.contract.scale_set_service import MATRIX, VERSION, Service, decoded, kinds, session_of
from tests.contract.simulated_github import simulate

from slurm_gha.testing.github.faults import Fault, FaultKind

SETS = "_apis/runtime/runnerscalesets"


def test_a_second_session_is_refused_until_the_first_is_over() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        first = await service.open(scale_set, "one")
        refused = await service.call("POST", f"{SETS}/{scale_set}/sessions", {"ownerName": "two"})
        assert refused.status_code == 409
        assert "RunnerScaleSetSessionConflictException" in decoded(refused)["typeName"]
        assert "owner one" in decoded(refused)["message"]
        path = f"{SETS}/{scale_set}/sessions/{first.id}"
        assert (await service.call("DELETE", path)).status_code == 204
        await service.open(scale_set, "two")
        for gone in (await service.poll(first), await service.call("DELETE", path)):
            assert gone.status_code == 400
            assert "RunnerScaleSetSessionExpiredException" in decoded(gone)["typeName"]

    simulate(scenario)


def test_a_session_that_polls_stays_and_a_silent_one_does_not() -> None:
    async def scenario() -> None:
        service = Service(session_timeout=60)
        scale_set = await service.create()
        first = await service.open(scale_set)
        for _ in range(4):
            assert (await service.poll(first)).status_code == 202
        await service.clock.sleep(50)
        conflict = await service.call("POST", f"{SETS}/{scale_set}/sessions", {"ownerName": "other"})
        assert conflict.status_code == 409
        await service.clock.sleep(11)
        await service.open(scale_set, "other")

    simulate(scenario)


def test_a_poll_without_news_takes_its_time_and_a_refresh_gives_another_token() -> None:
    async def scenario() -> None:
        service = Service(queue_token_lifetime=100)
        scale_set = await service.create()
        session = await service.open(scale_set)
        before = service.clock.now()
        assert (await service.poll(session)).status_code == 202
        assert service.clock.now() - before == pytest.approx(50)
        await service.clock.sleep(50)
        for refused in (await service.poll(session), await service.acknowledge(session, 1)):
            assert refused.status_code == 401
        acquired = await service.call("POST", f"{SETS}/{scale_set}/acquirejobs", [1], token=session.token)
        assert acquired.status_code == 401
        path = f"{SETS}/{scale_set}/sessions/{session.id}"
        fresh = session_of(scale_set, decoded(await service.call("PATCH", path)))
        assert (fresh.id, fresh.url) == (session.id, session.url)
        assert fresh.token != session.token
        assert (await service.poll(fresh)).status_code == 202

    simulate(scenario)


def test_the_service_moves_with_a_registration_and_a_token_is_good_for_its_own_url_alone() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        old_url, old_token = service.url, service.token
        service.github.scale_sets.move()
        await service.register()
        assert service.url != old_url
        assert (await service.call("GET", SETS, url=old_url)).status_code == 401
        assert (await service.call("GET", SETS, token=old_token)).status_code == 401
        assert (await service.call("GET", SETS, url=old_url, token=old_token)).status_code == 200
        assert (await service.poll(session)).status_code == 202
        path = f"{SETS}/{scale_set}/sessions/{session.id}"
        fresh = session_of(scale_set, decoded(await service.call("PATCH", path)))
        assert fresh.url.startswith(service.url)
        assert (await service.poll(fresh)).status_code == 202
        assert (await service.poll(dataclasses.replace(fresh, url=session.url))).status_code == 401

    simulate(scenario)


def test_what_is_not_acknowledged_comes_again() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        await service.poll(session)
        service.dispatch()
        first = decoded(await service.poll(session))
        session.last = first["messageId"]
        again = decoded(await service.poll(session))
        assert again["messageId"] == first["messageId"]
        assert again["body"] == first["body"]
        await service.call("DELETE", f"{SETS}/{scale_set}/sessions/{session.id}")
        other = await service.open(scale_set)
        assert other.statistics["totalAssignedJobs"] == 1
        assert decoded(await service.poll(other))["messageId"] == first["messageId"]
        for _ in range(2):
            assert (await service.acknowledge(other, first["messageId"])).status_code == 204
        assert (await service.poll(other)).status_code == 202

    simulate(scenario)


def test_what_was_read_may_come_again_to_a_new_session_only() -> None:
    async def scenario() -> None:
        service = Service(skip_read=True, statistics_messages=False)
        scale_set = await service.create()
        session = await service.open(scale_set)
        await service.poll(session)
        service.dispatch()
        session.last = decoded(await service.poll(session))["messageId"]
        assert (await service.poll(session)).status_code == 202
        await service.call("DELETE", f"{SETS}/{scale_set}/sessions/{session.id}")
        other = await service.open(scale_set)
        assert decoded(await service.poll(other))["messageId"] == session.last

    simulate(scenario)


def test_a_message_has_at_most_fifty_items_and_statistics_of_now() -> None:
    async def scenario() -> None:
        service = Service()
        session = await service.open(await service.create())
        await service.poll(session, 100)
        for _ in range(9):
            service.dispatch(MATRIX)
        first = await service.read(session, 100)
        assert session.statistics["totalAssignedJobs"] == 72
        second = await service.read(session, 100)
        assert (len(first), len(second)) == (50, 22)
        assert len({each["jobId"] for each in first + second}) == 72

    simulate(scenario)


def test_statistics_come_alone_when_runners_come_and_go() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        runner, _ = await service.mint(scale_set, "r1")
        assert await service.read(session) == []
        assert session.statistics["totalRegisteredRunners"] == 1
        assert (await service.poll(session)).status_code == 202
        await service.call("DELETE", f"_apis/distributedtask/pools/0/agents/{runner}")
        assert decoded(await service.poll(session))["body"] == ""

    simulate(scenario)


def test_bodies_may_begin_with_a_mark_and_hold_the_unheard_of() -> None:
    async def scenario() -> None:
        service = Service(byte_order_mark=True, unknown_items=True, run_ids=False)
        scale_set = await service.create()
        session = await service.open(scale_set)
        marked = [
            (await service.call("GET", f"{SETS}/{scale_set}")).content.startswith(b"\xef\xbb\xbf") for _ in range(2)
        ]
        assert sorted(marked) == [False, True]
        await service.poll(session)
        service.dispatch()
        unknown, assigned = await service.read(session)
        assert unknown["messageType"] not in ("JobAvailable", "JobAssigned", "JobStarted", "JobCompleted")
        assert (assigned["messageType"], assigned["runnerRequestId"], assigned["workflowRunId"]) == (
            "JobAssigned",
            0,
            0,
        )

    simulate(scenario)


def test_the_version_and_well_formed_requests_are_demanded() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        bearer = {"Authorization": f"Bearer {service.token}"}
        bare = await service.http.get(f"{service.url}{SETS}", headers=bearer)
        assert bare.status_code == 400
        assert "Version" in bare.json()["typeName"]
        asked = await service.http.get(
            f"{service.url}{SETS}", headers=bearer | {"Accept": f"application/json; {VERSION}"}
        )
        assert asked.status_code == 200
        malformed = [
            await service.call("POST", SETS, {"name": ""}),
            await service.call("POST", SETS, ["lab"]),
            await service.call("POST", SETS, {"name": "x", "labels": ["lab"]}),
            await service.call("POST", SETS, {"name": "x", "runnerGroupId": "1"}),
            await service.call("POST", f"{SETS}/{scale_set}/sessions", {}),
            await service.call("POST", f"{SETS}/{scale_set}/acquirejobs", {}, token=session.token),
            await service.http.get(
                session.url,
                headers={
                    "Authorization": f"Bearer {session.token}",
                    "Accept": VERSION,
                    "X-ScaleSetMaxCapacity": "-1",
                },
            ),
        ]
        for answer in malformed:
            assert answer.status_code == 400
            assert answer.headers["content-type"].startswith("text/plain")
        taken = await service.call("POST", SETS, {"name": "LAB"})
        assert taken.status_code == 400
        assert "RunnerScaleSetExistsException" in decoded(taken)["typeName"]
        assert (await service.call("POST", SETS, {"name": "x", "runnerGroupId": 7})).status_code == 404
        assert (await service.call("GET", SETS, token=session.token)).status_code == 401
        event = {"url": "https://github.com/octo", "runner_event": "remove"}
        token = {"Authorization": f"RemoteAuth {await service.registration_token()}"}
        refused = await service.http.post("/actions/runner-registration", headers=token, json=event)
        assert refused.status_code == 422
        assert (await service.exchange(token["Authorization"].split()[1], "a/b/c")).status_code == 404

    simulate(scenario)


def test_faults_strike_here_as_everywhere() -> None:
    async def scenario() -> None:
        service = Service()
        session = await service.open(await service.create())
        poll = r"GET .*/messages$"
        service.faults.faults = [Fault(FaultKind.ERROR, route=poll, status=503)]
        bearer = {"Authorization": f"Bearer {session.token}", "Accept": VERSION}
        assert (await service.http.get(session.url, headers=bearer)).status_code == 503
        service.faults.faults = [Fault(FaultKind.THROTTLE, route=poll, status=429, retry_after=5)]
        assert (await service.http.get(session.url, headers=bearer)).headers["retry-after"] == "5"
        service.faults.faults = [Fault(FaultKind.DROP, route=poll)]
        with pytest.raises(httpx2.RemoteProtocolError):
            await service.http.get(session.url, headers=bearer)
        service.faults.faults = [Fault(FaultKind.HANG, route=poll)]
        with anyio.move_on_after(1000) as scope:
            await service.http.get(session.url, headers=bearer)
        assert scope.cancelled_caught
        service.faults.faults = [Fault(FaultKind.LOSE, route="generatejitconfig")]
        with pytest.raises(httpx2.RemoteProtocolError):
            await service.call("POST", f"{SETS}/{session.scale_set}/generatejitconfig", {"name": "r1"})
        service.faults.faults = []
        again = await service.call("POST", f"{SETS}/{session.scale_set}/generatejitconfig", {"name": "R1"})
        assert again.status_code == 409
        assert "AgentExistsException" in decoded(again)["typeName"]
        other = await service.open(session.scale_set, "after the silence")
        assert kinds(await service.read(other)) == []

    simulate(scenario)
