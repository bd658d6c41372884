"""GitHub's listings as domain values. Tolerant: unknown fields are ignored, one bad item is noted and left out.

Strings stay as they came (they are data, and hostile), but for lone surrogates, which no file or database takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.labels import Labels, normalise
from slurm_gha.domain.runner import Registration
from slurm_gha.domain.secret import Secret
from slurm_gha.github.errors import GitHubUnavailable
from slurm_gha.github.values import Minted
from slurm_gha.github.wire import clean

Item = TypeVar("Item")
_REPOSITORY = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """The readable items of one page, and a note for each that was not."""

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A workflow run, as far as needed to find its jobs, and what set it going.

    ``created`` is GitHub's own text of the time.
    """

    id: int
    created: str = ""
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The newest runs of a repository: the unfinished ones, and from which id to which the page reaches.

    ``oldest`` and ``newest`` are 0 on an empty page; ``length`` is how many runs it holds.
    """

    unfinished: tuple[Run, ...]
    oldest: int
    newest: int
    length: int


def is_repository(name: str) -> bool:
    """Whether ``name`` is an ``owner/name`` that may stand in a URL."""
    return _REPOSITORY.fullmatch(name) is not None


def runs(value: Any) -> Listing[Run]:
    """A page of ``GET /repos/{owner}/{repo}/actions/runs``."""
    return _listing(value, "workflow_runs", _run)


def _run(item: dict[str, Any]) -> Run:
    return Run(_id(item, "id"), _optional_text(item, "created_at") or "", origin(item))


def origin(run: dict[str, Any]) -> Origin:
    """What set a run going, from the run itself, which is all that GitHub will ever tell: nothing is None.

    The actor is the one who first set it going: a run that is started again keeps that one's rights. A run without a
    head repository is of a fork that was deleted.
    """
    actor, head, base = run.get("actor"), run.get("head_repository"), run.get("repository")
    return Origin(
        event=_optional_text(run, "event") or "",
        branch=_optional_text(run, "head_branch") or "",
        actor=(_optional_text(actor, "login") if isinstance(actor, dict) else None) or "",
        fork=not _same_repository(head, base),
    )


def _same_repository(head: Any, base: Any) -> bool:
    """By number where both have one: names change."""
    if not isinstance(head, dict) or not isinstance(base, dict):
        return False
    numbers = _optional_id(head, "id"), _optional_id(base, "id")
    if None not in numbers:
        return numbers[0] == numbers[1]
    names = _optional_text(head, "full_name"), _optional_text(base, "full_name")
    return names[0] is not None and names[1] is not None and names[0].lower() == names[1].lower()


def page(value: Any) -> Listing[Page]:
    """The first page of ``GET /repos/{owner}/{repo}/actions/runs`` without a filter, in short: as a list of one.

    A run whose status is a new word, or is missing, passes for unfinished: unknown is not gone.
    """
    read = _listing(value, "workflow_runs", lambda item: (_run(item), item.get("status") != "completed"))
    ids = [run.id for run, _ in read.items]
    unfinished = tuple(run for run, open_ in read.items if open_)
    raw = value["workflow_runs"]
    return Listing((Page(unfinished, min(ids, default=0), max(ids, default=0), len(raw)),), read.notes, read.total)


def jobs(value: Any, *, scope: str, repository: str, run_id: int, seen_at: float) -> Listing[Job]:
    """A page of ``GET …/runs/{id}/jobs``: those that are queued or in progress.

    ``seen_at`` (seconds since the epoch) stands in for a creation time that is missing.
    """

    def one(item: dict[str, Any]) -> Job | None:
        found = job(item, scope=scope, repository=repository, run_id=run_id, seen_at=seen_at)
        return found if found.status in (JobStatus.QUEUED, JobStatus.IN_PROGRESS) else None

    return _listing(value, "jobs", one)


def job(item: dict[str, Any], *, scope: str, repository: str, run_id: int, seen_at: float) -> Job:
    """One job, whatever its status; raises ValueError. ``run_id`` and ``seen_at`` stand in for what is missing."""
    started_at = _time(item, "started_at")
    return Job(
        id=_id(item, "id"),
        scope=scope,
        repository=repository,
        run_id=_optional_id(item, "run_id") or run_id,
        run_attempt=_optional_id(item, "run_attempt") or 1,
        name=_optional_text(item, "name") or "",
        workflow=_optional_text(item, "workflow_name") or "",
        labels=_labels(item.get("labels")),
        status=JobStatus(_text(item, "status")),
        created_at=_time(item, "created_at") or started_at or seen_at,
        started_at=started_at,
        completed_at=_time(item, "completed_at"),
        conclusion=_optional_text(item, "conclusion"),
        # GitHub shows 0 and "" for "none yet" in some answers.
        runner_id=_optional_id(item, "runner_id"),
        runner_name=_optional_text(item, "runner_name") or None,
    )


def registrations(value: Any) -> Listing[Registration]:
    """A page of ``GET P/actions/runners``."""

    def one(item: dict[str, Any]) -> Registration:
        busy = item.get("busy")
        labels = item.get("labels")
        names = [label.get("name") for label in labels if isinstance(label, dict)] if isinstance(labels, list) else []
        return Registration(
            id=_id(item, "id"),
            name=_text(item, "name"),
            online=item.get("status") == "online",
            # Unknown is not idle: a runner is only left to be removed when GitHub says that it has no job.
            busy=busy if isinstance(busy, bool) else True,
            labels=normalise(sound(name) for name in names if isinstance(name, str)),
        )

    return _listing(value, "runners", one)


def repositories(value: Any) -> Listing[str]:
    """A page of ``GET /orgs/{org}/repos``, lower-case, without those that are archived or disabled."""

    def one(item: dict[str, Any]) -> str | None:
        if item.get("archived") is True or item.get("disabled") is True:
            return None
        name = _text(item, "full_name")
        if not is_repository(name):
            raise ValueError("full_name is no owner/name")
        return name.lower()

    return _listing({"repositories": value}, "repositories", one)


def pushes(value: Any) -> Listing[tuple[str, str]]:
    """A page of ``GET /orgs/{org}/repos``: each repository (lower-case) with GitHub's own text of its last push."""

    def one(item: dict[str, Any]) -> tuple[str, str]:
        return _text(item, "full_name").lower(), _optional_text(item, "pushed_at") or ""

    return _listing({"repositories": value}, "repositories", one)


