"""The simulated scale-set service: from a registration token to a job that a scale set's runner has done."""

from __future__ import annotations

import base64
import json

import anyio
import jwt
from tests.contract.scale_set_service import BUILD, EPOCH, OTHER, Service, decoded, kinds
from tests.contract.simulated_github import simulate

from slurm_gha.testing.runner.virtual import VirtualEnd

SETS = "_apis/runtime/runnerscalesets"


def test_a_job_is_assigned_run_and_over() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        assert session.statistics["totalAssignedJobs"] == 0
        [job] = service.dispatch()
        [assigned] = await service.read(session)
        assert assigned == {
            "messageType": "JobAssigned",
            "runnerRequestId": 0,
            "repositoryName": "app",
            "ownerName": "octo",
            "jobId": job.guid,
            "jobWorkflowRef": f"octo/app/{BUILD}@refs/heads/main",
            "jobDisplayName": "build",
            "workflowRunId": job.run_id,
            "eventName": "workflow_dispatch",
            "requestLabels": ["lab"],
            "queueTime": "2023-11-14T22:13:20.000000Z",
            "scaleSetAssignTime": "2023-11-14T22:13:20.000000Z",
        }
        assert (session.statistics["totalAssignedJobs"], session.statistics["totalRunningJobs"]) == (1, 0)
        runner, jit = await service.mint(scale_set, "r1")
        files = {name: base64.b64decode(text) for name, text in json.loads(base64.b64decode(jit.reveal())).items()}
        described = json.loads(files[".runner"])
        assert (described["RunnerScaleSetId"], described["RunnerScaleSetName"]) == (scale_set, "lab")
        async with anyio.create_task_group() as tasks:
            results = []

            async def live() -> None:
                results.append(await service.run(jit))

            tasks.start_soon(live)
            items: list[dict[str, object]] = []
            while len(items) < 2:
                items += await service.read(session)
                if kinds(items) == ["JobStarted"]:
                    numbers = session.statistics
                    assert (numbers["totalAssignedJobs"], numbers["totalRunningJobs"]) == (1, 1)
                    assert (numbers["totalBusyRunners"], numbers["totalIdleRunners"]) == (1, 0)
                    listed = await service.http.get(
                        "/orgs/octo/actions/runners", headers={"Authorization": "Bearer all"}
                    )
                    assert [(each["name"], each["busy"]) for each in listed.json()["runners"]] == [("r1", True)]
        started, completed = items
        assert (started["runnerId"], started["runnerName"]) == (runner, "r1")
        assert (completed["messageType"], completed["result"]) == ("JobCompleted", "succeeded")
        assert (completed["runnerName"], completed["jobId"]) == ("r1", job.guid)
        assert {"queueTime", "scaleSetAssignTime", "runnerAssignTime", "finishTime"} <= completed.keys()
        assert [result.end for result in results] == [VirtualEnd.FINISHED]
        assert (job.conclusion, job.runner_name) == ("success", "r1")
        await service.drain(session)
        assert set(session.statistics.values()) == {0}

    simulate(scenario)


def test_registration_gives_a_service_with_a_tenant_and_a_token_that_runs_out() -> None:
    async def scenario() -> None:
        service = Service()
        token = await service.registration_token()
        for prefix in ("", "/api/v3"):
            found = (await service.exchange(token, prefix=prefix)).json()
            claims = jwt.decode(found["token"], options={"verify_signature": False})
            assert claims["exp"] == EPOCH + 3600
            assert found["url"].startswith("http://github.test/_services/pipelines/")
            assert found["url"].endswith("/")
        assert (await service.exchange("wrong")).status_code == 401
        assert (await service.exchange(token, "octo/app")).status_code == 403
        for scope, path in (("repos/octo/app", "Octo/App"), ("enterprises/big", "enterprises/big")):
            assert (await service.exchange(await service.registration_token(scope), path)).status_code == 200
        await service.clock.sleep(3601)
        assert (await service.exchange(token)).status_code == 403
        service.url, service.token = found["url"], found["token"]
        assert (await service.call("GET", SETS)).status_code == 401

    simulate(scenario)


def test_only_the_tokens_count_as_rest_calls() -> None:
    async def scenario() -> None:
        service = Service()
        session = await service.open(await service.create())
        await service.read(session)
        assert service.limits.totals().counted == 1
        assert list(service.limits.counters) == [("all", "POST /orgs/{org}/actions/runners/registration-token")]

    simulate(scenario)


def test_a_scale_set_is_made_found_changed_and_removed() -> None:
    async def scenario() -> None:
        service = Service()
        number = await service.create("lab", ["lab", "gpu"])
        assert (await service.call("GET", f"{SETS}?runnerGroupId=1&name=none")).json() == {"count": 0, "value": []}
        [found] = (await service.call("GET", f"{SETS}?runnerGroupId=1&name=LAB")).json()["value"]
        assert (found["id"], [each["name"] for each in found["labels"]]) == (number, ["lab", "gpu"])
        assert found["runnerSetting"] == {"disableUpdate": True}
        groups = (await service.call("GET", "_apis/runtime/runnergroups/?groupName=default")).json()
        assert groups == {"count": 1, "value": [{"id": 1, "name": "Default", "isDefaultGroup": True}]}
        change = {"labels": [{"name": "cpu", "type": "System"}], "RunnerSetting": {"disableUpdate": False}}
        changed = (await service.call("PATCH", f"{SETS}/{number}", change)).json()
        assert [each["name"] for each in changed["labels"]] == ["cpu"]
        assert (await service.call("GET", f"{SETS}/{number}")).json() == changed
        assert (await service.call("DELETE", f"{SETS}/{number}")).status_code == 204
        for method in ("GET", "PATCH", "DELETE"):
            gone = await service.call(method, f"{SETS}/{number}", {} if method == "PATCH" else None)
            assert gone.status_code == 404
            assert "RunnerScaleSetNotFoundException" in decoded(gone)["typeName"]

    simulate(scenario)


def test_other_jobs_and_other_runners_have_nothing_to_do_with_it() -> None:
    async def scenario() -> None:
        service = Service()
        scale_set = await service.create()
        session = await service.open(scale_set)
        await service.read(session)
        [ours], [other] = service.dispatch(), service.dispatch(OTHER)
        plain, _ = service.github.mint_runner("orgs/octo", "plain", ["lab", "self-hosted"])
        theirs = service.github.open_session(plain)
        assert service.github.next_message(theirs) is None
        _, jit = await service.mint(scale_set, "r1")
        assert (await service.run(jit)).end is VirtualEnd.FINISHED
        assert (ours.runner_name, other.status) == ("r1", "queued")
        _, jit = await service.mint(scale_set, "r2")
        assert (await service.run(jit, idle_exit=100)).end is VirtualEnd.IDLE

    simulate(scenario)
