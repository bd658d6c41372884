"""Webhooks: the simulated GitHub's against GitHub's own descriptions, examples and client, and our reading of all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.contract.app_world import key_pair
from tests.contract.event_checker import check_event
from tests.contract.simulated_github import BUILD, EPOCH, WORKFLOW, Service, simulate

from slurm_gha.domain.job import JobStatus
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.github.app import App
from slurm_gha.github.assertion import sign
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.delivery import decode, is_signed, job_news, signature
from slurm_gha.github.errors import Forbidden, NotFound
from slurm_gha.github.hooks import Hooks, NoHook, TokenCaller, missed
from slurm_gha.testing.github.errors import NotThere, Unprocessable
from slurm_gha.testing.github.hooks import Hook
from slurm_gha.testing.github.sending import Sender

HERE = Path(__file__).parent / "octokit"
SECRET = "It's a Secret to Everybody"
URL = "http://service/v1/webhooks/app"
HOOKS = "/repos/octo/app/hooks"
TARGET = "x-github-hook-installation-target"
DEPLOY = """
name: Deploy
on: [push]
jobs:
  deploy:
    runs-on: [self-hosted, small]
    environment: production
    steps:
      - run: make deploy
"""


class Listener:
    """Where hooks point: keeps what comes, and answers with ``status``."""

    def __init__(self) -> None:
        self.status = 202
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._hear, methods=["POST"])])

    async def _hear(self, request: Request) -> Response:
        self.heard.append((dict(request.headers), await request.body()))
        return PlainTextResponse("heard", self.status)

    def news(self) -> list[tuple[str, str]]:
        """(event, action) of all that came."""
        return [(headers["x-github-event"], json.loads(body).get("action", "")) for headers, body in self.heard]


def hooked(test: Callable[[Service, Listener], Awaitable[None]]) -> None:
    """Run a test against a GitHub that sends, under a virtual clock."""

    async def main() -> None:
        service, listener = Service(), Listener()
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=listener.app)) as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(Sender(service.github.hooks.outbox, client, service.clock).run)
            await test(service, listener)
            group.cancel_scope.cancel()

    simulate(main)


async def create(service: Service, url: str = URL, path: str = HOOKS) -> int:
    config = {"url": url, "content_type": "json", "secret": SECRET}
    body = {"name": "web", "active": True, "events": ["workflow_job"], "config": config}
    return int((await service.post(path, json=body)).json()["id"])


def an_app(
    service: Service, slug: str = "runners", *, key: int = 0, repositories: Sequence[str] | None = None
) -> tuple[int, str]:
    """An App on ``octo`` that may read runs and nothing of webhooks: its id, and its own word for ten minutes."""
    private, public = key_pair(key)
    app = service.github.apps.add(slug, public, owner="octo", permissions={"actions": "read"})
    service.github.apps.install(app.id, "octo", repositories=repositories)
    return app.id, sign(app.client_id, Secret(private), service.clock.now()).text.reveal()


def test_the_published_test_vector() -> None:
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert signature(Secret(SECRET), b"Hello, World!") == f"sha256={digest}"
    assert is_signed(Secret(SECRET), b"Hello, World!", f"sha256={digest}")
    assert not is_signed(Secret(SECRET), b"Hello, World.", f"sha256={digest}")
    assert not is_signed(Secret(SECRET), b"Hello, World!", digest)


def test_every_body_is_as_github_describes_it_and_is_read() -> None:
    async def test(service: Service, listener: Listener) -> None:
        github = service.github
        github.repository("octo/app").files[".github/workflows/deploy.yml"] = DEPLOY
        github.repository("octo/app").protected.add("production")
        await create(service)
        github.push("octo/app")
        waiting = next(run for run in github.runs.values() if run.workflow.name == "Deploy")
        assert waiting.status == "waiting"
        github.approve("octo/app", waiting.id)
        runner = service.runner("r1", "self-hosted", "small")
        job = await service.take(runner)
        github.complete(job.id, "success")
        for run in list(github.runs.values()):
            if run.status != "completed":
                github.cancel_run("octo/app", run.id)
        await service.clock.sleep(5)
        kinds = set()
        for headers, body in listener.heard:
            action = json.loads(body).get("action")
            check_event(headers["x-github-event"], action, body)
            assert is_signed(Secret(SECRET), body, headers["x-hub-signature-256"])
            if headers["x-github-event"] == "workflow_job":
                news = job_news(decode(body), EPOCH)
                assert news is not None
                assert news.repository == "octo/app"
                kinds.add((news.action, news.job.status, news.job.runner_name))
        assert kinds >= {
            ("queued", JobStatus.QUEUED, None),
            ("waiting", JobStatus.WAITING, None),
            ("in_progress", JobStatus.IN_PROGRESS, "r1"),
            ("completed", JobStatus.COMPLETED, "r1"),
            ("completed", JobStatus.COMPLETED, None),
        }

    hooked(test)


def test_a_hook_is_greeted_told_listed_and_removed() -> None:
    async def test(service: Service, listener: Listener) -> None:
        number = await create(service)
        await service.clock.sleep(1)
        service.github.push("octo/app")
        await service.clock.sleep(1)
        assert listener.news() == [("ping", ""), ("workflow_job", "queued")]
        assert [hook["id"] for hook in (await service.get(HOOKS)).json()] == [number]
        shown = (await service.get(f"{HOOKS}/{number}")).json()
        assert shown["config"]["secret"] == "********"
        assert shown["last_response"]["code"] == 202
        await service.post(f"{HOOKS}/{number}/pings")
        await service.clock.sleep(1)
        assert listener.news()[-1] == ("ping", "")
        assert (await service.call("DELETE", f"{HOOKS}/{number}")).status_code == 204
        service.github.push("octo/app")
        await service.clock.sleep(1)
        assert len(listener.heard) == 3
        assert (await service.get(f"{HOOKS}/{number}")).status_code == 404

    hooked(test)


def test_the_history_is_paged_by_cursor_and_tells_each_try() -> None:
    async def test(service: Service, listener: Listener) -> None:
        number = await create(service)
        await service.clock.sleep(1)
        for _ in range(6):
            service.github.push("octo/app")
        await service.clock.sleep(1)
        path, seen = f"{HOOKS}/{number}/deliveries?per_page=3", []
        while path:
            answer = await service.get(path)
            seen += answer.json()
            link = answer.links.get("next")
            path = link["url"].removeprefix(service.github.url) if link else ""
        assert len(seen) == 7
        assert [each["id"] for each in seen] == sorted((each["id"] for each in seen), reverse=True)
        one = (await service.get(f"{HOOKS}/{number}/deliveries/{seen[0]['id']}")).json()
        assert one["request"]["headers"]["x-github-delivery"] == one["guid"]
        assert one["request"]["payload"]["action"] == "queued"
        assert one["response"]["payload"] == "heard"

    hooked(test)


def test_nothing_is_sent_again_unless_asked_for_and_then_with_its_id() -> None:
    async def test(service: Service, listener: Listener) -> None:
        number = await create(service)
        await service.clock.sleep(1)
        listener.status = 500
        service.github.push("octo/app")
        await service.clock.sleep(3600)
        assert listener.news() == [("ping", ""), ("workflow_job", "queued")]
        first = (await service.get(f"{HOOKS}/{number}/deliveries")).json()[0]
        assert (first["status_code"], first["redelivery"]) == (500, False)
        listener.status = 200
        again = f"{HOOKS}/{number}/deliveries/{first['id']}/attempts"
        assert (await service.post(again)).status_code == 202
        await service.clock.sleep(1)
        second = (await service.get(f"{HOOKS}/{number}/deliveries")).json()[0]
        assert (second["guid"], second["status_code"], second["redelivery"]) == (first["guid"], 200, True)
        assert listener.heard[1][1] == listener.heard[2][1]
        service.github.cancel_run("octo/app", next(iter(service.github.runs)))
        await service.clock.sleep(3 * 86400 + 10)
        assert (await service.get(f"{HOOKS}/{number}/deliveries")).json() == []
        assert (await service.post(again)).status_code == 404

    hooked(test)


@pytest.mark.parametrize("loss", ["lost", "vanished"])
def test_a_lost_delivery_is_in_the_history_a_vanished_one_is_not(loss: str) -> None:
    async def test(service: Service, listener: Listener) -> None:
        number = await create(service)
        await service.clock.sleep(1)
        setattr(service.github.hooks.weather, loss, 1.0)
        service.github.push("octo/app")
        await service.clock.sleep(1)
        assert listener.news() == [("ping", "")]
        listed = (await service.get(f"{HOOKS}/{number}/deliveries")).json()
        assert [each["status_code"] for each in listed] == ([502, 202] if loss == "lost" else [202])

    hooked(test)


def test_deliveries_come_twice_late_and_out_of_order_by_the_seed() -> None:
    async def test(service: Service, listener: Listener) -> None:
        await create(service)
        await service.clock.sleep(1)
        service.github.hooks.weather.doubled, service.github.hooks.weather.delay = 1.0, 30.0
        for _ in range(10):
            service.github.push("octo/app")
        await service.clock.sleep(61)
        ids = [json.loads(body)["workflow_job"]["id"] for _, body in listener.heard[1:]]
        assert len(ids) == 20
        assert ids != sorted(ids)
        assert len({headers["x-github-delivery"] for headers, _ in listener.heard[1:]}) == 10

    hooked(test)


def test_an_unreachable_endpoint_fails_for_as_long() -> None:
    async def test(service: Service, listener: Listener) -> None:
        await create(service)
        service.github.hooks.weather.unreachable.append((EPOCH + 100, EPOCH + 200))
        for at in (50, 150, 250):
            await service.clock.sleep(EPOCH + at - service.clock.now())
            service.github.push("octo/app")
        await service.clock.sleep(1)
        assert [each.attempted.status_code for each in service.github.hooks.history] == [202, 202, 502, 202]

    hooked(test)


def test_organisations_and_apps_are_told_too() -> None:
    async def test(service: Service, listener: Listener) -> None:
        number, word = an_app(service)
        installation = service.github.apps.of(number)[0].id
        await create(service, path="/orgs/octo/hooks")
        config = {"url": f"{URL}-of-the-app", "content_type": "json", "secret": "other secret"}
        changed = await service.call("PATCH", "/app/hook/config", token=word, json=config)
        assert changed.status_code == 200
        service.github.push("octo/app")
        await service.clock.sleep(1)
        heard = [(headers, json.loads(body)) for headers, body in listener.heard]
        jobs = [(headers, body) for headers, body in heard if headers["x-github-event"] == "workflow_job"]
        assert {body.get("installation", {}).get("id") for _, body in jobs} == {None, installation}
        targets = {(h[f"{TARGET}-type"], h[f"{TARGET}-id"]) for h, body in jobs if "installation" in body}
        assert targets == {("integration", str(number))}
        for path, token in (("/app/hook", word), (f"/orgs/octo/hooks/{min(service.github.hooks.hooks)}", "all")):
            listed = (await service.get(f"{path}/deliveries", token=token)).json()
            assert {each["event"] for each in listed} == {"ping", "workflow_job"}
            again = await service.post(f"{path}/deliveries/{listed[0]['id']}/attempts", token=token)
            assert again.status_code == 202

    hooked(test)


def test_an_apps_hook_is_the_apps_alone_and_hears_of_what_it_is_installed_on() -> None:
    async def test(service: Service, listener: Listener) -> None:
        github = service.github
        github.add_repository("octo/lib", {BUILD: WORKFLOW})
        first, word = an_app(service, repositories=["octo/app"])
        second, other = an_app(service, "others", key=1)
        github.hooks.add(f"app/{first}", URL)
        with pytest.raises(NotThere):
            github.hooks.add("app/4711", URL)
        with pytest.raises(Unprocessable):
            github.hooks.add(f"app/{first}", f"{URL}2")
        assert (await service.get("/app/hook/config", token=word)).json()["url"] == URL
        assert (await service.get("/app/hook/config", token=other)).status_code == 404, "it has none"
        token = github.apps.issue(github.apps.of(first)[0]).text
        for path in ("/app/hook/config", "/app/hook/deliveries", "/app/hook/deliveries/1"):
            assert [(await service.get(path, token=each)).status_code for each in ("all", token)] == [401, 401]
        assert (await service.post("/app/hook/deliveries/1/attempts")).status_code == 401

        async def told(repository: str) -> int:
            before = len(listener.heard)
            github.push(repository)
            await service.clock.sleep(1)
            return len(listener.heard) - before

        await service.clock.sleep(1)
        assert (await told("octo/app"), await told("octo/lib")) == (1, 0), "of selected repositories alone"
        installation = github.apps.of(first)[0]
        github.apps.suspend(installation.id)
        assert await told("octo/app") == 0
        github.apps.suspend(installation.id, suspended=False)
        installation.permissions.pop("actions")
        assert await told("octo/app") == 0, "without Actions: read, nothing is told of jobs"
        github.apps.uninstall(installation.id)
        assert await told("octo/app") == 0
        listed = (await service.get("/app/hook/deliveries", token=word)).json()
        assert [(each["event"], each["installation_id"]) for each in listed] == [
            ("workflow_job", installation.id),
            ("ping", None),
        ]
        assert second in github.apps.apps

    hooked(test)


# Our client of hooks


def http_of(service: Service) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(service.app))  # type: ignore[arg-type]


def client_of(service: Service, token: str = "all") -> TokenCaller:
    return TokenCaller(GitHubClient(http_of(service), service.github.url, Secret(token), service.clock))


def scope_of(service: Service, kind: ScopeKind = ScopeKind.REPOSITORY) -> Scope:
    path = "octo/app" if kind is ScopeKind.REPOSITORY else "octo"
    return Scope("app", f"https://github.com/{path}", service.github.url, kind, path)


def test_our_hook_is_found_by_where_it_points_or_by_its_number() -> None:
    async def test(service: Service, listener: Listener) -> None:
        caller, scope = client_of(service), scope_of(service)
        with pytest.raises(NoHook, match="/v1/webhooks/app"):
            await Hooks(scope, caller).find()
        await create(service, "https://elsewhere.example/hook")
        number = await create(service, "https://proxy.example/ci/v1/webhooks/app")
        hook = await Hooks(scope, caller).find()
        assert (hook.path, hook.events, hook.content_type) == (f"{HOOKS}/{number}", ("workflow_job",), "json")
        other = min(service.github.hooks.hooks)
        assert (await Hooks(scope, caller, hook_id=other).find()).url == "https://elsewhere.example/hook"
        with pytest.raises((NotFound, Forbidden)):
            await Hooks(scope, caller, hook_id=999).find()

    hooked(test)


@pytest.mark.parametrize("kind", [ScopeKind.REPOSITORY, ScopeKind.ORGANISATION])
def test_a_missing_permission_is_named(kind: ScopeKind) -> None:
    async def test(service: Service, listener: Listener) -> None:
        service.github.add_token("poor", permissions={"actions": "read"})
        words = "repository permission Webhooks" if kind is ScopeKind.REPOSITORY else "organisation permission Webhooks"
        with pytest.raises(Forbidden, match=words):
            await Hooks(scope_of(service, kind), client_of(service, "poor")).find()

    hooked(test)


@pytest.mark.parametrize("owner", ["repos/octo/app", "orgs/octo", "app/1001"])
def test_what_was_missed_is_seen_and_repeated(owner: str) -> None:
    async def test(service: Service, listener: Listener) -> None:
        an_app(service)
        made: Hook = service.github.hooks.add(owner, URL, secret=SECRET)
        kind = ScopeKind.REPOSITORY if owner.startswith("repos/") else ScopeKind.ORGANISATION
        app = App(http_of(service), service.github.url, "1001", lambda: Secret(key_pair(0)[0]), service.clock)
        hooks = Hooks(scope_of(service, kind), client_of(service), app=app)
        hook = await hooks.find()
        assert hook.path == ("/app/hook" if owner == "app/1001" else f"/{owner}/hooks/{made.id}")
        listener.status = 503
        for _ in range(3):
            service.github.push("octo/app")
            await service.clock.sleep(60)
        listener.status = 202
        attempts = await hooks.attempts(hook, EPOCH + 50)
        assert len(attempts) == 2
        lost = missed(await hooks.attempts(hook, EPOCH))
        assert [each.status_code for each in lost] == [503, 503, 503]
        assert [each.at for each in lost] == sorted(each.at for each in lost)
        await hooks.repeat(hook, lost[0])
        await service.clock.sleep(1)
        assert len(missed(await hooks.attempts(hook, EPOCH))) == 2

    hooked(test)


def test_a_run_alone_is_read_with_its_origin_by_two_calls() -> None:
    from slurm_gha.github.scope import ScopeClient

    async def test(service: Service, listener: Listener) -> None:
        run = service.github.push("octo/app", branch="main", actor="mona")[0]
        client = GitHubClient(http_of(service), service.github.url, Secret("all"), service.clock)
        scope = ScopeClient(client, scope_of(service))
        jobs = await scope.run("octo/app", run.id)
        assert [(job.name, job.status) for job in jobs] == [("build", JobStatus.QUEUED)]
        origin = jobs[0].origin
        assert origin is not None
        assert (origin.event, origin.branch, origin.actor, origin.fork) == ("push", "main", "mona", False)
        assert sum(count.counted for count in service.limits.counters.values()) == 2
        assert await scope.run("octo/app", run.id) == jobs
        assert sum(count.counted for count in service.limits.counters.values()) == 2
        assert await scope.run("octo/app", 12345) == ()

    hooked(test)


# GitHub's own examples and client


def node_modules() -> Path:
    if shutil.which("node") is None or not (HERE / "node_modules/@octokit/webhooks").is_dir():
        pytest.fail("Octokit is not installed: run `make install` (npm ci in tests/contract/octokit)")
    return HERE / "node_modules"


def examples() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for file in sorted((node_modules() / "@octokit/webhooks-examples").glob("*/index.json")):
        for event in json.loads(file.read_text()):
            if event["name"] == "workflow_job":
                found += [(f"{file.parent.name} {number}", body) for number, body in enumerate(event["examples"])]
    return found


@pytest.mark.node
def test_every_published_example_is_read() -> None:
    read = {}
    for name, body in examples():
        news = job_news(decode(json.dumps(body).encode()), EPOCH)
        assert news is not None, name
        item = body["workflow_job"]
        assert (news.job.id, news.job.run_id, news.action) == (item["id"], item["run_id"], body["action"]), name
        assert news.job.labels == {label.lower() for label in item["labels"]}, name
        assert news.job.runner_name == (item["runner_name"] or None), name
        read[name] = news.action
    assert set(read.values()) >= {"queued", "in_progress", "completed"}
    assert len(read) >= 5


@pytest.mark.node
def test_octokit_takes_our_signatures_and_we_take_octokits() -> None:
    node_modules()
    bodies = ["Hello, World!", json.dumps(examples()[0][1]), '{"name":"grüße ☃ 𝄞"}']
    script = """
import { Webhooks } from "@octokit/webhooks";
const { secret, bodies, signatures } = JSON.parse(process.env.CASES);
const webhooks = new Webhooks({ secret });
const out = [];
for (const [i, body] of bodies.entries()) {
  const wrong = await webhooks.verify(body + " ", signatures[i]);
  out.push({ right: await webhooks.verify(body, signatures[i]), wrong, sign: await webhooks.sign(body) });
}
console.log(JSON.stringify(out));
"""
    signatures = [signature(Secret(SECRET), body.encode()) for body in bodies]
    cases = json.dumps({"secret": SECRET, "bodies": bodies, "signatures": signatures})
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script],
        cwd=HERE,
        env={"PATH": os.environ["PATH"], "CASES": cases},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for body, signed, found in zip(bodies, signatures, json.loads(done.stdout), strict=True):
        assert found == {"right": True, "wrong": False, "sign": signed}
        assert is_signed(Secret(SECRET), body.encode(), found["sign"])


def test_an_unknown_action_is_no_mistake() -> None:
    body = {"action": "teleported", "workflow_job": {}, "repository": {"full_name": "octo/app"}}
    assert job_news(body, EPOCH) is None
