"""The client and the scope on top of it, against a scripted GitHub, under virtual time."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Sequence
from typing import Any

import anyio
import httpx2
import pytest
from tests.unit.scripted_github import API, EPOCH, TOKEN, Bench, Reply, simulate

from slurm_gha.controller.ports import GitHubScope
from slurm_gha.domain.job import Origin
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.github import parse
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import (
    Forbidden,
    GitHubError,
    GitHubUnavailable,
    Invalid,
    NameTaken,
    NotFound,
    RateLimited,
    RunnerBusy,
)
from slurm_gha.github.pace import Limits
from slurm_gha.github.permissions import LIST, MANAGE, Sight, Standing
from slurm_gha.github.scope import UNFINISHED, ScopeClient

REPOSITORY = Scope("one", "https://github.test/o/r", API, ScopeKind.REPOSITORY, "o/r")
ORGANISATION = Scope("org", "https://github.test/o", API, ScopeKind.ORGANISATION, "o")
RUNNERS = "/repos/o/r/actions/runners?per_page=100"
JIT = "/repos/o/r/actions/runners/generate-jitconfig"


def runs_target(status: str, repository: str = "o/r") -> str:
    return f"/repos/{repository}/actions/runs?status={status}&per_page=100"


def jobs_target(run: int) -> str:
    return f"/repos/o/r/actions/runs/{run}/jobs?filter=latest&per_page=100"


def runs_reply(*runs: int, etag: str | None = None) -> Reply:
    return Reply(body={"total_count": len(runs), "workflow_runs": [{"id": run} for run in runs]}, etag=etag)


def jobs_reply(*jobs: tuple[int, str], etag: str | None = None) -> Reply:
    items = [{"id": number, "status": status, "labels": ["Small"]} for number, status in jobs]
    return Reply(body={"total_count": len(jobs), "jobs": items}, etag=etag)


def runners_reply(*numbers: int, **more: Any) -> Reply:
    runners = [
        {"id": number, "name": f"r{number}", "status": "online", "busy": False, "labels": []} for number in numbers
    ]
    return Reply(body={"total_count": len(numbers), "runners": runners}, **more)


def script(bench: Bench, **statuses: Sequence[Reply]) -> None:
    for status in UNFINISHED:
        bench.github.on("GET", runs_target(status), *statuses.get(status, [runs_reply(etag=f'W/"{status}-0"')]))


async def ids(scope: ScopeClient) -> list[int]:
    return [job.id for job in await scope.jobs("o/r")]


def test_it_fits_what_the_controller_needs() -> None:
    async def test(bench: Bench) -> None:
        port: GitHubScope = ScopeClient(bench.client, REPOSITORY)
        assert await port.repositories() == ("o/r",)

    simulate(test)


def test_every_request_says_who_asks_and_no_text_says_the_token(caplog: pytest.LogCaptureFixture) -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, runners_reply(1))
        bench.github.on("POST", JIT, Reply(403, {"message": f"no, {TOKEN}"}))
        scope = ScopeClient(bench.client, REPOSITORY)
        await scope.runners()
        with pytest.raises(Forbidden) as caught:
            await scope.mint("n", ["small"], 1)
        assert TOKEN not in str(caught.value)
        assert TOKEN not in repr(bench.client)
        for seen in bench.github.seen:
            assert seen.headers["authorization"] == f"Bearer {TOKEN}"
            assert seen.headers["user-agent"].startswith("slurm-gha/")
            assert seen.headers["x-github-api-version"] == "2022-11-28"
            assert seen.headers["accept"] == "application/vnd.github+json"

    with caplog.at_level(logging.DEBUG):
        simulate(test)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("token", ["", "abc\n", "a b", "ghp_\u00e9"])
def test_a_token_that_cannot_be_one_is_not_sent_nor_shown(token: str) -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(Forbidden) as caught:
            await bench.client.look("/user")
        assert token == "" or token not in str(caught.value)
        assert bench.github.seen == []

    simulate(test, token=Secret(token))


def test_a_token_provider_is_asked_each_time() -> None:
    tokens = [Secret("first"), Secret("second")]

    async def provide() -> Secret:
        return tokens.pop(0)

    async def test(bench: Bench) -> None:
        bench.github.on("GET", "/user", Reply(body={}))
        await bench.client.look("/user")
        await bench.client.look("/user")
        assert [seen.headers["authorization"] for seen in bench.github.seen] == ["Bearer first", "Bearer second"]

    simulate(test, token=provide)


def test_each_page_has_its_own_etag_and_links_survive_304() -> None:
    second = RUNNERS + "&page=2"

    async def test(bench: Bench) -> None:
        # The Link names another host, as behind a proxy: the token stays on ours.
        link = {"link": f'<https://elsewhere.test{second}>; rel="next"'}
        bench.github.on("GET", RUNNERS, runners_reply(1, 2, etag='W/"a"', headers=link))
        bench.github.on("GET", second, runners_reply(3, etag='"b"'))
        scope = ScopeClient(bench.client, REPOSITORY)
        for _ in range(3):
            assert [runner.id for runner in await scope.runners()] == [1, 2, 3]
        assert [seen.status for seen in bench.github.seen] == [200, 200, 304, 304, 304, 304]
        bench.github.on("GET", second, runners_reply(3, 4, etag='"c"'))
        assert [runner.id for runner in await scope.runners()] == [1, 2, 3, 4]
        shown = bench.client.budget.snapshot()
        assert (shown.counted, shown.uncounted) == (3, 5)

    simulate(test)


@pytest.mark.parametrize(
    "link",
    [
        '<https://x/repos/o/r/actions/runners?per_page=100>; rel="next"',
        '<http://[bad/x>; rel="next"',
        '<x>; rel="next"',
    ],
)
def test_paging_that_leads_nowhere_is_an_error(link: str) -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, runners_reply(1, headers={"link": link}))
        with pytest.raises(GitHubError):
            await ScopeClient(bench.client, REPOSITORY).runners()

    simulate(test)


def test_a_304_to_a_request_without_an_etag_is_no_answer() -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, Reply(304))
        with pytest.raises(GitHubUnavailable):
            await ScopeClient(bench.client, REPOSITORY).runners()

    simulate(test)


@pytest.mark.parametrize("etag", ["\xe9tag", "x" * 5000])
def test_an_etag_that_cannot_be_sent_back_is_not_kept(etag: str) -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, runners_reply(1, headers={"etag": etag}))
        scope = ScopeClient(bench.client, REPOSITORY)
        assert len(await scope.runners()) == len(await scope.runners()) == 1
        assert all("if-none-match" not in seen.headers for seen in bench.github.seen)

    simulate(test)


def flaky(fault: Reply) -> list[Reply]:
    return [fault, fault, runners_reply(1)]


@pytest.mark.parametrize(
    "fault",
    [
        Reply(500),
        Reply(502, b"<html>"),
        Reply(200, b'{"runners": ['),
        Reply(error=httpx2.ConnectError("refused")),
        Reply(error=httpx2.RemoteProtocolError("cut")),
        Reply(error=ConnectionResetError("reset")),
        Reply(200, b"no gzip", {"content-encoding": "gzip"}),
    ],
)
def test_reads_are_tried_again(fault: Reply) -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, *flaky(fault))
        assert len(await ScopeClient(bench.client, REPOSITORY).runners()) == 1
        first, second, third = (seen.at - EPOCH for seen in bench.github.seen)
        assert 0.5 <= second - first <= 1 < third - second <= 2
        bench.github.on("GET", RUNNERS, fault)
        with pytest.raises(GitHubUnavailable):
            await ScopeClient(bench.client, REPOSITORY).runners()
        assert len(bench.github.seen) == 6

    simulate(test)


@pytest.mark.parametrize("fault", [Reply(500), Reply(201, b"{"), Reply(error=httpx2.ReadError("cut"))])
def test_writes_are_not_tried_again(fault: Reply) -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("POST", JIT, fault)
        with pytest.raises(GitHubUnavailable):
            await ScopeClient(bench.client, REPOSITORY).mint("n", ["small"], 1)
        assert len(bench.github.seen) == 1

    simulate(test)


def test_a_hanging_answer_is_given_up_and_not_asked_for_again() -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, runners_reply(1, delay=1000))
        with pytest.raises(GitHubUnavailable, match="within 20 s"):
            await ScopeClient(bench.client, REPOSITORY).runners()
        assert bench.clock.now() == EPOCH + 20
        assert bench.client.budget.snapshot().unanswered == 1

    simulate(test)


def test_retries_end_with_the_time_out() -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, Reply(500, delay=12))
        with pytest.raises(GitHubUnavailable):
            await ScopeClient(bench.client, REPOSITORY).runners()
        assert len(bench.github.seen) == 2

    simulate(test)


def test_an_answer_too_large_is_not_read() -> None:
    padding = " " * 70_000
    big = json.dumps({"runners": [], "padding": padding}).encode()

    async def test(bench: Bench) -> None:
        for reply in (
            Reply(body=big),
            Reply(body=big, headers={"content-length": str(len(big))}),
            Reply(body=gzip.compress(big), headers={"content-encoding": "gzip"}),
        ):
            bench.github.on("GET", RUNNERS, reply)
            with pytest.raises(GitHubUnavailable, match="larger than"):
                await ScopeClient(bench.client, REPOSITORY).runners()

    simulate(test, most_bytes=65_536, retries=0)


def test_redirects_are_followed_on_the_same_host_only() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, REPOSITORY)
        bench.github.on("GET", RUNNERS, Reply(301, headers={"location": f"{API}/repositories/9/runners"}))
        bench.github.on("GET", "/repositories/9/runners", runners_reply(1))
        assert len(await scope.runners()) == 1
        for location in (
            "https://evil.test/x",
            "http://api.github.test/x",
            "https://api.github.test:444/x",
            "",
            "//evil.test",
        ):
            bench.github.seen.clear()
            bench.github.on("GET", RUNNERS, Reply(302, headers={"location": location}))
            with pytest.raises(GitHubUnavailable, match="redirected to"):
                await scope.runners()
            assert {seen.target for seen in bench.github.seen} == {RUNNERS}
        bench.github.on("GET", RUNNERS, Reply(302, headers={"location": RUNNERS}))
        with pytest.raises(GitHubUnavailable, match="more than 3 redirects"):
            await scope.runners()
        bench.github.on("POST", JIT, Reply(307, headers={"location": "/moved"}))
        bench.github.on("POST", "/moved", Reply(201, {"runner": {"id": 5}, "encoded_jit_config": "x"}))
        assert (await scope.mint("n", ["small"], 1)).registration_id == 5
        bench.github.on("POST", JIT, Reply(302, headers={"location": "/moved"}))
        with pytest.raises(GitHubUnavailable):
            await scope.mint("n", ["small"], 1)

    simulate(test, retries=0)


LOW = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(EPOCH) + 900)}


@pytest.mark.parametrize(
    ("refusal", "wait"),
    [
        (Reply(429, headers={"retry-after": "33"}), 33),
        (Reply(403, headers={"retry-after": "33"}), 33),
        (Reply(403, headers={"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}), 60),
        (Reply(403, {"message": "API rate limit exceeded"}, LOW), 900),
        (Reply(429, headers=LOW), 900),
        (Reply(429), 60),
        (Reply(403, {"message": "You have exceeded a secondary rate limit"}), 60),
    ],
)
def test_rate_limits_of_all_kinds_are_obeyed(refusal: Reply, wait: float) -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, refusal, runners_reply(1))
        scope = ScopeClient(bench.client, REPOSITORY)
        with pytest.raises(RateLimited) as caught:
            await scope.runners()
        assert caught.value.until == EPOCH + wait
        await bench.clock.sleep(wait - 1)
        with pytest.raises(RateLimited):
            await scope.runners()
        assert len(bench.github.seen) == 1, "what would be refused is not sent"
        await bench.clock.sleep(1)
        assert len(await scope.runners()) == 1

    simulate(test)


def test_reads_stop_at_the_reserve_while_minting_goes_on() -> None:
    low = LOW | {"x-ratelimit-remaining": "150"}

    async def test(bench: Bench) -> None:
        bench.github.on("GET", RUNNERS, runners_reply(1, headers=low))
        bench.github.on("POST", JIT, Reply(201, {"runner": {"id": 5}, "encoded_jit_config": "x"}, low))
        scope = ScopeClient(bench.client, REPOSITORY)
        await scope.runners()
        with pytest.raises(RateLimited) as caught:
            await scope.runners()
        assert caught.value.until == EPOCH + 900
        assert (await scope.mint("n", ["small"], 1)).registration_id == 5
        shown = scope.budget()
        assert (shown.limit, shown.remaining, shown.held_back) == (5000, 150, 1)

    simulate(test)


def test_no_more_requests_at_a_time_than_allowed() -> None:
    async def test(bench: Bench) -> None:
        bench.github.default = runners_reply(1, delay=1)
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(bench.client.items, f"/x/{number}", parse.registrations)
        assert bench.github.most_active == 16
        assert EPOCH + 7 <= bench.clock.now() <= EPOCH + 8

    simulate(test)


def test_what_waits_for_a_slot_is_held_back_when_github_says_stop() -> None:
    async def test(bench: Bench) -> None:
        bench.github.default = Reply(429, headers={"retry-after": "30"}, delay=1)
        outcomes: list[type[GitHubError]] = []

        async def ask(number: int) -> None:
            try:
                await bench.client.look(f"/x/{number}")
            except GitHubError as error:
                outcomes.append(type(error))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(ask, number)
        assert outcomes == [RateLimited] * 100
        assert len(bench.github.seen) <= 32, "only what was under way by then"
        shown = bench.client.budget.snapshot()
        assert shown.refused == len(bench.github.seen)
        assert shown.held_back == 100 - shown.refused
        assert shown.unanswered == 0

    simulate(test)


def test_a_failing_piece_does_not_wait_for_the_slow_ones() -> None:
    async def test(bench: Bench) -> None:
        slow = runs_reply()
        slow.delay = 15
        script(bench, queued=[Reply(404)], in_progress=[slow])
        with pytest.raises(NotFound):
            await ScopeClient(bench.client, REPOSITORY).jobs("o/r")
        assert bench.clock.now() < EPOCH + 1
        await ScopeClient(bench.client, REPOSITORY).repositories()
        assert bench.client.budget.snapshot().unanswered >= 1, "what was given up is not taken for an answer"

    simulate(test)


def test_the_pace_is_kept() -> None:
    async def test(bench: Bench) -> None:
        bench.github.default = runners_reply(1)
        async with anyio.create_task_group() as group:
            for number in range(250):
                group.start_soon(bench.client.items, f"/x/{number}", parse.registrations)
        times = [seen.at for seen in bench.github.seen]
        for start in times:
            assert sum(1 for at in times if start <= at < start + 60) <= 100

    simulate(test, limits=Limits(points_per_minute=100))


def test_jobs_of_all_unfinished_runs() -> None:
    async def test(bench: Bench) -> None:
        script(bench, queued=[runs_reply(10, 11)], in_progress=[runs_reply(11, 12)], waiting=[runs_reply(13)])
        bench.github.on("GET", jobs_target(10), jobs_reply((1, "queued"), (2, "completed")))
        bench.github.on("GET", jobs_target(11), jobs_reply((3, "in_progress"), (4, "queued")))
        bench.github.on("GET", jobs_target(12), jobs_reply((5, "in_progress")))
        bench.github.on("GET", jobs_target(13), jobs_reply((6, "waiting"), (7, "queued")))
        jobs = await ScopeClient(bench.client, REPOSITORY).jobs("o/r")
        assert [job.id for job in jobs] == [1, 3, 4, 5, 7]
        assert {job.labels for job in jobs} == {frozenset({"small"})}
        assert [job.run_id for job in jobs] == [10, 11, 11, 12, 13]
        assert len(bench.github.seen) == 9, "a run in two listings is read once"

    simulate(test)


@pytest.mark.parametrize(
    ("run", "origin"),
    [
        (
            {"head_repository": {"id": 1}, "event": "push", "head_branch": "main", "actor": {"login": "octocat"}},
            Origin("push", "main", "octocat", fork=False),
        ),
        (
            {"head_repository": {"id": 2, "full_name": "o/r"}, "event": "pull_request"},
            Origin("pull_request", "", "", True),
        ),
        ({"head_repository": None, "head_branch": None, "actor": None}, Origin("", "", "", fork=True)),
        ({"head_repository": {"full_name": "O/R"}, "event": 7}, Origin("", "", "", fork=False)),
        ({"head_repository": {"full_name": "p/r"}}, Origin("", "", "", fork=True)),
        ({"head_repository": {}}, Origin("", "", "", fork=True)),
    ],
)
def test_a_job_knows_what_set_its_run_going_even_when_no_listing_shows_the_run_any_more(
    run: dict[str, Any], origin: Origin
) -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, REPOSITORY)
        whole = {"id": 10, "repository": {"id": 1, "full_name": "o/r"}, **run}
        script(bench, queued=[Reply(body={"total_count": 1, "workflow_runs": [whole]}), runs_reply()])
        bench.github.on("GET", jobs_target(10), jobs_reply((1, "queued")))
        for _ in range(3):
            assert [job.origin for job in await scope.jobs("o/r")] == [origin]

    simulate(test)


def test_an_idle_hour_counts_nothing() -> None:
    async def test(bench: Bench) -> None:
        script(bench)
        scope = ScopeClient(bench.client, REPOSITORY)
        for _ in range(720):
            assert await scope.jobs("o/r") == ()
            await bench.clock.sleep(5)
        shown = scope.budget()
        assert (shown.counted, shown.uncounted) == (5, 3595)

    simulate(test)


@pytest.mark.parametrize("broken", [runs_target("waiting"), jobs_target(10), jobs_target(10) + "&page=2"])
@pytest.mark.parametrize("fault", [Reply(500), Reply(200, b"{"), Reply(429), Reply(403), Reply(200, {"nothing": 1})])
def test_nothing_partial_is_ever_shown(broken: str, fault: Reply) -> None:
    async def test(bench: Bench) -> None:
        script(bench, queued=[runs_reply(10, 11)])
        first = jobs_reply((1, "queued"))
        first.headers = {"link": f'<{API}{jobs_target(10)}&page=2>; rel="next"'}
        bench.github.on("GET", jobs_target(10), first)
        bench.github.on("GET", jobs_target(10) + "&page=2", jobs_reply((2, "queued")))
        bench.github.on("GET", jobs_target(11), jobs_reply((3, "queued")))
        bench.github.on("GET", broken, fault)
        with pytest.raises(GitHubError):
            await ScopeClient(bench.client, REPOSITORY).jobs("o/r")

    simulate(test)


def test_a_run_that_slips_between_two_listings_is_still_looked_at() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, REPOSITORY)
        script(bench, queued=[runs_reply(10), runs_reply(), runs_reply(10), runs_reply()])
        bench.github.on("GET", jobs_target(10), jobs_reply((1, "queued"), etag='"a"'))
        assert await ids(scope) == [1]
        assert await ids(scope) == [1], "in no listing, yet its job is still queued"
        assert await ids(scope) == [1]
        bench.github.on("GET", jobs_target(10), jobs_reply((1, "completed")))
        assert await ids(scope) == []
        asked = len(bench.github.asked("GET", jobs_target(10)))
        assert await ids(scope) == []
        assert len(bench.github.asked("GET", jobs_target(10))) == asked, "and not looked at any more"

    simulate(test)


def test_a_run_that_stays_unlisted_is_not_believed_for_ever() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, REPOSITORY)
        script(bench, queued=[runs_reply(10), runs_reply()])
        bench.github.on("GET", jobs_target(10), jobs_reply((1, "queued")))
        seen = []
        for _ in range(10):
            seen.append(await ids(scope))
            await bench.clock.sleep(10)
        assert seen == [[1]] * 6 + [[]] * 4

    simulate(test)


def test_a_run_deleted_meanwhile_has_no_jobs() -> None:
    async def test(bench: Bench) -> None:
        script(bench, queued=[runs_reply(10, 11)])
        bench.github.on("GET", jobs_target(11), jobs_reply((3, "queued")))
        assert await ids(ScopeClient(bench.client, REPOSITORY)) == [3]

    simulate(test)


def test_runs_beyond_the_cut_of_a_listing_are_found() -> None:
    def page(first: int, hour: int, **more: Any) -> Reply:
        runs = [{"id": first + number, "created_at": f"2026-01-01T{hour:02}:00:00Z"} for number in range(500)]
        return Reply(body={"total_count": 2345, "workflow_runs": runs}, **more)

    async def test(bench: Bench) -> None:
        script(bench)
        target = runs_target("queued")
        older = target + "&created=%3C%3D2026-01-01T04%3A00%3A00Z"
        bench.github.on("GET", target, page(2000, 5, headers={"link": f'<{API}{target}&page=2>; rel="next"'}))
        bench.github.on("GET", target + "&page=2", page(2500, 4))
        bench.github.on("GET", older, page(1, 3))
        bench.github.default = jobs_reply()
        assert await ids(ScopeClient(bench.client, REPOSITORY)) == []
        assert len([seen for seen in bench.github.seen if "/jobs?" in seen.target]) == 1500

    simulate(test, limits=Limits(points_per_minute=1_000_000))


def test_a_bad_job_is_noted_and_costs_nothing_else() -> None:
    async def test(bench: Bench) -> None:
        script(bench, queued=[runs_reply(10)])
        reply = jobs_reply((1, "queued"))
        reply.body["jobs"].append({"id": "\n\x1b[2J", "status": "queued", "labels": []})
        bench.github.on("GET", jobs_target(10), reply)
        assert await ids(ScopeClient(bench.client, REPOSITORY)) == [1]
        (note,) = bench.notes
        assert "jobs[1]" in note
        assert note.isprintable()

    simulate(test)


@pytest.mark.parametrize("name", ["o", "o/r/x", "../r", "o/..", "o/r?x", "o/r#", "o r/x", "", "o/r\n", "o/%2e%2e"])
def test_a_repository_name_that_would_bend_the_url_is_refused(name: str) -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(Invalid):
            await ScopeClient(bench.client, REPOSITORY).jobs(name)
        assert bench.github.seen == []

    simulate(test)


def test_an_organisations_repositories_are_listed_and_remembered_for_a_while() -> None:
    target = "/orgs/o/repos?per_page=100&type=all&sort=created&direction=asc"

    async def test(bench: Bench) -> None:
        items = [{"full_name": "O/One"}, {"full_name": "o/two", "archived": True}, {"full_name": "o/three"}]
        bench.github.on("GET", target, Reply(body=items, etag='"x"'))
        scope = ScopeClient(bench.client, ORGANISATION)
        for _ in range(60):
            assert await scope.repositories() == ("o/one", "o/three")
            await bench.clock.sleep(10)
        assert [seen.status for seen in bench.github.seen] == [200, 304]
        with pytest.raises(NotFound):
            await scope.jobs("o/one")
        await scope.repositories()
        assert len(bench.github.asked("GET", target)) == 3, "a repository that is gone makes the list doubtful"

    simulate(test)


def test_configured_repositories_are_taken_as_they_are() -> None:
    async def test(bench: Bench) -> None:
        some = Scope("org", "https://github.test/o", API, ScopeKind.ORGANISATION, "o", ("o/a", "o/b"))
        assert await ScopeClient(bench.client, some).repositories() == ("o/a", "o/b")
        enterprise = Scope("e", "https://github.test/enterprises/e", API, ScopeKind.ENTERPRISE, "enterprises/e")
        with pytest.raises(Invalid, match="repositories"):
            await ScopeClient(bench.client, enterprise).repositories()

    simulate(test)


def test_minting() -> None:
    answer = {"runner": {"id": 9, "name": "n"}, "encoded_jit_config": "am9i"}

    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, ORGANISATION)
        target = "/orgs/o/actions/runners/generate-jitconfig"
        bench.github.on("POST", target, Reply(201, answer), Reply(409, {"message": "Already exists"}), Reply(422))
        minted = await scope.mint("sg-a-small-1", ["self-hosted", "small"], 3)
        assert (minted.registration_id, minted.config.reveal()) == (9, "am9i")
        assert json.loads(bench.github.seen[0].body) == {
            "name": "sg-a-small-1",
            "runner_group_id": 3,
            "labels": ["self-hosted", "small"],
            "work_folder": "_work",
        }
        with pytest.raises(NameTaken):
            await scope.mint("sg-a-small-1", ["small"], 3)
        with pytest.raises(Invalid):
            await scope.mint("sg-a-small-1", [], 3)

    simulate(test)


def test_removing() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, REPOSITORY)
        target = "/repos/o/r/actions/runners/4"
        bench.github.on("DELETE", target, Reply(204), Reply(404), Reply(422, {"message": "busy"}), Reply(500))
        await scope.remove(4)
        await scope.remove(4)
        with pytest.raises(RunnerBusy):
            await scope.remove(4)
        with pytest.raises(GitHubUnavailable):
            await scope.remove(4)

    simulate(test)


def test_finding_by_name() -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", "/repos/o/r/actions/runners?name=r2&per_page=100", runners_reply(1, 2))
        bench.github.on("GET", "/repos/o/r/actions/runners?name=a%26b&per_page=100", runners_reply())
        scope = ScopeClient(bench.client, REPOSITORY)
        found = await scope.find("r2")
        assert found is not None
        assert found.id == 2
        assert await scope.find("a&b") is None

    simulate(test)


def standing(bench: Bench, scope: Scope) -> Any:
    async def ask() -> list[Standing]:
        return [permission.standing for permission in await ScopeClient(bench.client, scope).permissions()]

    return ask()


def test_permissions_are_named_without_side_effects() -> None:
    granted, missing, unknown = Standing.GRANTED, Standing.MISSING, Standing.UNKNOWN
    runners, runs = "/repos/o/r/actions/runners?per_page=1", "/repos/o/r/actions/runs?per_page=1"

    async def test(bench: Bench) -> None:
        on = bench.github.on
        on("GET", runs, runs_reply())
        on("GET", runners, runners_reply(headers={"x-oauth-scopes": "gist, repo"}))
        assert await standing(bench, REPOSITORY) == [granted, granted, granted]
        on("GET", runners, runners_reply(headers={"x-oauth-scopes": "public_repo"}))
        assert await standing(bench, REPOSITORY) == [granted, missing, granted]
        on("GET", runners, runners_reply())
        assert await standing(bench, REPOSITORY) == [granted, unknown, granted]
        accepted = {"x-accepted-github-permissions": "administration=read"}
        on("GET", runners, Reply(403, {"message": "Resource not accessible"}, accepted))
        on("GET", runs, Reply(404))
        assert await standing(bench, REPOSITORY) == [missing, missing, missing]
        without = await ScopeClient(bench.client, REPOSITORY).permissions(Sight.NOTHING)
        assert [permission.purpose for permission in without] == [LIST, MANAGE]
        (*_, pulls) = await ScopeClient(bench.client, REPOSITORY).permissions(Sight.PULL_REQUESTS)
        assert pulls.purpose == "tell where pull requests of o/r come from"
        found = await ScopeClient(bench.client, REPOSITORY).permissions()
        assert "Administration" in found[0].name
        assert "administration=read" in found[0].detail
        assert {seen.method for seen in bench.github.seen} == {"GET"}
        on("GET", runners, Reply(500))
        with pytest.raises(GitHubUnavailable):
            await ScopeClient(bench.client, REPOSITORY).permissions()

    simulate(test)


def test_the_rate_is_asked_for_free() -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", "/rate_limit", Reply(body={}, headers=LOW | {"x-ratelimit-remaining": "4321"}))
        shown = await ScopeClient(bench.client, REPOSITORY).rate()
        assert (shown.remaining, shown.counted, shown.uncounted) == (4321, 0, 1)

    simulate(test)


def test_scopes_of_one_token_share_its_pace() -> None:
    async def test(bench: Bench) -> None:
        one, other = ScopeClient(bench.client, REPOSITORY), ScopeClient(bench.client, ORGANISATION)
        assert one.pace(1.0) == 5.0
        assert other.pace(1000.0) == 4.0
        assert one.pace(1000.0) == other.pace(1000.0) == 2.5

    simulate(test)


@pytest.mark.parametrize("url", ["ftp://x", "https://", "https://u:p@x", "https://x/?a=b", "x"])
def test_an_api_url_that_is_none(url: str) -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(ValueError, match="api_url"):
            GitHubClient(httpx2.AsyncClient(), url, Secret("x"), bench.clock)

    simulate(test)


def test_an_api_below_a_path() -> None:
    async def test(bench: Bench) -> None:
        link = {"link": '<https://ghe.test/api/v3/x?page=2>; rel="next"'}
        bench.github.on("GET", "/api/v3/x", runners_reply(1, headers=link))
        bench.github.on("GET", "/api/v3/x?page=2", runners_reply(2))
        assert len(await bench.client.items("/x", parse.registrations)) == 2
        bench.github.on("GET", "/api/v3/y", runners_reply(1, headers={"link": '<https://ghe.test/y>; rel="next"'}))
        with pytest.raises(GitHubUnavailable, match="outside"):
            await bench.client.items("/y", parse.registrations)

    simulate(test, api_url="https://ghe.test/api/v3/", retries=0)


def test_the_cache_stays_within_its_bounds() -> None:
    from slurm_gha.github.cache import Entry, EtagCache

    cache = EtagCache(capacity=10)
    for number in range(100):
        cache.put(f"u{number}", Entry('"e"', None, weight=3))
        cache.get("u0")
    assert cache.weight == 9
    assert cache.get("u0") is not None, "what is used stays"
    assert cache.get("u98") is not None
    assert cache.get("u50") is None
    cache.put("huge", Entry('"e"', None, weight=11))
    assert cache.get("huge") is None
    assert len(cache) == 3
