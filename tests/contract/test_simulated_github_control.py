"""The routes by which another process drives the simulated GitHub."""

from __future__ import annotations

import httpx2
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


def test_control_is_shut_without_its_token() -> None:
    async def scenario() -> None:
        for control, given in ((None, ""), (None, "control"), (Secret("control"), "wrong"), (Secret("control"), "")):
            async with client(control, given) as http:
                assert (await http.get("/_sim/state")).status_code == 401
                assert (await http.post("/_sim/push", json={"repository": "o/r"})).status_code == 401

    simulate(scenario)
