"""The routes by which another process drives the simulated GitHub."""

from __future__ import annotations

import httpx2
import jwt
from tests.contract.app_world import key_pair
from tests.contract.simulated_github import BUILD, EPOCH, WORKFLOW, simulate

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.state import GitHub


def client(control: Secret | None, given: str = "control") -> httpx2.AsyncClient:
    app = create_app(GitHub(EventLoopClock(EPOCH)), control_token=control)
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app),  # type: ignore[arg-type]
        base_url="http://github.test",
        headers={"Authorization": f"Bearer {given}"},
    )


def test_a_run_is_set_up_pushed_watched_and_cancelled() -> None:
    async def scenario() -> None:
        async with client(Secret("control")) as http:
            files = {BUILD: WORKFLOW}
            assert (await http.post("/_sim/repositories", json={"full_name": "o/r", "files": files})).status_code == 200
            assert (await http.post("/_sim/tokens", json={"text": "t", "name": "mine"})).status_code == 200
            [run] = (await http.post("/_sim/push", json={"repository": "o/r"})).json()["runs"]
            other = (await http.post("/_sim/dispatch", json={"repository": "o/r", "workflow": BUILD})).json()["run"]
            assert (await http.get("/repos/o/r", headers={"Authorization": "token t"})).status_code == 200
            [first, second] = (await http.get("/_sim/state")).json()["jobs"]
            assert (first["run_id"], first["key"], first["status"]) == (run, "build", "queued")
            assert (await http.post("/_sim/cancel", json={"job_id": first["id"]})).status_code == 200
            assert (await http.post("/_sim/cancel", json={"repository": "o/r", "run_id": other})).status_code == 200
            runs = (await http.get("/_sim/state")).json()["runs"]
            assert [each["conclusion"] for each in runs] == ["cancelled", "cancelled"]
            assert (await http.post("/_sim/rerun", json={"job_id": second["id"]})).status_code == 200
            assert (await http.get("/_sim/counters")).json() == {
                "counted": 1,
                "uncounted": 0,
                "calls": [{"token": "mine", "route": "GET /repos/{owner}/{repo}", "counted": 1, "uncounted": 0}],
            }
            assert (await http.post("/_sim/push", json={"repository": "o/none"})).status_code == 404
            assert (await http.post("/_sim/push", json={})).status_code == 422

    simulate(scenario)


def test_scale_sets_are_seen_and_made_to_behave_otherwise() -> None:
    async def scenario() -> None:
        async with client(Secret("control")) as http:
            github = http._transport.app.state.github  # type: ignore[attr-defined]
            github.add_repository("octo/app", {BUILD: WORKFLOW})
            number = github.scale_sets.create("orgs/octo", "lab", labels=["self-hosted", "small"]).id
            [run] = (await http.post("/_sim/push", json={"repository": "octo/app"})).json()["runs"]
            [job] = github.present_jobs(github.runs[run])
            [seen] = (await http.get("/_sim/state")).json()["scale_sets"]
            assert (seen["id"], seen["name"], seen["labels"]) == (number, "lab", ["self-hosted", "small"])
            assert (seen["owner"], seen["statistics"]["totalAvailableJobs"]) == (None, 1)
            assert github.scale_sets.state_of(job) == "waiting"
            before = github.scale_sets.tenant
            asked = {"behaviour": {"acquire": True}, "move": True}
            assert (await http.post("/_sim/scale_sets", json=asked)).status_code == 200
            assert github.scale_sets.behaviour.acquire
            assert github.scale_sets.tenant != before
            wrong = {"behaviour": {"nothing": 1}}
            assert (await http.post("/_sim/scale_sets", json=wrong)).status_code == 422

    simulate(scenario)


def test_an_app_is_made_installed_and_suspended() -> None:
    async def scenario() -> None:
        private_key, public_key = key_pair(0)
        async with client(Secret("control")) as http:
            await http.post("/_sim/repositories", json={"full_name": "o/r", "files": {}})
            wish = {"slug": "runners", "public_key": public_key, "owner": "o", "permissions": {"actions": "read"}}
            app = (await http.post("/_sim/apps", json=wish)).json()
            number = (await http.post("/_sim/installations", json={"app": app["id"], "account": "o"})).json()["id"]
            claims = {"iss": app["client_id"], "iat": int(EPOCH) - 60, "exp": int(EPOCH) + 540}
            word = jwt.encode(claims, private_key, algorithm="RS256")
            headers = {"Authorization": f"Bearer {word}"}
            found = (await http.get("/repos/o/r/installation", headers=headers)).json()
            assert (found["id"], found["suspended_at"]) == (number, None)
            await http.post("/_sim/suspensions", json={"installation": number})
            assert (await http.get("/repos/o/r/installation", headers=headers)).json()["suspended_at"] is not None
            again = await http.post("/_sim/installations", json={"app": app["id"], "account": "o"})
            assert again.status_code == 422

    simulate(scenario)


def test_control_is_shut_without_its_token() -> None:
    async def scenario() -> None:
        for control, given in ((None, ""), (None, "control"), (Secret("control"), "wrong"), (Secret("control"), "")):
            async with client(control, given) as http:
                assert (await http.get("/_sim/state")).status_code == 401
                assert (await http.post("/_sim/push", json={"repository": "o/r"})).status_code == 401

    simulate(scenario)
