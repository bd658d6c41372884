"""The simulated GitHub's REST, call by call; every answer is held against GitHub's OpenAPI description."""

from __future__ import annotations

import anyio
import pytest
from tests.contract.openapi_checker import ContractError, check_request, check_response
from tests.contract.simulated_github import BUILD, Service, simulate

from slurm_gha.testing.github.errors import NotThere
from slurm_gha.testing.github.runners import Behaviour

RUNS = "/repos/octo/app/actions/runs"
RUNNERS = "/repos/octo/app/actions/runners"


def test_account_and_repositories() -> None:
    async def scenario() -> None:
        service = Service()
        assert (await service.get("/rate_limit")).json()["rate"]["limit"] == 5000
        assert (await service.get("/user")).json()["login"] == "octocat"
        assert (await service.get("/repos/octo/app")).json()["full_name"] == "octo/app"
        assert [each["name"] for each in (await service.get("/orgs/octo/repos")).json()] == ["app"]
        assert (await service.get("/repos/octo/none")).status_code == 404
        assert (await service.get("/api/v3/repos/octo/app")).status_code == 200

    simulate(scenario)


def test_a_run_from_push_to_its_end() -> None:
    async def scenario() -> None:
        service = Service()
        [run] = service.github.push("octo/app")
        listed = (await service.get(f"{RUNS}?status=queued")).json()
        assert [each["id"] for each in listed["workflow_runs"]] == [run.id]
        jobs = (await service.get(f"{RUNS}/{run.id}/jobs")).json()["jobs"]
        assert [(each["name"], each["status"], each["labels"]) for each in jobs] == [
            ("build", "queued", ["self-hosted", "Small"])
        ]
        job = await service.take(service.runner("r1", "self-hosted", "small"))
        assert (await service.get(f"{RUNS}?status=queued")).json()["total_count"] == 0
        assert (await service.get(f"{RUNS}/{run.id}")).json()["status"] == "in_progress"
        shown = (await service.get(f"/repos/octo/app/actions/jobs/{job.id}")).json()
        assert (shown["status"], shown["runner_name"]) == ("in_progress", "r1")
        assert (await service.get(f"/repos/octo/app/actions/jobs/{job.id}/logs")).status_code == 404
        step = {"name": "make", "status": "completed", "conclusion": "success", "started_at": service.clock.now()}
        service.github.complete(job.id, "success", {"version": "1"}, [step], "made\n")
        logs = await service.get(f"/repos/octo/app/actions/jobs/{job.id}/logs")
        assert logs.status_code == 302
        text = await service._client.get(logs.headers["location"])
        assert text.text == "made\n"
        listed = (await service.get(f"{RUNS}/{run.id}/jobs?filter=all&per_page=100")).json()["jobs"]
        assert [each["name"] for each in listed] == ["build", "test (small)", "test (large)"]
        assert (await service.post(f"{RUNS}/{run.id}/cancel")).status_code == 202
        ended = (await service.get(f"{RUNS}?status=completed")).json()["workflow_runs"]
        assert [(each["id"], each["conclusion"]) for each in ended] == [(run.id, "cancelled")]
        assert (await service.post(f"{RUNS}/{run.id}/cancel")).status_code == 409
        assert (await service.post(f"{RUNS}/{run.id}/rerun-failed-jobs")).status_code == 201
        again = (await service.get(f"{RUNS}/{run.id}/jobs")).json()["jobs"]
        assert [(each["run_attempt"], each["status"]) for each in again] == [
            (2, "completed"),
            (2, "queued"),
            (2, "queued"),
        ]
        rerun = await service.post(f"/repos/octo/app/actions/jobs/{again[0]['id']}/rerun")
        assert rerun.status_code == 403

    simulate(scenario)


def test_force_cancel_does_not_wait_for_the_runner() -> None:
    async def scenario() -> None:
        service = Service()
        [run] = service.github.push("octo/app")
        job = await service.take(service.runner("r1", "self-hosted", "small"))
        await service.post(f"{RUNS}/{run.id}/cancel")
        assert (await service.get(f"{RUNS}/{run.id}")).json()["status"] == "in_progress"
        assert service.github.cancellation_requested(job.id)
        assert (await service.post(f"{RUNS}/{run.id}/force-cancel")).status_code == 202
        assert (await service.get(f"{RUNS}/{run.id}")).json()["conclusion"] == "cancelled"
        with pytest.raises(NotThere):
            service.github.renew(job.id)

    simulate(scenario)


