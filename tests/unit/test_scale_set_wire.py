"""The scale-set protocol's rules of the wire, without any I/O."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from slurm_gha.domain.scaleset import AssignedJob, NewsKind, Place, as_job, origin_of, synthetic_id
from slurm_gha.domain.secret import Secret
from slurm_gha.github.errors import Forbidden, GitHubError, GitHubUnavailable, Invalid, NameTaken, NotFound, RunnerBusy
from slurm_gha.github.scaleset import errors, parse, wire
from slurm_gha.github.wire import Answer

TENANT = "https://pipelines.test/abc123/"


def jwt(claims: object) -> Secret:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return Secret(f"head.{body}.signature")


def test_urls_keep_the_tenant_and_what_the_address_has_already() -> None:
    url = wire.service_url(TENANT, wire.SCALE_SETS, name="a b&c")
    assert url == f"{TENANT}_apis/runtime/runnerscalesets?name=a+b%26c&api-version=6.0-preview"
    assert wire.service_url("https://h/x?api-version=7", "p") == "https://h/x/p?api-version=7"
    queue = f"{TENANT}messages?sessionId=1"
    assert wire.poll_url(queue, 0) == queue
    assert wire.poll_url(queue, 7) == f"{queue}&lastMessageId=7"
    assert wire.message_url(queue, 7) == f"{TENANT}messages/7?sessionId=1"


@pytest.mark.parametrize(
    "url", [None, 7, "ftp://h/", "https://u:p@h/", "https:///p", "https://h/\n", "//h", "https://[x"]
)
def test_an_address_that_no_token_may_go_to_is_refused(url: Any) -> None:
    with pytest.raises(GitHubUnavailable):
        wire.usable(url)


@pytest.mark.parametrize(
    ("token", "ends"),
    [
        (jwt({"exp": 1700}), 1700.0),
        (jwt({"exp": True}), None),
        (jwt({"exp": "soon"}), None),
        (jwt([1]), None),
        (Secret("opaque"), None),
        (Secret("a.%%%.c"), None),
    ],
)
def test_a_token_says_itself_when_it_ends(token: Secret, ends: float | None) -> None:
    assert wire.ends_at(token) == ends


def test_pauses_grow_and_are_bounded() -> None:
    assert [wire.pause(attempt) for attempt in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    repeated = [status for status in (200, 400, 401, 409, 429, 500, 501, 502, 503, 504) if wire.worth_repeating(status)]
    assert repeated == [429, 500, 502, 503, 504]


def answer(status: int, body: object, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, headers, content)


@pytest.mark.parametrize(
    ("status", "kind", "error", "also"),
    [
        (409, "GitHub.X.AgentExistsException, Y", errors.AgentExists, NameTaken),
        (404, "AgentNotFoundException", errors.AgentNotFound, NotFound),
        (400, "GitHub.TaskAgentJobStillRunningException", errors.JobStillRunning, RunnerBusy),
        (409, "RunnerScaleSetSessionConflictException", errors.SessionConflict, GitHubError),
        (400, "RunnerScaleSetSessionExpiredException", errors.SessionGone, GitHubError),
        (404, "RunnerScaleSetNotFoundException", errors.ScaleSetNotFound, NotFound),
        (400, "RunnerScaleSetExistsException", errors.ScaleSetExists, GitHubError),
        (400, "SomethingElse", Invalid, GitHubError),
        (403, "SomethingElse", Forbidden, GitHubError),
        (503, "SomethingElse", GitHubUnavailable, GitHubError),
    ],
)
def test_errors_have_types(status: int, kind: str, error: type, also: type) -> None:
    told = answer(
        status, {"typeName": kind, "message": "because"}, activityid="act-1", **{"x-github-request-id": "R:1"}
    )
    found = wire.failure_of("GET", f"{TENANT}x?token=1", told)
    assert type(found) is error
    assert isinstance(found, also)
    assert "because" in str(found)
    assert "act-1" in str(found)
    assert "R:1" in str(found)
    assert "token=1" not in str(found)


def test_errors_in_plain_text_and_with_a_byte_order_mark_are_understood_and_secrets_hidden() -> None:
    token = Secret("secret-token-of-ours")
    plain = wire.failure_of("GET", TENANT, answer(400, b"JobStillRunningException: secret-token-of-ours"), (token,))
    assert isinstance(plain, errors.JobStillRunning)
    assert "secret-token" not in str(plain)
    body = b"\xef\xbb\xbf" + json.dumps({"typeName": "AgentExistsException", "message": "m"}).encode()
    assert isinstance(wire.failure_of("POST", TENANT, answer(400, body)), errors.AgentExists)
    assert wire.decode(answer(200, b'\xef\xbb\xbf{"a": 1}')) == {"a": 1}
    page = Answer(502, {"content-type": "text/html"}, b"<html>AgentExistsException</html>")
    assert type(wire.failure_of("GET", TENANT, page)) is GitHubUnavailable


def item(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "messageType": kind,
        "jobId": "id-1",
        "runnerRequestId": 0,
        "workflowRunId": 0,
        "ownerName": "o",
        "repositoryName": "n",
        "jobDisplayName": "build",
        "jobWorkflowRef": "o/n/.github/workflows/ci.yml@refs/heads/main",
        "eventName": "push",
        "requestLabels": ["Small"],
        "queueTime": "2024-05-01T10:00:00Z",
        **more,
    }


def message(*items: Any, **more: Any) -> dict[str, Any]:
    body = json.dumps(list(items)) if items else ""
    return {"messageId": 5, "messageType": parse.JOB_MESSAGES, "body": body, "statistics": {}, **more}


def test_messages_are_read_and_what_is_unknown_is_passed_over() -> None:
    found = parse.message(
        message(
            item("JobAssigned"),
            item("JobStarted", runnerName="r", queueTime="0001-01-01T00:00:00Z"),
            item("JobEaten"),
            7,
            item("JobCompleted", jobId="", result="canceled"),
            item("JobCompleted", jobId="", runnerRequestId=9),
            statistics={"totalAssignedJobs": 4, "totalRunningJobs": -1},
        )
    )
    assert [news.kind for news in found.news] == [NewsKind.ASSIGNED, NewsKind.STARTED, NewsKind.COMPLETED]
    assert found.news[0].repository == "o/n"
    assert found.news[0].labels == {"small"}
    assert found.news[0].queued_at == 1714557600.0
    assert found.news[1].queued_at is None
    assert found.news[2].job_id == "request 9"
    assert len(found.unknown) == 3
    assert found.statistics is not None
    assert (found.statistics.assigned, found.statistics.running) == (4, 0)
    assert parse.message(message()).news == ()
    strange = parse.message({"messageId": 6, "messageType": "Weather", "body": "sunny"})
    assert (strange.news, strange.unknown, strange.statistics) == ((), ("Weather",), None)


@pytest.mark.parametrize("value", [None, [], {}, {"messageId": "5"}, message(item("JobAssigned")) | {"body": "{"}])
def test_what_is_no_message_is_an_error_and_not_acknowledged(value: Any) -> None:
    with pytest.raises(GitHubUnavailable):
        parse.message(value)


def test_tokens_of_a_session_never_show() -> None:
    session = parse.session(
        {"sessionId": "s-1", "messageQueueUrl": TENANT, "messageQueueAccessToken": "very-secret", "ownerName": "us"}, 3
    )
    assert "very-secret" not in repr(session)
    for change in ({"sessionId": "../x/.."}, {"messageQueueUrl": "file:///etc"}, {"messageQueueAccessToken": "a b"}):
        with pytest.raises(GitHubUnavailable):
            parse.session({"sessionId": "s", "messageQueueUrl": TENANT, "messageQueueAccessToken": "t"} | change, 3)


def test_a_job_in_the_planner_s_terms() -> None:
    place = Place("lab", "small")
    job = AssignedJob(
        "id-1", "o/n", "build", "o/n/.github/workflows/ci.yml@refs/heads/main", 0, "push", frozenset({"small"}), 5.0
    )
    found = as_job(job, place)
    assert found.id == synthetic_id(place, "id-1") < 0
    assert found.id != synthetic_id(Place("lab", "large"), "id-1")
    assert abs(found.id) < 2**53
    assert (found.workflow, found.scale_set, found.created_at) == ("ci.yml", "small", 5.0)
    assert found.origin is not None
    assert (found.origin.branch, found.origin.fork) == ("main", False)
    assert origin_of("pull_request", "o/n/x.yml@refs/pull/1/merge").fork is None
    assert origin_of("pull_request", "o/n/x.yml@refs/pull/1/merge").branch is None
    assert origin_of("push", "o/n/x.yml@refs/tags/v1").branch is None
