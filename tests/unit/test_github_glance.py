"""A glance at a repository's newest runs: when it shows all jobs, and when it says that it does not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.scripted_github import API, Bench, Reply, simulate

from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.github import parse
from slurm_gha.github.errors import GitHubUnavailable, Invalid, NotFound
from slurm_gha.github.scope import GLANCE, LAST_PUSHED, UNFINISHED, ScopeClient

ORGANISATION = Scope("org", "https://github.test/o", API, ScopeKind.ORGANISATION, "o")
NEWEST = f"/repos/o/r/actions/runs?per_page={GLANCE}"
PUSHED = f"/orgs/o/repos?per_page={LAST_PUSHED}&type=all&sort=pushed&direction=desc"
LISTED = "/orgs/o/repos?per_page=100&type=all&sort=created&direction=asc"


def runs(*ids: int, done: tuple[int, ...] = (), **more: Any) -> Reply:
    found = [{"id": run, "status": "completed" if run in done else "queued"} for run in sorted(ids, reverse=True)]
    return Reply(body={"total_count": 1000, "workflow_runs": found}, **more)


def page(first: int, *unfinished: int) -> Reply:
    """A full page of runs from ``first`` on, all over but some."""
    ids = range(first, first + GLANCE)
    return runs(*ids, done=tuple(run for run in ids if run not in unfinished))


def jobs_target(run: int) -> str:
    return f"/repos/o/r/actions/runs/{run}/jobs?filter=latest&per_page=100"


def has_job(bench: Bench, run: int, status: str = "queued") -> None:
    job = {"id": run * 10, "status": status, "labels": ["small"]}
    bench.github.on("GET", jobs_target(run), Reply(body={"total_count": 1, "jobs": [job]}))


def filtered(bench: Bench, *queued: int) -> None:
    for status in UNFINISHED:
        found = runs(*queued) if status == "queued" else runs()
        bench.github.on("GET", f"/repos/o/r/actions/runs?status={status}&per_page=100", found)


async def glance(scope: ScopeClient) -> tuple[list[int], bool]:
    newest = await scope.newest("o/r")
    return [job.run_id for job in newest.jobs], newest.complete


def test_a_repository_with_few_runs_is_known_at_a_glance() -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", NEWEST, runs(1, 2, 3, done=(1, 3)))
        has_job(bench, 2)
        scope = ScopeClient(bench.client, ORGANISATION)
        assert scope.requests("o/r") == (2, 6)
        assert await glance(scope) == ([2], True)
        assert scope.requests("o/r") == (2, 2)
        assert len(bench.github.seen) == 2
        assert [job.run_id for job in await scope.jobs("o/r")] == [2]
        assert len(bench.github.seen) == 4, "a whole look is no more than that, while there are so few"
        bench.github.on("GET", NEWEST, page(100))
        filtered(bench, 2)
        assert [job.run_id for job in await scope.jobs("o/r")] == [2]
        assert scope.requests("o/r") == (2, 6)

    simulate(test)


def test_the_first_glance_at_many_runs_shows_some_jobs_and_a_whole_look_the_rest() -> None:
    async def test(bench: Bench) -> None:
        bench.github.on("GET", NEWEST, page(100, 110))
        filtered(bench, 7, 110)
        has_job(bench, 7)
        has_job(bench, 110)
        scope = ScopeClient(bench.client, ORGANISATION)
        assert await glance(scope) == ([110], False)
        assert [job.run_id for job in await scope.jobs("o/r")] == [7, 110]
        assert await glance(scope) == ([7, 110], False), "what is known is kept an eye on, but others may be"

    simulate(test)


def test_glances_join_as_long_as_the_pages_overlap() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, ORGANISATION)
        filtered(bench)
        for run in (112, 140, 400):
            has_job(bench, run)
        steps = [
            (page(100), ([], False)),  # nothing is known of older runs
            "whole",
            (page(100), ([], True)),
            (page(112, 112, 140), ([112, 140], True)),
            (page(125, 140), ([140], False)),  # 112 may go on: it was pushed out
            "whole",
            (page(125), ([], True)),
            (page(400, 400), ([400], False)),  # 155 to 399 began and were never seen
        ]
        for step in steps:
            if isinstance(step, str):
                assert await scope.jobs("o/r") == ()
                continue
            reply, expected = step
            bench.github.on("GET", NEWEST, reply)
            assert await glance(scope) == expected
            await bench.clock.sleep(100)  # longer than a run that slips out of a listing is looked after

    simulate(test)


def test_a_whole_look_without_a_glance_before_it_leaves_a_gap() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, ORGANISATION)
        filtered(bench)
        await scope.jobs("o/r")
        bench.github.on("GET", NEWEST, page(100))
        assert await glance(scope) == ([], False)

    simulate(test)


def test_a_run_whose_status_is_a_new_word_is_looked_at() -> None:
    found = [{"id": 1, "status": "pondering"}, {"id": 2}, {"id": 3, "status": "completed"}, {"id": "x"}]
    listing = parse.page({"total_count": 4, "workflow_runs": found})
    (found_page,) = listing.items
    assert [run.id for run in found_page.unfinished] == [1, 2]
    assert (found_page.oldest, found_page.newest, found_page.length) == (1, 3, 4)
    assert len(listing.notes) == 1
    with pytest.raises(GitHubUnavailable):
        parse.page({"workflow_runs": None})


def test_what_cannot_be_read_is_an_error() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, ORGANISATION)
        with pytest.raises(NotFound):
            await scope.newest("o/r")
        with pytest.raises(Invalid):
            await scope.newest("o/../r")
        bench.github.on("GET", NEWEST, runs(1, 2))
        bench.github.on("GET", jobs_target(1), Reply(500))
        has_job(bench, 2)
        with pytest.raises(GitHubUnavailable):
            await scope.newest("o/r")

    simulate(test)


def test_pushes_tell_where_and_when_and_of_new_repositories() -> None:
    async def test(bench: Bench) -> None:
        scope = ScopeClient(bench.client, ORGANISATION)
        bench.github.on("GET", LISTED, Reply(body=[{"full_name": "o/a"}], etag='"1"'))
        bench.github.on("GET", PUSHED, Reply(body=[{"full_name": "O/A", "pushed_at": "2026-01-01T00:00:00Z"}]))
        assert await scope.repositories() == ("o/a",)
        assert await scope.pushes() == {"o/a": "2026-01-01T00:00:00Z"}
        await scope.repositories()
        assert len(bench.github.asked("GET", LISTED)) == 1
        both = [{"full_name": "o/b", "pushed_at": None}, {"full_name": "o/a", "pushed_at": "2026-01-01T00:00:00Z"}]
        bench.github.on("GET", PUSHED, Reply(body=both))
        bench.github.on("GET", LISTED, Reply(body=both))
        assert (await scope.pushes())["o/b"] == ""
        assert await scope.repositories() == ("o/b", "o/a"), "asked again at once"

    simulate(test)


def test_only_an_organisation_lists_pushes() -> None:
    async def test(bench: Bench) -> None:
        one = Scope("one", "https://github.test/o/r", API, ScopeKind.REPOSITORY, "o/r")
        firm = Scope("e", "https://github.test/enterprises/e", API, ScopeKind.ENTERPRISE, "enterprises/e", ("o/r",))
        for scope in (one, firm):
            assert await ScopeClient(bench.client, scope).pushes() == {}
        assert bench.github.seen == []

    simulate(test)
