"""GitHub's wire rules as pure functions: an answer becomes a value or a typed error. No I/O, no clock.

gidgethub's ``sansio`` was weighed for this: it knows no 429, no Retry-After and no 304 with paging kept,
and answers with its own exceptions, so nothing would be left of it but the Link header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from slurm_gha.github.errors import (
    Forbidden,
    GitHubError,
    GitHubUnavailable,
    Invalid,
    NameTaken,
    NotFound,
    RunnerBusy,
)

API_VERSION = "2022-11-28"
MESSAGE_LENGTH = 300
_LINK = re.compile(r"<([^<>]{1,4000})>([^<]{0,400})")
_RELATION = re.compile(r'\brel\s*=\s*"?([^";,]{1,100})')
_RUNNER = re.compile(r"/actions/runners/[0-9]+$")
_LIMIT_WORDS = ("rate limit", "rate-limit", "abuse detection")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: header names are lower-case, the body is decoded from its transfer and content encoding."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def request_id(self) -> str | None:
        value = self.headers.get("x-github-request-id")
        return None if value is None else clean(value, 80)


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate-limit bucket as GitHub's headers show it; ``reset`` is seconds since the epoch, by GitHub's clock.

    Source: docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api, ``x-ratelimit-*``.
    """

    limit: int
    remaining: int
    reset: float
    resource: str = "core"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rate limit was hit. ``until`` (seconds since the epoch) is None when GitHub does not say how long.

    ``primary``: the bucket's hourly budget is spent; otherwise a secondary limit, which holds for the whole token.
    """

    primary: bool
    until: float | None


def clean(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Foreign text fit for one line of a log or an error: no control characters, bounded."""
    text = text[: 4 * length]
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if char.isprintable() else " " for char in text)
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def whole_number(text: str | None) -> int | None:
    """A header's non-negative integer, or None where it holds anything else."""
    if text is None:
        return None
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def rate_of(headers: Mapping[str, str]) -> Rate | None:
    """The bucket that an answer's headers describe, if they describe one."""
    limit = whole_number(headers.get("x-ratelimit-limit"))
    remaining = whole_number(headers.get("x-ratelimit-remaining"))
    reset = whole_number(headers.get("x-ratelimit-reset"))
    if limit is None or remaining is None or reset is None:
        return None
    return Rate(limit, remaining, float(reset), clean(headers.get("x-ratelimit-resource", "core"), 60) or "core")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by Retry-After, which is a number of seconds or an HTTP date (RFC 9110 §10.2.3)."""
    text = headers.get("retry-after")
    if text is None:
        return None
    seconds = whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(text[:100]).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def next_page(headers: Mapping[str, str]) -> str | None:
    """The URL behind ``rel="next"`` of the Link header (RFC 8288)."""
    link = headers.get("link")
    if link is None:
        return None
    for url, parameters in _LINK.findall(link):
        relation = _RELATION.search(parameters)
        if relation is not None and "next" in relation.group(1).lower().split():
            return str(url)
    return None


def refusal_of(answer: Answer, now: float) -> Refusal | None:
    """Whether the answer is a rate limit's: 429, or a 403 that says so in its headers or its words.

    Source: docs.github.com, "Rate limits for the REST API", Exceeding the rate limit.
    """
    if answer.status not in (403, 429):
        return None
    wait = retry_after(answer.headers, now)
    rate = rate_of(answer.headers)
    spent = answer.headers.get("x-ratelimit-remaining", "").strip() == "0"
    if wait is not None:
        return Refusal(primary=False, until=now + wait)
    if spent:
        return Refusal(primary=True, until=None if rate is None else rate.reset)
    if answer.status == 429 or any(word in _words(answer) for word in _LIMIT_WORDS):
        return Refusal(primary=False, until=None)
    return None


def decode(answer: Answer) -> Any:
    """The JSON value of a successful answer; raises GitHubUnavailable where it is malformed. Never quotes the body."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise GitHubUnavailable(
            f"answer {answer.status} is not JSON ({len(answer.body)} bytes, cut short or malformed)",
            request_id=answer.request_id,
        ) from None


def failure_of(method: str, path: str, answer: Answer) -> GitHubError:
    """The error that an unsuccessful answer stands for, rate limits aside (see :func:`refusal_of`)."""
    said = message_of(answer)
    text = f"{method} {clean(path)}: {answer.status}" + (f" {said}" if said else "")
    status, request_id = answer.status, answer.request_id
    if status == 401:
        return Forbidden(f"{text}: GitHub refuses the token (wrong, expired or revoked)", request_id=request_id)
    if status == 403:
        return Forbidden(text + _accepted(answer), request_id=request_id)
    if status in (404, 410):
        return NotFound(
            f"{text}: it does not exist, or the token may not see it" + _accepted(answer), request_id=request_id
        )
    if status == 409 and path.endswith("/generate-jitconfig"):
        return NameTaken(f"{text}: a runner of this name is registered already", request_id=request_id)
    if status == 422 and method == "DELETE" and _RUNNER.search(path):
        return RunnerBusy(f"{text}: the runner has a job", request_id=request_id)
    if 400 <= status < 500 and status not in (408, 425):
        return Invalid(text, request_id=request_id)
    return GitHubUnavailable(text, request_id=request_id)


def message_of(answer: Answer) -> str:
    """GitHub's own words about an error, with the first few details, cleaned; empty where there are none."""
    value = _error_body(answer)
    parts = [value.get("message")]
    details = value.get("errors")
    for detail in details[:3] if isinstance(details, list) else [details]:
        parts.append(detail.get("message") or detail.get("code") if isinstance(detail, dict) else detail)
    return clean("; ".join(part for part in parts if isinstance(part, str)))


def _error_body(answer: Answer) -> dict[str, Any]:
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _words(answer: Answer) -> str:
    value = _error_body(answer)
    return " ".join(str(value.get(key, ""))[:1000] for key in ("message", "documentation_url")).lower()


def _accepted(answer: Answer) -> str:
    """What permission would do, where GitHub says so (X-Accepted-GitHub-Permissions, X-Accepted-OAuth-Scopes)."""
    for name in ("x-accepted-github-permissions", "x-accepted-oauth-scopes"):
        value = clean(answer.headers.get(name, ""), 200)
        if value:
            return f"; this call needs {value}"
    return ""
