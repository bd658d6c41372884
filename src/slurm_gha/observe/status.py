"""The service's word on itself: frozen values, and the file that ``slurm-gha status`` reads.

Texts in it are as GitHub, Slurm and nodes gave them: whoever shows them cleans them first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from slurm_gha.domain.clock import Clock
from slurm_gha.observe.events import Bus, UnexpectedError

FILE_NAME = "status.json"
FORMAT = 1
# The file is written at least this often, so that its age tells whether the service lives (seconds).
HEARTBEAT = 10.0


class StatusError(Exception):
    """There is no status to show; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A queued job, since when (seconds since the epoch), and in a sentence why it still waits.

    ``runner`` is the one counted on for it; ``unservable``: no pool can ever take it as things are configured.
    ``cause``: what it lacks a runner for, in one word; ``refused``: none of the pools that could take it lets it run.
    """

    id: int
    repository: str
    name: str
    scope: str
    since: float
    why: str
    labels: tuple[str, ...] = ()
    runner: str | None = None
    unservable: bool = False
    refused: bool = False
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStatus:
    """A runner, its phase and since when; ``slurm_state`` is Slurm's word, ``slurm_reason`` a sentence for it.

    ``held``: its Slurm job waits for a person, and will not start by itself.
    ``job_id`` and ``repository`` are of the job it has, or else of the demand that caused it.
    """

    name: str
    pool: str
    scope: str
    phase: str
    since: float
    slurm_id: int | None = None
    slurm_state: str = ""
    slurm_reason: str = ""
    held: bool = False
    node: str = ""
    job_id: int | None = None
    repository: str | None = None
    withdrawn_because: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatus:
    """A pool: its runners by phase, its limit, and its back-off, if any (``until`` in seconds since the epoch)."""

    name: str
    limit: int
    phases: Mapping[str, int] = field(default_factory=dict)
    until: float | None = None
    failures: int = 0
    reason: str = ""

    @property
    def live(self) -> int:
        """Runners that count towards the limit: all but the ended ones."""
        return sum(number for phase, number in self.phases.items() if phase != "ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStatus:
    """A token's rate budget, as GitHub's headers tell it; ``reset`` and ``blocked_until`` are seconds since the epoch.

    ``counted`` and ``uncounted`` are the requests since the service started, by whether GitHub counted them.
    """

    remaining: int | None = None
    limit: int | None = None
    reset: float | None = None
    blocked_until: float | None = None
    counted: int = 0
    uncounted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeStatus:
    """A scope: whether its latest readings succeeded, and when the last good ones began (None: never).

    ``sources``: where news of its jobs comes from; ``last_delivery``: when its webhook last brought some.
    """

    name: str
    readable: bool
    last_read: float | None = None
    error: str | None = None
    budget: BudgetStatus | None = None
    sources: tuple[str, ...] = ("poll",)
    last_delivery: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSetStatus:
    """A pool's scale set in a scope: how its queue is read, GitHub's counts, and the labels that GitHub knows it by.

    ``standing``: beginning, listening, conflict (another controller reads it) or failing, with ``trouble`` as the
    reason. ``session_since``: when the session was opened (seconds since the epoch). ``dropped``: labels not kept.
    """

    scope: str
    pool: str
    name: str
    standing: str
    labels: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    trouble: str | None = None
    session_since: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmStatus:
    """Whether Slurm's latest listing succeeded, and when the last good one began (None: never)."""

    readable: bool
    last_read: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Everything that one screen shows. ``at`` is when it was so, in seconds since the epoch."""

    installation: str
    version: str
    pid: int
    at: float
    started_at: float
    slurm: SlurmStatus
    draining: bool = False
    jobs: tuple[WaitingJob, ...] = ()
    runners: tuple[RunnerStatus, ...] = ()
    pools: tuple[PoolStatus, ...] = ()
    scopes: tuple[ScopeStatus, ...] = ()
    scale_sets: tuple[ScaleSetStatus, ...] = ()
    format: int = FORMAT


@cache
def _adapter() -> TypeAdapter[Status]:
    return TypeAdapter(Status)


def to_json(status: Status) -> bytes:
    """The status as JSON (UTF-8)."""
    try:
        return _adapter().dump_json(status)
    except (PydanticSerializationError, UnicodeEncodeError):  # a lone surrogate, which GitHub's JSON escapes can make
        return _adapter().dump_json(_valid(status))


def _valid(status: Status) -> Status:
    def repaired(value: object) -> object:
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, dict):
            return {str(repaired(key)): repaired(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [repaired(item) for item in value]
        return value

    return _adapter().validate_python(repaired(_adapter().dump_python(status)))


def from_json(text: bytes | str) -> Status:
    """The status in a JSON text; fields of newer versions are passed over. Raises StatusError."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StatusError(f"it is no status: {place + ': ' if place else ''}{first['msg']}") from None


def write(state_dir: Path, status: Status) -> None:
    """Replace the status file (mode 0600) in one step: a reader sees the old one or the new one. Raises OSError."""
    draft, target = state_dir / f"{FILE_NAME}.new", state_dir / FILE_NAME
    text = to_json(status)
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    draft.replace(target)


def read(state_dir: Path) -> Status:
    """The status in a state directory; raises StatusError."""
    path = state_dir / FILE_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise StatusError(f"there is no status at {path}: no service has run with this state directory yet") from None
    except OSError as error:
        raise StatusError(
            f"the status {path} cannot be read: {error.strerror}; run this as the service's user"
        ) from None
    try:
        return from_json(text)
    except StatusError as error:
        raise StatusError(f"the status {path} cannot be used: {error}; the service replaces it when it runs") from None


class StatusWriter:
    """Keeps the file up to date: at most once in ``interval`` seconds, at least once in HEARTBEAT.

    ``build`` makes the status of the moment; it is called only when one is written.
    """

    def __init__(
        self, state_dir: Path, build: Callable[[], Status], clock: Clock, bus: Bus, *, interval: float = 1.0
    ) -> None:
        self._state_dir = state_dir
        self._build = build
        self._clock = clock
        self._bus = bus
        self._interval = interval
        self._written: float | None = None
        self._changed = False
        self._failed = False

    def changed(self) -> None:
        """There is news: write now, or as soon as the interval allows."""
        self._changed = True
        if self._age() >= self._interval:
            self.write()

    def write(self) -> None:
        """Write now. A failure is told once, and does not stop the service."""
        self._written, self._changed = self._clock.now(), False
        try:
            write(self._state_dir, self._build())
        except OSError as error:
            if not self._failed:
                where = f"writing {self._state_dir / FILE_NAME}"
                self._bus.emit(UnexpectedError(at=self._clock.now(), where=where, error=str(error.strerror or error)))
            self._failed = True
        else:
            self._failed = False

    async def run(self) -> None:
        """Write what ``changed`` had to put off, and the heartbeat, until cancelled."""
        while True:
            await self._clock.sleep(self._interval)
            if self._age() >= (self._interval if self._changed else HEARTBEAT):
                self.write()

    def _age(self) -> float:
        """Seconds since the last writing; a clock that was set back counts as very long ago."""
        if self._written is None:
            return float("inf")
        age = self._clock.now() - self._written
        return age if age >= 0 else float("inf")
