"""A simulated GitHub in process, and a plain client of its scale-set service that checks every answer's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Faults
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.runner_routes import routes as runner_routes
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.github.scalesets.values import ScaleSet
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob
from slurm_gha.testing.runner.virtual import VirtualResult, run_virtual

EPOCH = 1_700_000_000.0
VERSION = "api-version=6.0-preview"
BUILD, MATRIX = ".github/workflows/build.yml", ".github/workflows/matrix.yml"
FILES = {
    BUILD: "on: workflow_dispatch\njobs:\n  build: {runs-on: [lab], steps: [{run: make}]}\n",
    MATRIX: "on: workflow_dispatch\njobs:\n  test:\n    strategy:\n      matrix: {n: [1, 2, 3, 4, 5, 6, 7, 8]}\n"
    "    runs-on: [LAB]\n    steps: [{run: make test}]\n",
    "other.yml": "",
    ".github/workflows/other.yml": "on: workflow_dispatch\n"
    "jobs:\n  plain: {runs-on: [self-hosted, x], steps: [{run: make}]}\n",
}
OTHER = ".github/workflows/other.yml"


@dataclass
class Session:
    """A session as its owner knows it."""

    scale_set: int
    id: str
    url: str
    token: str
    statistics: dict[str, int]
    last: int = 0


class Service:
    """The simulator with one organisation, one enterprise, two repositories, and an admin of ``octo``."""

    def __init__(self, behaviour: Behaviour | None = None, **knobs: Any) -> None:
        self.clock = EventLoopClock(EPOCH)
        self.github = GitHub(self.clock, behaviour=behaviour or Behaviour(scale_sets=ScaleSetBehaviour(**knobs)))
        self.github.add_repository("octo/app", FILES)
        self.github.add_repository("octo/lib", FILES)
        self.github.add_enterprise("big", ["octo"])
        self.github.add_token("all", name="all")
        self.faults, self.limits = Faults(self.clock), Limits(self.clock)
        app = create_app(self.github, faults=self.faults, limits=self.limits, extra_routes=runner_routes(self.github))
        transport = httpx2.ASGITransport(app)  # type: ignore[arg-type]
        self.http = httpx2.AsyncClient(transport=transport, base_url=self.github.url, timeout=None)
        self.url, self.token = "", ""

    async def registration_token(self, scope: str = "orgs/octo") -> str:
        answer = await self.http.post(
            f"/{scope}/actions/runners/registration-token", headers={"Authorization": "Bearer all"}
        )
        assert answer.status_code == 201
        return str(answer.json()["token"])

    async def exchange(self, token: str, path: str = "octo", prefix: str = "") -> httpx2.Response:
        return await self.http.post(
            f"{prefix}/actions/runner-registration",
            headers={"Authorization": f"RemoteAuth {token}"},
            json={"url": f"https://github.com/{path}", "runner_event": "register"},
        )

    async def register(self, scope: str = "orgs/octo", path: str = "octo") -> None:
        answer = await self.exchange(await self.registration_token(scope), path)
        assert answer.status_code == 200
        self.url, self.token = answer.json()["url"], answer.json()["token"]

    async def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, url: str | None = None
    ) -> httpx2.Response:
        """One call of the service; the form of its answer is checked."""
        if not self.url:
            await self.register()
        mark = "&" if "?" in path else "?"
        answer = await self.http.request(
            method,
            f"{self.url if url is None else url}{path}{mark}{VERSION}",
            headers={"Authorization": f"Bearer {token or self.token}"},
            json=body,
        )
        return checked(answer)

    async def create(self, name: str = "lab", labels: Sequence[str] = ()) -> int:
        body: dict[str, Any] = {"name": name, "runnerGroupId": 1, "RunnerSetting": {"disableUpdate": True}}
        if labels:
            body["labels"] = [{"name": label, "type": "System"} for label in labels]
        answer = await self.call("POST", "_apis/runtime/runnerscalesets", body)
        assert answer.status_code == 200, answer.text
        return int(decoded(answer)["id"])

    async def open(self, scale_set: int, owner: str = "here") -> Session:
        answer = await self.call("POST", f"_apis/runtime/runnerscalesets/{scale_set}/sessions", {"ownerName": owner})
        assert answer.status_code == 200, answer.text
        return session_of(scale_set, decoded(answer))

    async def poll(self, session: Session, capacity: int | None = 10) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {session.token}", "Accept": f"application/json; {VERSION}"}
        if capacity is not None:
            headers["X-ScaleSetMaxCapacity"] = str(capacity)
        more = f"&lastMessageId={session.last}" if session.last else ""
        return checked(await self.http.get(session.url + more, headers=headers))

    async def acknowledge(self, session: Session, message_id: int) -> httpx2.Response:
        path, _, query = session.url.partition("?")
        headers = {"Authorization": f"Bearer {session.token}"}
        return checked(await self.http.delete(f"{path}/{message_id}?{query}", headers=headers))

    async def read(self, session: Session, capacity: int | None = 10) -> list[dict[str, Any]]:
        """The items of one message, acknowledged; none when a poll's time went by. Statistics are kept."""
        answer = await self.poll(session, capacity)
        if answer.status_code == 202:
            return []
        assert answer.status_code == 200, answer.text
        message = decoded(answer)
        assert message["messageType"] == "RunnerScaleSetJobMessages"
        session.last, session.statistics = message["messageId"], message["statistics"]
        assert (await self.acknowledge(session, session.last)).status_code == 204
        return list(json.loads(message["body"])) if message["body"] else []

    async def drain(self, session: Session, capacity: int | None = 10) -> list[dict[str, Any]]:
        """All items there are, until a whole poll brings none."""
        found: list[dict[str, Any]] = []
        while (answer := await self.poll(session, capacity)).status_code == 200:
            message = decoded(answer)
            session.last, session.statistics = message["messageId"], message["statistics"]
            assert (await self.acknowledge(session, session.last)).status_code == 204
            found += json.loads(message["body"]) if message["body"] else []
        return found

    async def mint(self, scale_set: int, name: str) -> tuple[int, Secret]:
        answer = await self.call(
            "POST",
            f"_apis/runtime/runnerscalesets/{scale_set}/generatejitconfig",
            {"name": name, "workFolder": "_work"},
        )
        assert answer.status_code == 200, answer.text
        body = decoded(answer)
        assert (body["runner"]["name"], body["runner"]["runnerScaleSetId"]) == (name, scale_set)
        return int(body["runner"]["id"]), Secret(body["encodedJITConfig"])

    async def run(self, jit: Secret, seconds: float = 60.0, **more: Any) -> VirtualResult:
        """Be the runner of the JIT configuration."""
        return await run_virtual(
            self.http, jit, self.clock, duration=lambda _: seconds, outcome=lambda _: "succeeded", **more
        )

    def dispatch(self, path: str = BUILD, repository: str = "octo/app") -> list[SimJob]:
        return self.github.present_jobs(self.github.dispatch(repository, path))

    def scale_set(self, identifier: int) -> ScaleSet:
        return self.github.scale_sets.sets[identifier]


def session_of(scale_set: int, body: dict[str, Any]) -> Session:
    return Session(
        scale_set, body["sessionId"], body["messageQueueUrl"], body["messageQueueAccessToken"], body["statistics"]
    )


def decoded(answer: httpx2.Response) -> Any:
    """The body, a byte order mark before it or not."""
    return json.loads(answer.content.decode("utf-8-sig"))


def checked(answer: httpx2.Response) -> httpx2.Response:
    assert answer.headers["ActivityId"]
    assert answer.headers["X-GitHub-Request-Id"]
    if answer.status_code >= 400 and not answer.headers["content-type"].startswith("text/plain"):
        body = decoded(answer)
        assert body["typeName"].startswith("GitHub.")
        assert body["message"]
    return answer


def kinds(items: Sequence[dict[str, Any]]) -> list[str]:
    return [str(each["messageType"]) for each in items]
