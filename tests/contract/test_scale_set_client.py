"""Our client of the scale-set protocol, against the simulated service: every call, and what goes wrong with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from tests.contract.scale_set_service import BUILD, Service
from trio.testing import MockClock

from slurm_gha.domain.scaleset import NewsKind
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import Forbidden, GitHubUnavailable, NotFound
from slurm_gha.github.scaleset import errors
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.github.scaleset.connection import Connection
from slurm_gha.testing.github.faults import Fault, FaultKind

LABELS = frozenset({"lab", "large"})


@dataclass
class Bench:
    service: Service
    client: ScaleSetClient

    async def made(self) -> int:
        return (await self.client.create("lab", 1, LABELS)).id


def bench(test: Callable[[Bench], Awaitable[None]], *, token: str = "all", **knobs: Any) -> None:
    """Run the test under virtual time; ``knobs`` are the service's."""

    async def main() -> None:
        service = Service(**knobs)
        service.clock.now()
        scope = Scope("octo", "https://github.com/octo", service.github.url, ScopeKind.ORGANISATION, "octo")
        async with service.http:
            rest = GitHubClient(service.http, service.github.url, Secret(token), service.clock, jitter=lambda: 0.5)
            await test(Bench(service, ScaleSetClient(Connection(service.http, rest, scope, service.clock))))

    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


@pytest.mark.parametrize("byte_order_mark", [False, True])
def test_a_scale_set_is_made_found_changed_and_removed(byte_order_mark: bool) -> None:
    async def test(at: Bench) -> None:
        assert await at.client.find("lab", 1) is None
        made = await at.client.create("Lab", 1, LABELS)
        assert made.labels == LABELS
        assert made.disable_update is True
        assert await at.client.find("lab", 1) == made
        with pytest.raises(errors.ScaleSetExists):
            await at.client.create("lab", 1, LABELS)
        assert (await at.client.update(made.id, "Lab", 1, frozenset({"lab"}))).labels == {"lab"}
        assert await at.client.group_id("default") == 1
        with pytest.raises(NotFound):
            await at.client.group_id("nobody's")
        await at.client.delete(made.id)
        await at.client.delete(made.id)
        with pytest.raises(errors.ScaleSetNotFound):
            await at.client.update(made.id, "Lab", 1, LABELS)
        with pytest.raises(errors.ScaleSetNotFound):
            await at.client.open_session(made.id, "us")
        with pytest.raises(errors.ScaleSetNotFound):
            await at.client.mint(made.id, "r")
        assert at.client.renewals == 1

    bench(test, byte_order_mark=byte_order_mark)


def test_labels_that_the_service_does_not_keep_are_seen() -> None:
    async def test(at: Bench) -> None:
        assert (await at.client.create("lab", 1, LABELS)).labels == {"lab"}

    bench(test, several_labels=False)


def test_one_session_at_a_time_refreshed_and_given_back() -> None:
    async def test(at: Bench) -> None:
        number = await at.made()
        session = await at.client.open_session(number, "first controller")
        with pytest.raises(errors.SessionConflict, match="first controller"):
            await at.client.open_session(number, "second")
        again = await at.client.refresh_session(number, session.id)
        assert again.id == session.id
        await at.client.close_session(again)
        await at.client.close_session(again)
        with pytest.raises(errors.SessionGone):
            await at.client.refresh_session(number, session.id)
        await at.client.open_session(number, "second")

    bench(test)


def test_messages_come_until_they_are_acknowledged_and_the_capacity_is_told() -> None:
    async def test(at: Bench) -> None:
        number = await at.made()
        session = await at.client.open_session(number, "us")
        began = at.service.clock.now()
        assert await at.client.poll(session, 0, 3) is None
        assert 49 <= at.service.clock.now() - began <= 55
        at.service.github.dispatch("octo/app", BUILD)
        first = await at.client.poll(session, 0, 3)
        again = await at.client.poll(session, 0, 3)
        assert first is not None
        assert first == again
        assert [news.kind for news in first.news] == [NewsKind.ASSIGNED]
        assert first.news[0].repository == "octo/app"
        assert first.statistics is not None
        assert first.statistics.assigned == 1
        await at.client.acknowledge(session, first.id)
        await at.client.acknowledge(session, first.id)
        assert await at.client.poll(session, first.id, 3) is None
        assert {told for _, told in at.service.github.scale_sets.sets[number].capacities} == {3}

    bench(test)


