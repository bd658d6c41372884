"""The scale-set protocol's wire rules as pure functions: URLs, tokens' ends, retries, and errors. No I/O, no clock.

Source: actions/scaleset ``client.go``, ``session_client.go``, ``errors.go``.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from slurm_gha.domain.secret import Secret
from slurm_gha.github.errors import Forbidden, GitHubError, GitHubUnavailable, Invalid, NotFound
from slurm_gha.github.scaleset.errors import (
    AgentExists,
    AgentNotFound,
    JobStillRunning,
    ScaleSetExists,
    ScaleSetNotFound,
    SessionConflict,
    SessionGone,
)
from slurm_gha.github.wire import Answer, clean

API_VERSION = "6.0-preview"
SCALE_SETS = "_apis/runtime/runnerscalesets"
RUNNER_GROUPS = "_apis/runtime/runnergroups/"
AGENTS = "_apis/distributedtask/pools/0/agents"
REGISTRATION = "/actions/runner-registration"
QUEUE_ACCEPT = f"application/json; api-version={API_VERSION}"
CAPACITY_HEADER = "X-ScaleSetMaxCapacity"
# An admin token is renewed this long before its end (seconds).
RENEWED_BEFORE = 60.0
RETRIES = 4
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# By part of the type's name; what is named first counts.
_TYPES: tuple[tuple[str, type[GitHubError]], ...] = (
    ("AgentExistsException", AgentExists),
    ("AgentNotFoundException", AgentNotFound),
    ("JobStillRunningException", JobStillRunning),
    ("RunnerScaleSetSessionConflictException", SessionConflict),
    ("RunnerScaleSetSessionExpiredException", SessionGone),
    ("RunnerScaleSetNotFoundException", ScaleSetNotFound),
    ("RunnerScaleSetExistsException", ScaleSetExists),
)


def service_url(base: str, path: str, **query: str | int) -> str:
    """A URL of the Actions service: below ``base``, whatever tenant prefix and query that has."""
    parts = urlsplit(base)
    pairs = dict(parse_qsl(parts.query, keep_blank_values=True)) | {key: str(value) for key, value in query.items()}
    pairs.setdefault("api-version", API_VERSION)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{path}", urlencode(pairs), ""))


def poll_url(queue_url: str, last_message_id: int) -> str:
    """Where to wait for the message after ``last_message_id`` (0: for the first one)."""
    if last_message_id <= 0:
        return queue_url
    parts = urlsplit(queue_url)
    pairs = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != "lastMessageId"]
    return urlunsplit(parts._replace(query=urlencode([*pairs, ("lastMessageId", str(last_message_id))])))


def message_url(queue_url: str, message_id: int) -> str:
    """Where a message is acknowledged: its id ends the path, before the query."""
    parts = urlsplit(queue_url)
    return urlunsplit(parts._replace(path=f"{parts.path}/{int(message_id)}"))


def usable(url: object) -> str:
    """A URL that GitHub gave us, if a token may be sent there; raises GitHubUnavailable."""
    try:
        parts = urlsplit(url) if isinstance(url, str) and url.isascii() and url.isprintable() else None
        fit = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        fit = False
    if not fit:
        raise GitHubUnavailable(f"GitHub named an address that cannot be used: {clean(str(url), 100)!r}")
    return str(url)


def ends_at(token: Secret) -> float | None:
    """When a JWT ends by its own claim ``exp`` (seconds since the epoch); not verified: GitHub does that."""
    parts = token.reveal().split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires = claims.get("exp") if isinstance(claims, dict) else None
    except (ValueError, binascii.Error, RecursionError):
        return None
    return float(expires) if isinstance(expires, int | float) and not isinstance(expires, bool) else None


def pause(attempt: int) -> float:
    """Seconds before the n-th further try."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)))


def worth_repeating(status: int) -> bool:
    """Whether a status says no more than that this was not the moment."""
    return status == 429 or (500 <= status != 501)


def decode(answer: Answer) -> Any:
    """The JSON value of an answer, a byte order mark before it or not; raises GitHubUnavailable. Never quotes it."""
    try:
        return json.loads(answer.body.removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        size = len(answer.body)
        raise GitHubUnavailable(
            f"answer {answer.status} is not JSON ({size} bytes, cut short or malformed)", request_id=trace(answer)
        ) from None


def trace(answer: Answer) -> str | None:
    """What GitHub's support asks for: the request's id, and the Actions service's activity."""
    activity = answer.headers.get("activityid") or answer.headers.get("x-activityid")
    parts = [answer.request_id, None if activity is None else f"activity {clean(activity, 80)}"]
    return ", ".join(part for part in parts if part) or None


def failure_of(method: str, url: str, answer: Answer, hidden: tuple[Secret, ...] = ()) -> GitHubError:
    """The error that an answer stands for. Its words are GitHub's, without what is ``hidden`` (tokens)."""
    kind, said = _told(answer)
    said = clean(said)
    for secret in hidden:
        if len(secret.reveal()) >= 8:
            said = said.replace(secret.reveal(), "***")
    text = f"{method} {clean(urlsplit(url).path)}: {answer.status}" + (f" {said}" if said else "")
    for word, error in _TYPES:
        if word in kind:
            return error(text, request_id=trace(answer))
    return _by_status(answer, text, urlsplit(url).path)


def _by_status(answer: Answer, text: str, path: str) -> GitHubError:
    status, request_id = answer.status, trace(answer)
    if status in (401, 403):
        return Forbidden(f"{text}: GitHub refuses the token", request_id=request_id)
    if status == 409 and path.rstrip("/").endswith("/sessions"):
        return SessionConflict(text, request_id=request_id)
    if status in (404, 410):
        return NotFound(text, request_id=request_id)
    if worth_repeating(status):
        return GitHubUnavailable(text, request_id=request_id)
    return Invalid(text, request_id=request_id)


def _told(answer: Answer) -> tuple[str, str]:
    """The error's type and GitHub's words: of a JSON object, or of plain text, where the words name the type."""
    body = answer.body.removeprefix(_BYTE_ORDER_MARK)[:20_000]
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        kind, message = value.get("typeName"), value.get("message")
        return (kind if isinstance(kind, str) else "", message if isinstance(message, str) else "")
    if "html" in answer.headers.get("content-type", ""):
        return "", ""
    text = body.decode("utf-8", "replace")
    return text, text
