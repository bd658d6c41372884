"""The route of webhooks and the desk behind it: what is taken, what is turned away, and what is on disk by then."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
import httpx2
import pytest
from tests.unit.test_observation import EmptyCluster, EmptyScope

from slurm_gha.controller.deliveries import DeliveryDesk
from slurm_gha.controller.observation import Observer
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import JobStatus
from slurm_gha.domain.scope import Scope, ScopeKind, Source
from slurm_gha.domain.secret import Secret
from slurm_gha.github.delivery import signature
from slurm_gha.observe.events import Bus, DeliveryRefused, DeliveryTaken, Event
from slurm_gha.store.deliveries import DeliveryBook
from slurm_gha.store.errors import JournalError
from slurm_gha.store.journal import Journal
from slurm_gha.web.app import create_app
from slurm_gha.web.health import Health
from slurm_gha.web.webhooks import LONGEST_BODY

NOW = 1_800_000_000.0
SECRET = Secret("It's a Secret to Everybody")
OTHER = Secret("another secret")


class StoppedClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


def scope(name: str, path: str, *, sources: tuple[Source, ...] = (Source.POLL, Source.WEBHOOK)) -> Scope:
    kind = ScopeKind.REPOSITORY if "/" in path else ScopeKind.ORGANISATION
    return Scope(name, f"https://github.com/{path}", "https://api.github.com", kind, path, sources=frozenset(sources))


SCOPES = {
    "lab": scope("lab", "lab"),
    "one": scope("one", "Octo/App"),
    "two": scope("two", "octo/lib"),
    "quiet": scope("quiet", "quiet", sources=(Source.POLL,)),
}
SECRETS = {"lab": SECRET, "one": OTHER, "two": OTHER, "quiet": SECRET}


@dataclass
class Bench:
    """A desk on a real journal, behind the real application."""

    journal: Journal
    secrets: dict[str, Secret] = field(default_factory=lambda: dict(SECRETS))

    def __post_init__(self) -> None:
        self.clock = StoppedClock()
        self.heard: list[Event] = []
        self.woken = 0
        self.hints: list[Hint] = []
        bus = Bus(self.heard.append)
        self.observer = Observer(
            installation="lab",
            scopes={name: EmptyScope() for name in SCOPES},
            cluster=EmptyCluster(),
            journal=self.journal,
            clock=cast(Clock, self.clock),
            bus=bus,
        )
        self.book = DeliveryBook(self.journal)
        self.desk = DeliveryDesk(
            scopes=SCOPES,
            secrets=lambda: self.secrets,
            book=self.book,
            observer=self.observer,
            clock=cast(Clock, self.clock),
            bus=bus,
            woken=self._wake,
            nudge=self.hints.append,
        )
        self.desk.recover()
        self.errors: list[str] = []
        self.app = create_app(
            cast(Any, None),
            lambda: Health(0.0, ()),
            lambda: b"",
            lambda where, error: self.errors.append(f"{where}: {error!r}"),
            deliveries=self.desk,
        )

    def _wake(self) -> None:
        self.woken += 1

    def jobs(self) -> dict[int, tuple[str, str, JobStatus]]:
        """What the next round sees."""
        world = self.observer.world(surplus_since={}, last_tried={}, draining=False)
        return {job.id: (job.scope, job.repository, job.status) for job in world.jobs}

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.heard if isinstance(event, DeliveryTaken)]

    def refusals(self) -> list[str]:
        return [event.scope for event in self.heard if isinstance(event, DeliveryRefused)]


Story = Callable[[httpx2.AsyncClient], Awaitable[None]]


def play(bench: Bench, story: Story) -> None:
    async def main() -> None:
        transport = httpx2.ASGITransport(app=bench.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            await story(client)

    anyio.run(main, backend="trio")
    assert bench.errors == []


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    with Journal.open(tmp_path / "journal") as journal:
        yield Bench(journal)


def payload(action: str = "queued", job_id: int = 7, repository: str = "Lab/Demo", **more: Any) -> dict[str, Any]:
    at = "2027-01-15T08:00:00Z"  # NOW
    item = {
        "id": job_id,
        "run_id": 3,
        "run_attempt": 1,
        "name": "build",
        "workflow_name": "CI",
        "labels": ["self-hosted", "Small"],
        "status": action,
        "created_at": at,
        "started_at": at,
        "completed_at": None,
        "runner_id": None,
        "runner_name": None,
        "head_branch": "main",
    }
    return {
        "action": action,
        "workflow_job": {**item, **more},
        "repository": {"full_name": repository, "forks_count": 0},
        "sender": {"login": "mona"},
    }


def headers(body: bytes, secret: Secret = SECRET, guid: str = "g-1", event: str = "workflow_job") -> dict[str, str]:
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": guid,
        "x-hub-signature-256": signature(secret, body),
    }


async def deliver(
    client: httpx2.AsyncClient, value: Any, *, to: str = "lab", secret: Secret = SECRET, guid: str = "g-1", **more: Any
) -> httpx2.Response:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    given: Mapping[str, str] = {**headers(body, secret, guid), **more}
    return await client.post(f"/v1/webhooks/{to}", content=body, headers=dict(given))


def test_a_queued_job_is_on_disk_and_in_the_next_world_when_the_answer_comes(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        answer = await deliver(client, payload())
        assert (answer.status_code, answer.text) == (202, "new\n")
        assert bench.book.knows("g-1")
        assert bench.jobs() == {7: ("lab", "lab/demo", JobStatus.QUEUED)}
        assert bench.woken == 1
        assert bench.hints == []
        after = Bench(bench.journal)  # another service on the same journal
        assert after.jobs() == bench.jobs()
        assert after.desk.last == {"lab": NOW}
        world = bench.observer.world(surplus_since={}, last_tried={}, draining=False)
        origin = world.jobs[0].origin
        assert origin is not None
        assert (origin.event, origin.branch, origin.actor, origin.fork) == (None, "main", "mona", False)

    play(bench, story)


def test_again_and_in_any_order_changes_nothing(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        for guid, action in (
            ("a", "queued"),
            ("a", "queued"),
            ("b", "completed"),
            ("c", "in_progress"),
            ("b", "completed"),
        ):
            assert (await deliver(client, payload(action), guid=guid)).status_code == 202
        assert bench.outcomes() == ["new", "known", "new", "old", "known"]
        assert bench.jobs() == {}
        assert Bench(bench.journal).jobs() == {}
        late = Bench(bench.journal)
        late.clock.at += 7200.0  # what was kept in memory of the end is forgotten; the journal remembers

        async def later(client: httpx2.AsyncClient) -> None:
            assert (await deliver(client, payload("queued"), guid="d")).text == "old\n"

        transport = httpx2.ASGITransport(app=late.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as other:
            await later(other)
        assert late.jobs() == {}

    play(bench, story)


def test_old_news_makes_no_demand_but_a_look(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        bench.clock.at += 3600.0
        assert (await deliver(client, payload())).text == "late\n"
        assert bench.jobs() == {}
        assert bench.hints == [Hint("lab", "lab/demo", 3)]

    play(bench, story)


@pytest.mark.parametrize("given", ["", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40, "sha256=é"])
@pytest.mark.parametrize("to", ["lab", "nobody", "quiet", "one", "LAB"])
def test_unsigned_is_unsigned_whoever_it_is_for(bench: Bench, given: str, to: str) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        sent = {b"x-hub-signature-256": given.encode("utf-8")}
        answer = await client.post(f"/v1/webhooks/{to}", content=b"{not json", headers=sent)
        assert (answer.status_code, answer.text) == (401, "the signature is missing or wrong\n")
        assert bench.refusals() == ["" if to in ("nobody", "quiet", "LAB") else to]
        assert bench.book.last() == {}

    play(bench, story)


def test_another_scopes_secret_does_not_open_it(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        assert (await deliver(client, payload(), secret=OTHER)).status_code == 401
        assert (await deliver(client, payload(), to="quiet")).status_code == 401
        bench.secrets["lab"] = OTHER  # read again at a reload
        assert (await deliver(client, payload(), secret=OTHER)).status_code == 202

    play(bench, story)


def test_who_knocks_often_does_not_fill_the_log(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        for _ in range(50):
            assert (await client.post("/v1/webhooks/lab", content=b"x")).status_code == 401
        bench.clock.at += 11
        await client.post("/v1/webhooks/lab", content=b"x")
        assert [event.times for event in bench.heard if isinstance(event, DeliveryRefused)] == [1, 50]

    play(bench, story)


def test_only_the_raw_body_counts(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        body = json.dumps(payload()).encode()
        answer = await client.post("/v1/webhooks/lab", content=body + b" ", headers=headers(body))
        assert answer.status_code == 401

    play(bench, story)


@pytest.mark.parametrize(
    ("value", "more"),
    [
        (b"", {}),
        (b"{", {}),
        (b"[1]", {}),
        (b"[" * 100_000, {}),
        (b'{"a": ' + b"1" * 5000 + b"}", {}),
        (b"\xff\xfe", {}),
        ({}, {}),
        ({**payload(), "repository": {}}, {}),
        ({**payload(), "repository": {"full_name": "../x"}}, {}),
        (payload(job_id=0), {}),
        (payload(labels="small"), {}),
        (payload(run_id="3"), {}),
        (payload(), {"x-github-event": ""}),
        (payload(), {"x-github-delivery": ""}),
        (payload(), {"x-github-delivery": "a b"}),
        (payload(), {"content-type": "application/x-www-form-urlencoded"}),
    ],
)
def test_what_is_signed_but_unreadable_is_told_so(bench: Bench, value: Any, more: dict[str, str]) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        answer = await deliver(client, value, **more)
        assert answer.status_code == 400
        assert answer.text.endswith("\n")
        assert bench.jobs() == {}
        assert bench.refusals() == ["lab"]

    play(bench, story)


def test_other_events_leave_no_trace_and_a_ping_is_greeted(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        push = b'{"ref": "refs/heads/main"}'
        answer = await client.post("/v1/webhooks/lab", content=push, headers=headers(push, event="push"))
        assert answer.status_code == 202
        assert bench.heard == []
        assert bench.book.last() == {}
        ping = b'{"zen": "Keep it logically awesome.", "hook_id": 1}'
        answer = await client.post("/v1/webhooks/lab", content=ping, headers=headers(ping, event="ping"))
        assert (answer.status_code, answer.text) == (200, "pong\n")
        assert bench.outcomes() == ["greeting"]
        assert bench.woken == 0
        assert (await deliver(client, payload("teleported"))).status_code == 202
        assert bench.outcomes() == ["greeting", "unused"]

    play(bench, story)


def test_a_repository_of_somebody_else_is_not_ours(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        assert (await deliver(client, payload(repository="other/demo"))).text == "foreign\n"
        assert bench.jobs() == {}
        assert bench.woken == 0
        assert bench.book.knows("g-1"), "it is not asked for again"

    play(bench, story)


def test_one_hook_may_serve_several_scopes_by_one_secret(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        for number, repository in enumerate(("octo/app", "octo/lib", "lab/demo"), 1):
            await deliver(
                client, payload(job_id=number, repository=repository), to="one", secret=OTHER, guid=f"g-{number}"
            )
        assert bench.jobs() == {1: ("one", "Octo/App", JobStatus.QUEUED), 2: ("two", "octo/lib", JobStatus.QUEUED)}
        assert bench.outcomes() == ["new", "new", "foreign"]

    play(bench, story)


@pytest.mark.parametrize("announced", [True, False])
def test_too_long_a_body_is_not_taken_in(bench: Bench, announced: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * (LONGEST_BODY // 50)

    async def story(client: httpx2.AsyncClient) -> None:
        sent = {"content-length": str(10 * LONGEST_BODY)} if announced else {}
        tracemalloc.start()
        answer = await client.post("/v1/webhooks/lab", content=b"" if announced else parts(), headers=sent)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert answer.status_code == 413
        assert most < 6 * LONGEST_BODY

    play(bench, story)


def test_a_journal_that_fails_takes_no_delivery(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> int:
        raise JournalError("the disk is full")

    async def story(client: httpx2.AsyncClient) -> None:
        monkeypatch.setattr(bench.journal, "write", full)
        assert (await deliver(client, payload())).status_code == 503
        assert bench.jobs() == {}
        assert bench.woken == 0

    play(bench, story)


def test_the_books_are_pruned_after_github_has_forgotten(bench: Bench) -> None:
    async def story(client: httpx2.AsyncClient) -> None:
        await deliver(client, payload("completed"))
        assert bench.book.prune(NOW + 3 * 86400) == 0
        assert bench.book.knows("g-1")
        assert bench.book.prune(NOW + 5 * 86400) == 1
        assert not bench.book.knows("g-1")

    play(bench, story)
