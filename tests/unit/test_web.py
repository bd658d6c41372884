"""The HTTP application: claims and reports, health, metrics; and the server around it."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import httpx2
import pytest

from slurm_gha.controller.desk import Claimed, ClaimRefused, DemandGone, TryLater
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.world import ScopeView, SlurmView
from slurm_gha.web.app import create_app
from slurm_gha.web.health import Health, Reading
from slurm_gha.web.nodes import LONGEST_BODY
from slurm_gha.web.serve import CannotListen, bind, serve

SECRET = "c1aim-secret-of-one-runner"
CONFIG = "eyJqaXQi" * 300
TOKEN = "rep0rt-token"
CLAIM = "/v1/runners/sg-a-small-1/claim"
REPORT = "/v1/runners/sg-a-small-1/report"
FORM = {"slurm_job_id": "42", "node": "n1.cluster"}
Story = Callable[[httpx2.AsyncClient], Awaitable[None]]


class Desk:
    """Answers as it is told to, and remembers."""

    def __init__(self, answer: Claimed | Exception | None = None) -> None:
        self.answer = answer or Claimed(Secret(CONFIG), Secret(TOKEN))
        self.claims: list[tuple[str, str, int, str]] = []
        self.reports: list[tuple[str, str, str, float, str]] = []

    async def claim(self, name: str, secret: Secret, slurm_id: int, node: str) -> Claimed:
        self.claims.append((name, secret.reveal(), slurm_id, node))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def report(self, name: str, token: Secret, event: str, at: float, detail: str) -> None:
        self.reports.append((name, token.reveal(), event, at, detail))
        if isinstance(self.answer, Exception):
            raise self.answer


def _play(
    story: Story,
    desk: Desk | None = None,
    health: Health | None = None,
    on_error: Callable[[str, Exception], None] = lambda where, error: None,
    backend: str = "trio",
) -> None:
    """Run ``story`` with a client of the application in this process."""

    async def main() -> None:
        app = create_app(desk or Desk(), lambda: health or Health(0.0, ()), lambda: b"metric 1\n", on_error)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            await story(client)

    anyio.run(main, backend=backend)


def _bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_claim(backend: str) -> None:
    desk = Desk()

    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.post(CLAIM, headers=_bearer(SECRET), data=FORM)
        assert answer.status_code == 200
        assert answer.text.strip() == CONFIG
        assert answer.headers["x-report-token"] == TOKEN
        assert answer.headers["cache-control"] == "no-store"

    _play(story, desk, backend=backend)
    assert desk.claims == [("sg-a-small-1", SECRET, 42, "n1.cluster")]


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (DemandGone("sg-a-small-1"), 410, None),
        (ClaimRefused("wrong secret"), 403, None),
        (TryLater(2.1), 503, "3"),
        (TryLater(0.0), 503, "1"),
    ],
)
def test_answers_that_are_no_yes(error: Exception, status: int, retry: str | None) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.post(CLAIM, headers=_bearer(SECRET), data=FORM)
        assert answer.status_code == status
        assert answer.headers.get("retry-after") == retry
        assert "wrong" not in answer.text

    _play(story, Desk(error))


def test_a_report() -> None:
    desk = Desk()

    async def story(client: httpx2.AsyncClient) -> None:
        form = {"event": "job_started", "at": "1795481311", "detail": "build\x1b[31m\n(é)" + "x" * 1000}
        answer = await client.post(REPORT, headers=_bearer(TOKEN), data=form)
        assert (answer.status_code, answer.text) == (204, "")
        answer = await client.post(REPORT, headers=_bearer(TOKEN), data={"event": "ended", "at": "1795481311.5"})
        assert answer.status_code == 204

    _play(story, desk)
    (name, token, event, at, detail), last = desk.reports
    assert (name, token, event, at) == ("sg-a-small-1", TOKEN, "job_started", 1795481311.0)
    assert detail.startswith("build [31m (é)xxx")
    assert len(detail) == 300
    assert last[2:] == ("ended", 1795481311.5, "")


def test_a_report_that_is_refused() -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.post(REPORT, headers=_bearer(TOKEN), data={"event": "ended", "at": "1"})
        assert answer.status_code == 403

    _play(story, Desk(ClaimRefused("wrong token")))


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "words"),
    [
        ("/v1/runners/UP/claim", _bearer("s"), b"slurm_job_id=1&node=n", 400, "small letters, digits"),
        (f"/v1/runners/{'a' * 65}/claim", _bearer("s"), b"slurm_job_id=1&node=n", 400, "small letters, digits"),
        (CLAIM, {}, b"slurm_job_id=1&node=n", 401, "Authorization: Bearer"),
        (CLAIM, {"authorization": "Basic eDp5"}, b"slurm_job_id=1&node=n", 401, "Authorization: Bearer"),
        (CLAIM, _bearer("two words"), b"slurm_job_id=1&node=n", 401, "Authorization: Bearer"),
        (CLAIM, _bearer("s" * 513), b"slurm_job_id=1&node=n", 401, "Authorization: Bearer"),
        (CLAIM, _bearer("s"), b"", 400, "slurm_job_id is missing"),
        (CLAIM, _bearer("s"), b"slurm_job_id=1", 400, "node is missing"),
        (CLAIM, _bearer("s"), b"slurm_job_id=-1&node=n", 400, "slurm_job_id is malformed"),
        (CLAIM, _bearer("s"), b"slurm_job_id=%D9%A1&node=n", 400, "slurm_job_id is malformed"),
        (CLAIM, _bearer("s"), b"slurm_job_id=1&node=n%0Ax", 400, "node is malformed"),
        (CLAIM, _bearer("s"), b"slurm_job_id=1&slurm_job_id=2&node=n", 400, "given twice"),
        (CLAIM, _bearer("s"), b"{}", 400, "not a URL-encoded form"),
        (CLAIM, _bearer("s"), b"\xff\xfe=1", 400, "not a URL-encoded form"),
        (CLAIM, _bearer("s"), b"a=%ff&b=1", 400, "not a URL-encoded form"),
        (CLAIM, _bearer("s"), b"&".join(b"f%d=1" % i for i in range(20)), 400, "not a URL-encoded form"),
        (CLAIM, _bearer("s"), b"node=" + b"n" * LONGEST_BODY, 413, "longer than"),
        (REPORT, _bearer("s"), b"event=ended&at=nan", 400, "at is malformed"),
        (REPORT, _bearer("s"), b"event=ended&at=-1", 400, "at is malformed"),
        (REPORT, _bearer("s"), b"event=<b>&at=1", 400, "event is malformed"),
        (REPORT, _bearer("s"), b"at=1", 400, "event is missing"),
    ],
)
def test_bad_requests_get_one_sentence_and_never_reach_the_desk(
    path: str, headers: dict[str, str], body: bytes, status: int, words: str
) -> None:
    desk = Desk()

    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.post(path, headers=headers, content=body)
        assert answer.status_code == status, answer.text
        assert words in answer.text
        assert answer.text.count("\n") == 1

    _play(story, desk)
    assert desk.claims == []
    assert desk.reports == []


def test_a_body_without_an_end_is_cut_off_at_the_limit() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * LONGEST_BODY:
            sent += 1024
            yield b"x" * 1024

    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.post(CLAIM, headers=_bearer("s"), content=endless())
        assert answer.status_code == 413

    _play(story)
    assert sent <= 3 * LONGEST_BODY


def test_an_unexpected_error_is_told_to_the_service_alone() -> None:
    told: list[tuple[str, str]] = []

    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.post(CLAIM, headers=_bearer(SECRET), data=FORM)
        assert (answer.status_code, answer.text) == (500, "internal error\n")

    error = RuntimeError("database is gone")
    _play(story, Desk(error), on_error=lambda where, error: told.append((where, str(error))))
    assert told == [("POST /v1/runners/{name}/claim", "database is gone")]


def test_other_methods_and_paths() -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        assert (await client.get(CLAIM)).status_code == 405
        assert (await client.post("/metrics")).status_code == 405
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/v1/runners/a/b/claim")).status_code == 404

    _play(story)


def test_metrics_and_the_sign_of_life() -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.get("/metrics")
        assert answer.content == b"metric 1\n"
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert (await client.get("/healthz")).status_code == 200

    _play(story, health=Health(1e9, (Reading("Slurm", None),)))


def test_readiness_names_what_cannot_be_read() -> None:
    scopes = {
        "b": ScopeView("b", jobs_at=990.0, runners_at=100.0, runners_error="403: \x1b]bad\ncredentials"),
        "a": ScopeView("a", jobs_at=995.0, runners_at=995.0, jobs_error="one failure is none"),
    }
    health = Health.of(SlurmView(at=None, error="socket timed out"), scopes, 1000.0, recent=60.0)

    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.text.splitlines() == [
            "not ready",
            "Slurm: never read yet: socket timed out",
            "runners of GitHub scope b: not read for 900 s: 403:  ]bad credentials",
        ]
        assert (await client.get("/healthz")).status_code == 200

    _play(story, health=health)


def test_readiness_when_all_is_well() -> None:
    health = Health.of(SlurmView(at=999.0), {"a": ScopeView("a", jobs_at=998.0, runners_at=900.0)}, 1000.0)

    async def story(client: httpx2.AsyncClient) -> None:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (200, "ready\n")

    assert health.ready
    _play(story, health=health)


def test_a_scope_read_in_turns_may_be_older_by_a_round() -> None:
    slurm = SlurmView(at=999.0)
    view = ScopeView("a", jobs_at=400.0, runners_at=999.0, round_seconds=500.0)
    assert Health.of(slurm, {"a": view}, 1000.0, recent=180.0).ready
    assert not Health.of(slurm, {"a": view}, 1100.0, recent=180.0).ready
    assert not Health.of(slurm, {"a": replace(view, runners_at=400.0)}, 1000.0, recent=180.0).ready


def test_a_scope_that_is_pushed_to_may_be_read_less_often() -> None:
    scopes = {name: ScopeView(name, jobs_at=400.0, runners_at=400.0) for name in ("pushed", "polled", "never")}
    slower = {"pushed": 700.0, "never": float("inf")}
    health = Health.of(SlurmView(at=999.0), scopes, 1000.0, slower=slower)
    assert health.problems() == (
        "jobs of GitHub scope polled: not read for 600 s",
        "runners of GitHub scope polled: not read for 600 s",
    )
    later = Health.of(SlurmView(at=1199.0), scopes, 1200.0, slower=slower)
    assert len([line for line in later.problems() if "never" in line]) == 0
    assert len([line for line in later.problems() if "pushed" in line]) == 2


def _served(story: Callable[[str, anyio.Event], Awaitable[None]], desk: Desk) -> None:
    async def main() -> None:
        stop = anyio.Event()
        app = create_app(desk, lambda: Health(0.0, ()), lambda: b"")
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                start = functools.partial(serve, app, bind("127.0.0.1", 0), stop=stop, grace=5)
                port = await tasks.start(start)
                await story(f"http://127.0.0.1:{port}", stop)
                stop.set()

    anyio.run(main)


def test_the_server_logs_no_request(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)

    async def story(url: str, _stop: anyio.Event) -> None:
        async with httpx2.AsyncClient() as client:
            assert (await client.post(url + CLAIM, headers=_bearer(SECRET), data=FORM)).text.strip() == CONFIG
            assert (await client.post(url + CLAIM, headers=_bearer("x y"), data=FORM)).status_code == 401

    _served(story, Desk())
    of_the_server = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx2", "httpcore2"))]
    output = "\n".join(of_the_server) + "".join(capfd.readouterr())
    assert not any(secret in output for secret in (SECRET, CONFIG, TOKEN))


def test_a_stop_lets_a_claim_under_way_finish_and_then_frees_the_port() -> None:
    class Slow(Desk):
        async def claim(self, name: str, secret: Secret, slurm_id: int, node: str) -> Claimed:
            begun.set()
            await anyio.sleep(0.3)
            return await super().claim(name, secret, slurm_id, node)

    begun = anyio.Event()
    urls = []
    statuses = []

    async def story(url: str, stop: anyio.Event) -> None:
        urls.append(url)

        async def ask() -> None:
            async with httpx2.AsyncClient() as client:
                statuses.append((await client.post(url + CLAIM, headers=_bearer(SECRET), data=FORM)).status_code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await begun.wait()
            stop.set()

    _served(story, Slow())
    assert statuses == [200]
    bind("127.0.0.1", int(urls[0].rpartition(":")[2])).close()


def test_a_taken_port_and_an_unusable_certificate_are_told(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
            bind("127.0.0.1", port)
    rubbish = tmp_path / "tls.pem"
    rubbish.write_text("rubbish")
    app = create_app(Desk(), lambda: Health(0.0, ()), lambda: b"")

    async def main() -> None:
        with pytest.raises(CannotListen, match=r"cannot use certificate .*tls\.pem"):
            await serve(app, bind("127.0.0.1", 0), stop=anyio.Event(), tls_certificate=rubbish, tls_key=rubbish)

    anyio.run(main)
