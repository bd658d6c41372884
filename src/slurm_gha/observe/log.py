"""The log: one line for each event, as JSON or for people.

Every line that concerns a runner carries all that ties it to the rest: ``runner`` (the name, the same in Slurm and on
GitHub), ``slurm_id``, ``job_id``, ``repository``, ``pool``, ``scope``, as far as they are known.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

import structlog

from slurm_gha.observe import events
from slurm_gha.observe.correlation import Correlation
from slurm_gha.observe.events import Event
from slurm_gha.observe.text import presentable

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("human", "json")

_LEVEL_OF: Mapping[type[Event], str] = {
    events.RoundFinished: "debug",
    events.RunnerIntended: "debug",
    events.SubmissionRefused: "warning",
    events.SubmissionUnclear: "warning",
    events.ClaimDenied: "warning",
    events.RunnerAdopted: "warning",
    events.StrayCancelled: "warning",
    events.JobUnservable: "warning",
    events.JobRefused: "warning",
    events.PoolBackedOff: "warning",
    events.DeliveryTaken: "debug",
    events.DeliveryRefused: "warning",
    events.DeliveriesMissed: "warning",
    events.CatchUpImpossible: "warning",
    events.GitHubUnreadable: "warning",
    events.SlurmUnreadable: "warning",
    events.QueueMessage: "debug",
    events.LabelsDropped: "warning",
    events.ScaleSetGone: "warning",
    events.SessionConflict: "warning",
    events.QueueUnreadable: "warning",
    events.UnexpectedError: "error",
}
# Fields that would collide with the line's own keys, or with those that tie lines together.
_RENAMED = {"event": "reported", "name": "runner", "runner_name": "runner"}
_TIMES = frozenset({"until", "reported_at", "created_at"})


class EventLog:
    """A listener that writes. Lines less important than ``level`` are dropped, but learnt from."""

    def __init__(self, stream: TextIO, log_format: str, level: str, correlation: Correlation | None = None) -> None:
        if log_format not in FORMATS or level not in LEVELS:
            raise ValueError(f"a log has format {' or '.join(FORMATS)}, and level {', '.join(LEVELS)}")
        self.correlation = correlation or Correlation()
        self._threshold = LEVELS.index(level)
        render: Any = structlog.processors.JSONRenderer() if log_format == "json" else _human
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[_presentable, partial(_encodable, stream.encoding or "utf-8", render)],
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def __call__(self, event: Event) -> None:
        """Write one event."""
        identifiers = self.correlation.learn(event)
        level = level_of(event)
        if LEVELS.index(level) < self._threshold:
            return
        details = {
            _RENAMED.get(field.name, field.name): value
            for field in fields(event)
            if field.name != "at" and (value := getattr(event, field.name)) not in (None, "", ())
        }
        details = {key: _iso(value) if key in _TIMES else value for key, value in details.items()}
        self._write(event.at, level, word_for(type(event)), {**identifiers, **details})

    def message(self, at: float, level: str, event: str, **details: object) -> None:
        """Write a line that is no event of ours, such as a library's."""
        if LEVELS.index(level) >= self._threshold:
            self._write(at, level, event, details)

    def _write(self, at: float, level: str, word: str, details: Mapping[str, object]) -> None:
        self._log.msg(word, **{"time": _iso(at), "level": level, **details})


def configure(
    log_format: str, level: str, stream: TextIO | None = None, correlation: Correlation | None = None
) -> EventLog:
    """The log of a service, on standard error unless told otherwise."""
    return EventLog(sys.stderr if stream is None else stream, log_format, level, correlation)


class LibraryHandler(logging.Handler):
    """Brings what libraries say (warnings and worse) into our log, cleaned and masked like everything else.

    For the process's root logger: ``logging.basicConfig(handlers=[LibraryHandler(log)], force=True)``.
    """

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._event_log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        details: dict[str, object] = {"library": record.name, "said": record.getMessage()}
        if record.exc_info and record.exc_info[0] is not None:
            details["error"] = f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
        self._event_log.message(record.created, level, "library_said", **details)


def level_of(event: Event) -> str:
    """How important an event is, by its type."""
    return _LEVEL_OF.get(type(event), "info")


def word_for(kind: type[Event]) -> str:
    """An event's word in the log: ``RunnerSubmitted`` is ``runner_submitted``."""
    word = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")
    return word.replace("git_hub", "github")


def _iso(at: object) -> object:
    if not isinstance(at, float | int):
        return at
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return str(at)


def _presentable(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: _shown(value) for key, value in line.items()}


def _shown(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(item) for item in list(value)[:50]]
    return presentable(str(value))


def _human(logger: Any, method: str, line: MutableMapping[str, Any]) -> str:
    """``time level word key=value …``, with values that hold blanks in quotation marks."""
    time, level, word = line.pop("time"), line.pop("level"), line.pop("event")
    pairs = (f"{key}={_quoted(value)}" for key, value in line.items())
    return " ".join((f"{time} {level:<7} {word:<20}", *pairs)).rstrip()


def _quoted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
    if text and not any(character in text for character in " \"'="):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _encodable(encoding: str, render: Any, logger: Any, method: str, line: MutableMapping[str, Any]) -> str:
    """A line that the stream can take, whatever the locale."""
    rendered = str(render(logger, method, line))
    return rendered.encode(encoding, "backslashreplace").decode(encoding)