def test_where_jobs_have_to_be_acquired() -> None:
    async def test(at: Bench) -> None:
        session = await at.client.open_session(await at.made(), "us")
        with anyio.move_on_after(1.0):
            await at.client.poll(session, 0, 3)
        at.service.github.dispatch("octo/app", BUILD)
        message = await at.client.poll(session, 0, 3)
        assert message is not None
        (news,) = message.news
        assert news.kind is NewsKind.AVAILABLE
        assert await at.client.acquire(session, [news.request_id]) == (news.request_id,)
        assert await at.client.acquire(session, [news.request_id]) == ()

    bench(test, acquire=True)


def test_a_queue_token_that_has_expired_is_told_and_refreshed() -> None:
    async def test(at: Bench) -> None:
        number = await at.made()
        session = await at.client.open_session(number, "us")
        await at.service.clock.sleep(61.0)
        with pytest.raises(errors.QueueTokenExpired):
            await at.client.poll(session, 0, 3)
        with pytest.raises(errors.QueueTokenExpired):
            await at.client.acknowledge(session, 1)
        with pytest.raises(errors.QueueTokenExpired):
            await at.client.acquire(session, [1])
        assert await at.client.poll(await at.client.refresh_session(number, session.id), 0, 3) is None

    bench(test, queue_token_lifetime=60.0)


def test_runners_are_registered_found_and_removed_but_not_while_they_have_a_job() -> None:
    async def test(at: Bench) -> None:
        number = await at.made()
        minted = await at.client.mint(number, "r1")
        with pytest.raises(errors.AgentExists):
            await at.client.mint(number, "r1")
        assert await at.client.find_runner("r1") == minted.registration_id
        assert await at.client.find_runner("r2") is None
        at.service.github.runners[minted.registration_id].job_id = 7
        if at.service.github.runners[minted.registration_id].busy:
            with pytest.raises(errors.JobStillRunning):
                await at.client.remove_runner(minted.registration_id)
            at.service.github.runners[minted.registration_id].job_id = None
        await at.client.remove_runner(minted.registration_id)
        await at.client.remove_runner(minted.registration_id)
        assert await at.client.find_runner("r1") is None
        assert minted.config.reveal() not in repr(minted)

    bench(test)


def test_the_admin_token_is_renewed_before_its_end_once_for_all_and_the_address_may_change() -> None:
    async def test(at: Bench) -> None:
        await at.client.find("lab", 1)
        await at.service.clock.sleep(530.0)
        await at.client.find("lab", 1)
        assert at.client.renewals == 1
        at.service.github.scale_sets.move()
        await at.service.clock.sleep(20.0)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(at.client.find, "lab", 1)
        assert at.client.renewals == 2

    bench(test, admin_token_lifetime=600.0)


@pytest.mark.parametrize("kind", [FaultKind.ERROR, FaultKind.DROP, FaultKind.THROTTLE])
def test_what_is_no_answer_is_asked_for_again_at_most_four_times(kind: FaultKind) -> None:
    async def test(at: Bench) -> None:
        await at.client.find("lab", 1)
        calls: list[float] = []
        began = at.service.clock.now()
        at.service.faults.faults = [Fault(kind, route="_services", status=503 if kind is FaultKind.ERROR else 429)]
        with pytest.raises(GitHubUnavailable):
            await at.client.find("lab", 1)
        calls.append(at.service.clock.now() - began)
        assert calls[0] == pytest.approx(1 + 2 + 4 + 8, abs=0.5)
        at.service.faults.faults = [Fault(kind, route="_services", end=at.service.clock.now() + 2.0, status=503)]
        assert await at.client.find("lab", 1) is None

    bench(test)


def test_a_registration_that_is_refused_at_first_is_tried_again() -> None:
    async def test(at: Bench) -> None:
        until = at.service.clock.now() + 5.0
        at.service.faults.faults = [Fault(FaultKind.ERROR, route="runner-registration", end=until, status=403)]
        assert await at.client.find("lab", 1) is None
        at.service.faults.faults = [Fault(FaultKind.ERROR, route="_services", status=501)]
        with pytest.raises(Exception, match="501"):
            await at.client.find("lab", 1)

    bench(test)


def test_a_token_that_may_not_is_refused_in_words_without_secrets() -> None:
    async def test(at: Bench) -> None:
        with pytest.raises(Forbidden) as caught:
            await at.client.find("lab", 1)
        assert "not-a-known-token" not in str(caught.value)

    bench(test, token="not-a-known-token")