def minted(value: Any) -> Minted:
    """The answer of ``POST P/actions/runners/generate-jitconfig``; its errors never quote it."""
    runner = value.get("runner") if isinstance(value, dict) else None
    config = value.get("encoded_jit_config") if isinstance(value, dict) else None
    if not isinstance(runner, dict) or not isinstance(config, str) or not config:
        raise GitHubUnavailable("the answer holds no JIT configuration")
    try:
        return Minted(_id(runner, "id"), Secret(config))
    except ValueError as error:
        raise GitHubUnavailable(f"the answer's runner is unreadable: {error}") from None


def _listing(value: Any, key: str, one: Callable[[dict[str, Any]], Item | None]) -> Listing[Item]:
    raw = value.get(key) if isinstance(value, dict) else None
    if not isinstance(raw, list):
        raise GitHubUnavailable(f"the answer holds no list {key!r}")
    items: list[Item] = []
    notes: list[str] = []
    for position, entry in enumerate(raw):
        try:
            item = one(_object(entry))
        except ValueError as error:
            notes.append(f"{key}[{position}] is left out: {clean(str(error))}")
            continue
        if item is not None:
            items.append(item)
    total = value.get("total_count")
    return Listing(tuple(items), tuple(notes), total if type(total) is int else None)


def _object(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - one kind of error for every flaw of an item
    return entry


def sound(text: str) -> str:
    """The text without lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _id(item: dict[str, Any], key: str) -> int:
    number = _optional_id(item, key)
    if number is None:
        raise ValueError(f"{key} is no positive integer")
    return number


def _optional_id(item: dict[str, Any], key: str) -> int | None:
    value = item.get(key)
    return value if type(value) is int and 0 < value <= _LARGEST_ID else None


def _text(item: dict[str, Any], key: str) -> str:
    text = _optional_text(item, key)
    if text is None:
        raise ValueError(f"{key} is no text")
    return text


def _optional_text(item: dict[str, Any], key: str) -> str | None:
    value = item.get(key)
    return sound(value) if isinstance(value, str) else None


def _labels(value: Any) -> Labels:
    # A job whose labels are unreadable must not pass for one that any runner may take.
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise ValueError("labels is no list of texts")
    return _label_set(tuple(value))


@lru_cache(maxsize=1024)
def _label_set(labels: tuple[str, ...]) -> Labels:
    """One set for all the jobs that ask for the same: ten thousand jobs hardly have more than some dozens."""
    return normalise(sound(label) for label in labels)


def _time(item: dict[str, Any], key: str) -> float | None:
    return seconds(item.get(key))


def seconds(value: object) -> float | None:
    """Seconds since the epoch of an ISO 8601 time; a text without an offset is UTC."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
