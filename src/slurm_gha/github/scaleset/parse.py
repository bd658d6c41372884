"""Answers of the Actions service as values. Bad items are passed over, bad wholes are errors; nothing is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from slurm_gha.domain.labels import Labels, normalise
from slurm_gha.domain.scaleset import JobNews, Message, NewsKind, ScaleSet, Statistics
from slurm_gha.domain.secret import Secret
from slurm_gha.github.errors import GitHubUnavailable
from slurm_gha.github.scaleset import wire
from slurm_gha.github.scaleset.values import Admin, Session
from slurm_gha.github.values import Minted
from slurm_gha.github.wire import clean

JOB_MESSAGES = "RunnerScaleSetJobMessages"
LONGEST_NAME = 500
MOST_LABELS = 100
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,100}")
# Absent times come as the year 1.
_EARLIEST = 86400.0


def admin(value: Any) -> Admin:
    """The answer to a runner registration; raises GitHubUnavailable."""
    told = _object(value, "the runner registration")
    token = _secret(told, "token")
    return Admin(wire.usable(told.get("url")), token, wire.ends_at(token))


def registration_token(value: Any) -> Secret:
    """A registration token's answer; raises GitHubUnavailable."""
    return _secret(_object(value, "the registration token"), "token")


def scale_set(value: Any) -> ScaleSet:
    """One scale set; raises GitHubUnavailable."""
    told = _object(value, "the scale set")
    setting = told.get("RunnerSetting") or told.get("runnerSetting")
    disabled = setting.get("disableUpdate") if isinstance(setting, dict) else None
    return ScaleSet(
        id=_number(told, "id"),
        name=_text(told.get("name")),
        group_id=_whole(told.get("runnerGroupId")),
        labels=_labels([item.get("name") for item in _list(told.get("labels")) if isinstance(item, dict)]),
        disable_update=disabled if isinstance(disabled, bool) else None,
    )


def scale_sets(value: Any) -> tuple[ScaleSet, ...]:
    """A list of scale sets; raises GitHubUnavailable."""
    return tuple(scale_set(item) for item in _items(value, "the scale sets"))


def group_id(value: Any, name: str) -> int | None:
    """The id of the runner group of that name; None if it is not there."""
    for item in _items(value, "the runner groups"):
        if isinstance(item, dict) and _text(item.get("name")).lower() == name.lower():
            return _number(item, "id")
    return None


def session(value: Any, scale_set_id: int) -> Session:
    """A session, made or refreshed; raises GitHubUnavailable."""
    told = _object(value, "the session")
    identity = told.get("sessionId")
    if not isinstance(identity, str) or _SESSION.fullmatch(identity) is None:
        raise GitHubUnavailable("the session has no id that could be used")
    kept = told.get("runnerScaleSet")
    return Session(
        id=identity,
        scale_set_id=scale_set_id,
        owner=clean(_text(told.get("ownerName")), 100),
        queue_url=wire.usable(told.get("messageQueueUrl")),
        queue_token=_secret(told, "messageQueueAccessToken"),
        statistics=statistics(told.get("statistics")) or Statistics(),
        scale_set=scale_set(kept) if isinstance(kept, dict) and "id" in kept else None,
    )


def statistics(value: Any) -> Statistics | None:
    """The counts; None where there are none."""
    if not isinstance(value, dict):
        return None
    names = {"available": "totalAvailableJobs", "acquired": "totalAcquiredJobs", "assigned": "totalAssignedJobs"}
    names |= {"running": "totalRunningJobs", "registered": "totalRegisteredRunners"}
    names |= {"busy": "totalBusyRunners", "idle": "totalIdleRunners"}
    return Statistics(**{f.name: max(0, _whole(value.get(names[f.name]))) for f in fields(Statistics)})