@pytest.mark.parametrize("prefix", ["/repos/octo/app", "/orgs/octo", "/enterprises/acme"])
def test_runners_are_minted_listed_and_removed(prefix: str) -> None:
    async def scenario() -> None:
        service = Service()
        service.github.add_enterprise("acme", ["octo"])
        runners = f"{prefix}/actions/runners"
        wish = {"name": "sg-1", "runner_group_id": 1, "labels": ["self-hosted", "small"], "work_folder": "_work"}
        made = await service.post(f"{runners}/generate-jitconfig", json=wish)
        assert made.status_code == 201
        number = made.json()["runner"]["id"]
        assert (await service.post(f"{runners}/generate-jitconfig", json=wish)).status_code == 409
        strange = {**wish, "name": "sg-2", "runner_group_id": 99}
        assert (await service.post(f"{runners}/generate-jitconfig", json=strange)).status_code == 404
        bare = {**wish, "name": "sg-3", "labels": []}
        assert (await service.post(f"{runners}/generate-jitconfig", json=bare, check=False)).status_code == 422
        for kind in ("registration-token", "remove-token"):
            assert (await service.post(f"{runners}/{kind}")).status_code == 201
        assert (await service.get(f"{runners}?name=SG-1")).json()["total_count"] == 1
        assert (await service.get(f"{runners}/{number}")).json()["status"] == "offline"
        service.github.push("octo/app")
        job = await service.take(service.github.runners[number])
        assert (await service.get(f"{runners}/{number}")).json()["busy"] is True
        refused = await service.call("DELETE", f"{runners}/{number}")
        assert refused.status_code == 422
        service.github.complete(job.id, "success")
        assert (await service.call("DELETE", f"{runners}/{number}")).status_code == 204
        assert (await service.call("DELETE", f"{runners}/{number}")).status_code == 404

    simulate(scenario)


def test_unchanged_answers_are_304_and_are_not_counted() -> None:
    async def scenario() -> None:
        service = Service()
        url = f"{RUNS}?status=queued&per_page=100"
        first = await service.get(url)
        assert first.headers["etag"].startswith('W/"')
        headers = {"If-None-Match": first.headers["etag"]}
        left = first.headers["x-ratelimit-remaining"]
        for _ in range(5):
            again = await service.get(url, headers=headers)
            assert (again.status_code, again.headers["x-ratelimit-remaining"]) == (304, left)
        strong = await service.get(url, headers={"Accept-Encoding": "identity"})
        assert strong.headers["etag"].startswith('"')
        service.github.push("octo/app")
        changed = await service.get(url, headers=headers)
        assert (changed.status_code, changed.json()["total_count"]) == (200, 1)
        assert (service.limits.totals().counted, service.limits.totals().uncounted) == (3, 5)

    simulate(scenario)


def test_pages_are_linked_by_id_as_on_github() -> None:
    async def scenario() -> None:
        service = Service()
        runs = [service.github.dispatch("octo/app", BUILD).id for _ in range(5)]
        seen: list[int] = []
        url: str | None = f"{RUNS}?status=queued&per_page=2"
        while url is not None:
            page = await service.get(url)
            seen += [each["id"] for each in page.json()["workflow_runs"]]
            url = page.links["next"]["url"] if "next" in page.links else None
            assert url is None or "/repositories/1/actions/runs?" in url
        assert seen == sorted(runs, reverse=True)
        assert (await service.get(f"{RUNS}?page=99")).json()["workflow_runs"] == []

    simulate(scenario)


