"""GitHub's wire rules: what an answer means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.domain.job import JobStatus
from slurm_gha.github import parse, wire
from slurm_gha.github.errors import (
    Forbidden,
    GitHubError,
    GitHubUnavailable,
    Invalid,
    NameTaken,
    NotFound,
    RunnerBusy,
)
from slurm_gha.github.wire import Answer

NOW = 1_700_000_000.0
LIMIT = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1700003600"}
JOB: dict[str, Any] = {
    "id": 7,
    "run_id": 3,
    "run_attempt": 2,
    "name": "build (3.11)",
    "workflow_name": "CI",
    "status": "queued",
    "conclusion": None,
    "created_at": "2023-11-14T22:13:20Z",
    "started_at": None,
    "labels": ["Self-Hosted", "small"],
    "runner_id": 0,
    "runner_name": "",
}


def jobs(*items: Any) -> parse.Listing[Any]:
    return parse.jobs({"total_count": 1, "jobs": list(items)}, scope="s", repository="o/r", run_id=3, seen_at=NOW)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/x", 401, Forbidden),
        ("GET", "/x", 403, Forbidden),
        ("GET", "/x", 404, NotFound),
        ("POST", "/repos/o/r/actions/runners/generate-jitconfig", 409, NameTaken),
        ("POST", "/repos/o/r/actions/runs/1/cancel", 409, Invalid),
        ("DELETE", "/orgs/o/actions/runners/12", 422, RunnerBusy),
        ("POST", "/repos/o/r/actions/runners/generate-jitconfig", 422, Invalid),
        ("GET", "/x", 400, Invalid),
        ("GET", "/x", 408, GitHubUnavailable),
        ("GET", "/x", 500, GitHubUnavailable),
        ("GET", "/x", 503, GitHubUnavailable),
        ("GET", "/x", 304, GitHubUnavailable),
    ],
)
def test_status_becomes_a_typed_error(method: str, path: str, status: int, kind: type[GitHubError]) -> None:
    answer = Answer(status, {"x-github-request-id": "AB:12"}, b'{"message": "GitHub says so"}')
    error = wire.failure_of(method, path, answer)
    assert type(error) is kind
    assert "GitHub says so" in str(error)
    assert "AB:12" in str(error)


def test_the_missing_permission_is_named() -> None:
    answer = Answer(403, {"x-accepted-github-permissions": "administration=write"}, b'{"message": "not accessible"}')
    assert "needs administration=write" in str(wire.failure_of("POST", "/x", answer))


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (429, {"retry-after": "7"}, b"", wire.Refusal(False, NOW + 7)),
        (403, {"retry-after": "7"}, b"", wire.Refusal(False, NOW + 7)),
        (403, {"retry-after": "0"}, b"", wire.Refusal(False, NOW)),
        (403, {"retry-after": "Tue, 14 Nov 2023 22:15:00 GMT"}, b"", wire.Refusal(False, NOW + 100)),
        (403, LIMIT | {"x-ratelimit-remaining": "0"}, b"", wire.Refusal(True, 1_700_003_600.0)),
        (429, {"x-ratelimit-remaining": "0"}, b"", wire.Refusal(True, None)),
        (429, {}, b"<html>", wire.Refusal(False, None)),
        (429, {"retry-after": "soon"}, b"", wire.Refusal(False, None)),
        (403, LIMIT, b'{"message": "You have exceeded a secondary rate limit."}', wire.Refusal(False, None)),
        (403, LIMIT, b'{"message": "Resource not accessible by integration"}', None),
        (403, {}, b"", None),
        (200, {"retry-after": "7"}, b"", None),
        (503, {"retry-after": "7"}, b"", None),
    ],
)
def test_rate_limits_are_told_from_refusals(
    status: int, headers: dict[str, str], body: bytes, expected: wire.Refusal | None
) -> None:
    assert wire.refusal_of(Answer(status, headers, body), NOW) == expected


def test_rate_headers() -> None:
    assert wire.rate_of(LIMIT) == wire.Rate(5000, 4999, 1_700_003_600.0, "core")
    assert wire.rate_of(LIMIT | {"x-ratelimit-resource": "search"}) == wire.Rate(5000, 4999, 1_700_003_600.0, "search")
    assert wire.rate_of(LIMIT | {"x-ratelimit-remaining": "-1"}) is None
    assert wire.rate_of(LIMIT | {"x-ratelimit-remaining": "²"}) is None
    assert wire.rate_of({}) is None


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ('<https://a/x?page=2>; rel="next", <https://a/x?page=9>; rel="last"', "https://a/x?page=2"),
        ('<https://a/x?page=1>; rel="prev", <https://a/x?page=3>; rel="next"', "https://a/x?page=3"),
        ('<https://a/x?a=1,2;3&page=2>; title="x"; rel=next', "https://a/x?a=1,2;3&page=2"),
        ('<https://a/x?page=9>; rel="last"', None),
        ('<https://a/x>; rel="nextish"', None),
        ("rel=next", None),
        ("", None),
    ],
)
def test_next_page(link: str, expected: str | None) -> None:
    assert wire.next_page({"link": link}) == expected


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"jobs": [', b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"<html>oops</html>"]
)
def test_malformed_bodies_are_unavailable_and_not_quoted(body: bytes) -> None:
    with pytest.raises(GitHubUnavailable) as caught:
        wire.decode(Answer(200, {}, body))
    assert "oops" not in str(caught.value)


def test_messages_are_one_bounded_line() -> None:
    hostile = "a\x1b[31m\nb\u202e\x00" + "x" * 10_000
    answer = Answer(422, {}, json.dumps({"message": hostile}).encode())
    text = str(wire.failure_of("GET", "/repos/\n" + "y" * 9000, answer))
    assert text.isprintable()
    assert len(text) < 1000


def test_a_job() -> None:
    (job,) = jobs(JOB).items
    assert (job.id, job.run_id, job.run_attempt, job.scope, job.repository) == (7, 3, 2, "s", "o/r")
    assert job.labels == frozenset({"self-hosted", "small"})
    assert job.status is JobStatus.QUEUED
    assert job.created_at == NOW
    assert job.runner_id is None
    assert job.runner_name is None


def test_missing_and_unknown_fields_are_tolerated() -> None:
    (job,) = jobs({"id": 7, "status": "in_progress", "labels": [], "novelty": {"x": 1}}).items
    assert (job.run_id, job.run_attempt, job.created_at, job.name) == (3, 1, NOW, "")


@pytest.mark.parametrize(
    "flaw",
    [
        {"id": None},
        {"id": True},
        {"id": -4},
        {"id": 2**63},
        {"id": "7"},
        {"labels": None},
        {"labels": ["ok", 3]},
        {"status": None},
        {"status": ["queued"]},
    ],
)
def test_one_bad_job_is_noted_and_does_not_lose_the_page(flaw: dict[str, Any]) -> None:
    listing = jobs(JOB | flaw, None, JOB | {"id": 8})
    assert [job.id for job in listing.items] == [8]
    assert len(listing.notes) == 2


def test_only_jobs_that_wait_or_run_are_listed() -> None:
    statuses = ["queued", "in_progress", "completed", "waiting", "pending", "requested", "a_word_of_tomorrow"]
    listing = jobs(*({**JOB, "id": number, "status": status} for number, status in enumerate(statuses, 1)))
    assert [job.id for job in listing.items] == [1, 2]
    assert listing.notes == ()


def test_lone_surrogates_do_not_get_in() -> None:
    (job,) = jobs(JOB | {"name": "bad \ud800 name; $(rm -rf /)", "labels": ["\udfff"]}).items
    assert job.name.encode() == b"bad ? name; $(rm -rf /)"
    assert job.labels == frozenset({"?"})


def test_registrations() -> None:
    runner = {"id": 4, "name": "sg-a-b-1", "status": "online", "busy": False, "labels": [{"name": "Small"}, "odd", {}]}
    value = {"total_count": 9, "runners": [runner, {**runner, "busy": None, "status": "offline"}, {"id": 5}]}
    listing = parse.registrations(value)
    idle, unclear = listing.items
    assert (idle.id, idle.name, idle.online, idle.busy, idle.labels) == (
        4,
        "sg-a-b-1",
        True,
        False,
        frozenset({"small"}),
    )
    assert unclear.busy, "what GitHub does not say is idle is not taken for idle"
    assert len(listing.notes) == 1
    assert listing.total == 9


def test_repositories_that_can_have_jobs() -> None:
    names = ["O/Plain", "o/old", "o/off", "o/..", "../o", "o/a b", "o/x/../y", "o/r?x=1"]
    items = [{"full_name": name, "archived": name == "o/old", "disabled": name == "o/off"} for name in names]
    listing = parse.repositories(items)
    assert listing.items == ("o/plain",)
    assert len(listing.notes) == 5


@pytest.mark.parametrize("value", [None, [], {}, {"runner": {}}, {"runner": {"id": 1}, "encoded_jit_config": ""}])
def test_a_jit_answer_without_its_parts(value: Any) -> None:
    with pytest.raises(GitHubUnavailable):
        parse.minted(value)


def test_a_jit_answer_never_shows() -> None:
    minted = parse.minted({"runner": {"id": 3}, "encoded_jit_config": "topsecret"})
    assert minted.registration_id == 3
    assert "topsecret" not in repr(minted)
    with pytest.raises(GitHubUnavailable) as caught:
        parse.minted({"runner": {"id": "topsecret"}, "encoded_jit_config": "topsecret"})
    assert "topsecret" not in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = [*JOB, "completed_at", "busy", "full_name", "archived", "disabled"]
items = st.fixed_dictionaries({}, optional=dict.fromkeys(fields, json_values)) | json_values
listings = (
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["jobs", "runners", "workflow_runs", "total_count"], st.lists(items))
    )
    | st.lists(items)
    | json_values
)
headers = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        [
            "retry-after",
            "link",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
            "x-github-request-id",
        ],
        st.text(max_size=60)
        | st.integers().map(str)
        | st.sampled_from(["Tue, 14 Nov 2023 22:15:00 GMT", "Tue, 99 Nov 99999 22:15:00 GMT", '<x>; rel="next"', "0"]),
    ),
)
bodies = st.binary(max_size=200) | listings.map(lambda value: json.dumps(value).encode())


@given(status=st.integers(100, 599), headers=headers, body=bodies, method=st.sampled_from(["GET", "POST", "DELETE"]))
def test_whatever_comes_is_a_value_or_a_github_error(
    status: int, headers: dict[str, str], body: bytes, method: str
) -> None:
    answer = Answer(status, headers, body)
    wire.rate_of(headers)
    wire.next_page(headers)
    refusal = wire.refusal_of(answer, NOW)
    assert refusal is None or status in (403, 429)
    error = wire.failure_of(method, "/repos/o/r/actions/runners/1", answer)
    assert isinstance(error, GitHubError)
    assert str(error).isprintable()
    try:
        value = wire.decode(answer)
    except GitHubError:
        return
    for read in (parse.runs, parse.registrations, parse.repositories, parse.minted):
        try:
            read(value)
        except GitHubError:
            continue
    try:
        listing = parse.jobs(value, scope="s", repository="o/r", run_id=1, seen_at=NOW)
    except GitHubError:
        return
    for job in listing.items:
        assert job.id > 0
        job.name.encode()
        assert all(label.encode() is not None for label in job.labels)