def message(value: Any) -> Message:
    """A message, its items in order; raises GitHubUnavailable where it cannot even be acknowledged."""
    told = _object(value, "the message")
    number = _number(told, "messageId")
    counts = statistics(told.get("statistics"))
    if told.get("messageType") != JOB_MESSAGES:
        return Message(number, (), counts, (clean(_text(told.get("messageType")), 60),))
    news: list[JobNews] = []
    unknown: list[str] = []
    for item in _body(told.get("body")):
        kind = item.get("messageType") if isinstance(item, dict) else None
        read = _news(item) if isinstance(item, dict) and kind in NewsKind._value2member_map_ else None
        if read is not None:
            news.append(read)
        else:
            unknown.append(clean(_text(kind), 60) or "?")
    return Message(number, tuple(news), counts, tuple(unknown))


def minted(value: Any) -> Minted:
    """A JIT configuration; raises GitHubUnavailable."""
    told = _object(value, "the JIT configuration")
    runner = _object(told.get("runner"), "the JIT configuration's runner")
    return Minted(_number(runner, "id"), _secret(told, "encodedJITConfig"))


def agent_id(value: Any, name: str) -> int | None:
    """The id of the runner of that name in a list; None if it is not there."""
    for item in _items(value, "the runners"):
        if isinstance(item, dict) and item.get("name") == name:
            return _number(item, "id")
    return None


def acquired(value: Any) -> tuple[int, ...]:
    """The request ids that were acquired."""
    return tuple(number for item in _items(value, "the acquired jobs") if (number := _whole(item)))


def _body(text: Any) -> Iterator[Any]:
    """The items in a message's body, which is JSON once more, and may be empty."""
    if not isinstance(text, str) or not text.strip():
        return
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        raise GitHubUnavailable("a message's body is not JSON") from None
    yield from items if isinstance(items, list) else ()


def _news(item: Mapping[str, Any]) -> JobNews | None:
    job_id = _text(item.get("jobId"))
    if not job_id:
        # Older servers name a job by its request only.
        request = _whole(item.get("runnerRequestId"))
        job_id = f"request {request}" if request else ""
    if not job_id:
        return None
    owner, repository = _text(item.get("ownerName")), _text(item.get("repositoryName"))
    return JobNews(
        kind=NewsKind(item["messageType"]),
        job_id=job_id,
        request_id=_whole(item.get("runnerRequestId")),
        repository=f"{owner}/{repository}" if owner and repository else repository,
        name=_text(item.get("jobDisplayName")),
        workflow_ref=_text(item.get("jobWorkflowRef")),
        run_id=_whole(item.get("workflowRunId")),
        event=_text(item.get("eventName")) or None,
        labels=_labels(item.get("requestLabels")),
        queued_at=_time(item.get("queueTime")),
        runner_name=_text(item.get("runnerName")) or None,
        result=clean(_text(item.get("result")), 40) or None,
    )


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GitHubUnavailable(f"{what} is not what it should be: no object")
    return value


def _items(value: Any, what: str) -> list[Any]:
    items = value.get("value") if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise GitHubUnavailable(f"{what} are not what they should be: no list")
    return items


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _labels(value: Any) -> Labels:
    return normalise(_text(label) for label in _list(value)[:MOST_LABELS] if isinstance(label, str) and label.strip())


def _secret(told: Mapping[str, Any], key: str) -> Secret:
    value = told.get(key)
    if not isinstance(value, str) or not value or not _plain(value):
        raise GitHubUnavailable(f"the answer has no {key} that could be used")
    return Secret(value)


def _plain(text: str) -> bool:
    """Whether a text can stand in a header or a path as it is."""
    return text.isascii() and text.isprintable() and " " not in text and not any(sign in text for sign in '"<>\\^`{|}')


def _number(told: Mapping[str, Any], key: str) -> int:
    value = told.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GitHubUnavailable(f"the answer has no number {key}")
    return value


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else 0


def _text(value: Any) -> str:
    return value[:LONGEST_NAME] if isinstance(value, str) else ""


def _time(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
        seconds = at.timestamp() if at.tzinfo is not None else datetime.fromisoformat(value + "+00:00").timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if seconds > _EARLIEST else None