def test_a_filtered_listing_ends_at_a_thousand() -> None:
    async def scenario() -> None:
        service = Service()
        for _ in range(1003):
            service.github.dispatch("octo/app", BUILD)
        tenth = await service.get(f"{RUNS}?status=queued&per_page=100&page=10")
        assert len(tenth.json()["workflow_runs"]) == 100
        assert "next" not in tenth.links
        assert (await service.get(f"{RUNS}?status=queued&per_page=100&page=11")).json()["workflow_runs"] == []
        assert len((await service.get(f"{RUNS}?per_page=100&page=11")).json()["workflow_runs"]) == 3

    simulate(scenario)


def test_tokens_see_and_do_what_they_may() -> None:
    async def scenario() -> None:
        service = Service()
        github = service.github
        github.add_repository("octo/other", {})
        github.add_token("reader", permissions={"actions": "read"}, repositories=["octo/app"])
        github.add_token(
            "minter", permissions={"actions": "read", "administration": "write"}, repositories=["octo/app"]
        )
        github.add_token("poor", scopes=[])
        github.add_token("repo", scopes=["repo"])
        wish = {"name": "x", "runner_group_id": 1, "labels": ["a"]}

        async def mint(token: str, prefix: str = "/repos/octo/app") -> int:
            return (
                await service.post(f"{prefix}/actions/runners/generate-jitconfig", json=wish, token=token)
            ).status_code

        assert (await service.get(RUNS, token=None)).status_code == 401
        assert (await service.get(RUNS, token="wrong")).status_code == 401
        assert (await service.get(RUNS, token="reader")).status_code == 200
        assert (await service.get("/repos/octo/other", token="reader")).status_code == 404
        assert (await service.get(RUNS, token="poor")).status_code == 404
        assert await mint("reader") == 403
        assert await mint("repo", "/orgs/octo") == 403
        assert await mint("minter") == 201
        refused = await service.get(RUNNERS, token="reader")
        assert refused.headers["x-accepted-github-permissions"] == "administration=read"
        assert (await service.get(RUNS, token="repo")).headers["x-oauth-scopes"] == "repo"

    simulate(scenario)


def test_a_lost_runner_fails_its_job_and_is_gone() -> None:
    async def scenario() -> None:
        service = Service()
        [run] = service.github.push("octo/app")
        job = await service.take(service.runner("r1", "self-hosted", "small"))
        await anyio.sleep(130)
        shown = (await service.get(RUNNERS)).json()["runners"]
        assert [(each["status"], each["busy"]) for each in shown] == [("offline", True)]
        await anyio.sleep(480)
        assert (await service.get(f"{RUNS}/{run.id}")).json()["conclusion"] == "failure"
        assert job.conclusion == "failure"
        assert (await service.get(RUNNERS)).json()["total_count"] == 0

    simulate(scenario)


def test_an_idle_runner_is_forgotten_where_the_service_does_so() -> None:
    async def scenario() -> None:
        service = Service(behaviour=Behaviour(idle_removal=300))
        session = service.github.open_session(service.runner("r1", "self-hosted"))
        for _ in range(5):
            assert await service.github.wait_for_message(session, 50) is None
        assert (await service.get(RUNNERS)).json()["total_count"] == 1
        with pytest.raises(NotThere):
            await service.github.wait_for_message(session, 50)
        assert (await service.get(RUNNERS)).json()["total_count"] == 0

    simulate(scenario)


def test_the_checker_finds_faults() -> None:
    with pytest.raises(ContractError, match="unknown"):
        check_request("GET", f"{RUNS}?state=queued")
    with pytest.raises(ContractError, match="status"):
        check_request("GET", f"{RUNS}?status=running")
    with pytest.raises(ContractError, match="labels"):
        check_request("POST", f"{RUNNERS}/generate-jitconfig", body={"name": "x", "runner_group_id": 1})
    with pytest.raises(ContractError, match="no such call"):
        check_request("GET", "/repos/octo/app/actions/secrets")
    kind = {"content-type": "application/json"}
    with pytest.raises(ContractError, match="total_count"):
        check_response("GET", RUNNERS, 200, kind, b'{"runners": []}')
    with pytest.raises(ContractError, match="surprise"):
        check_response("GET", RUNNERS, 200, kind, b'{"total_count": 0, "runners": [], "surprise": 1}')
    with pytest.raises(ContractError, match="418"):
        check_response("GET", RUNNERS, 418, kind, b"{}")
