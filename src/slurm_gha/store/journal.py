"""The journal: what is on disk before it matters.

One SQLite file (WAL, mode 0600) of one writing service; every call is a short transaction, and when it returns, a
``kill -9`` takes nothing of it back. Called straight from the event loop: there are no threads. What was first noted of
a runner stays, so that news may come twice or late; on a closed or unknown runner, notes have no effect.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.world import Trouble
from slurm_gha.store.errors import JournalError
from slurm_gha.store.migrations import migrate
from slurm_gha.store.queries import migrations, queries
from slurm_gha.store.rows import (
    ClosedRunner,
    Counts,
    Report,
    closed_of,
    columns_of,
    optional_text,
    record_of,
    text,
    trouble_of,
)

# Writes that need not wait for the disk: what they say can be learnt again from Slurm, GitHub or the node. A crash of
# the service does not lose them, only one of the machine does; and the next write that waits takes them along.
_SOON = frozenset(
    {"submitted", "minted", "release_claim", "online", "busy", "finished", "add_report", "deregistered", "close_record"}
    | {"set_trouble", "clear_trouble", "prune", "set_scale_set_session"}
)
# How long another process may keep the file locked (an administrator's sqlite3, say) before a call gives up (seconds).
BUSY_TIMEOUT = 5.0


class Journal:
    """See the module. Times are seconds since the epoch. Every method raises JournalError when the file fails it."""

    def __init__(self, connection: sqlite3.Connection, path: Path, synchronous: str = "FULL") -> None:
        self._connection = connection
        self._path = path
        self._synchronous = self._level = synchronous
        self._sql = queries()
        self._depth = 0
        # Open records by name, kept in step with the file, of which this is the only writer; None: to be read.
        self._open: dict[str, RunnerRecord] | None = None
        self._ordered: tuple[RunnerRecord, ...] | None = None
        self._troubles: Mapping[str, Trouble] | None = None

    @classmethod
    def open(cls, path: Path, *, synchronous: str = "FULL") -> Journal:
        """Open or make the journal; raises JournalError or NewerSchema.

        ``synchronous``: with FULL, a power cut takes no intent, claim or withdrawal back, else what was noted in the
        last moments; with NORMAL, anything of the last moments; OFF is for simulations.
        """
        if synchronous not in ("FULL", "NORMAL", "OFF", "EXTRA"):
            raise ValueError(f"synchronous is {synchronous!r}; it may be FULL, NORMAL, EXTRA or OFF")
        _make_private(path)
        with _failures_of(path), ExitStack() as undo:
            connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            undo.callback(connection.close)
            connection.row_factory = sqlite3.Row
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise JournalError(f"the journal {path} cannot use a write-ahead log here; it must be on a local disk")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, path, migrations())
            undo.pop_all()
        return cls(connection, path, synchronous)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Several writes as one: all of them are on disk at its end, or none. Never await inside."""
        if self._depth:
            yield
            return
        with self._translated():
            self._set_level(self._synchronous)
            self._connection.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
            with self._translated():
                self._connection.execute("COMMIT")
        except BaseException:
            self._forget_cache()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth = 0

    # Runners: from intent to end

    def intend(self, records: Sequence[RunnerRecord], secret_digests: Mapping[str, str | None]) -> None:
        """Open records, all or none; raises JournalError where a name is known already."""
        with self.together():
            for record in records:
                self._write("intend", **columns_of(record), secret_digest=secret_digests.get(record.name))
                self._refresh(record.name)

    def submitted(self, name: str, slurm_id: int, at: float) -> None:
        """Slurm gave the runner's job an id; the first one stays."""
        self._note("submitted", name, slurm_id=slurm_id, at=at)

    def begin_claim(self, name: str, at: float, slurm_id: int, node: str) -> bool:
        """Use up the claim: True once, for an open runner that is not withdrawn and whose Slurm job this is.

        A runner without a known Slurm id gets this one.
        """
        return self._note("begin_claim", name, at=at, slurm_id=slurm_id, node=text(node))

    def release_claim(self, name: str) -> None:
        """GitHub could not mint: the claim may be made again. Without effect once a configuration was handed out."""
        self._note("release_claim", name)

    def minted(self, name: str, registration_id: int, at: float, report_digest: str | None) -> None:
        """The runner is registered (anew): the latest registration counts, and has not been removed."""
        self._note("minted", name, registration_id=registration_id, at=at, report_digest=report_digest)

    def online(self, name: str, at: float) -> None:
        """First seen online."""
        self._note("online", name, at=at)

    def busy(self, name: str, at: float) -> None:
        """First seen with a job."""
        self._note("busy", name, at=at)

    def finished(self, name: str, at: float, detail: str) -> None:
        """The node said that its runner has ended."""
        self._note("finished", name, at=at, detail=text(detail))

    def withdraw(self, name: str, at: float, because: str) -> bool:
        """Take the runner out of service, with the first reason given; whether it is open and now withdrawn."""
        return self._note("withdraw", name, at=at, because=text(because))

    def unwithdraw(self, name: str) -> None:
        """The runner turned out to be busy: it stays."""
        self._note("unwithdraw", name)

    def deregistered(self, name: str, at: float) -> None:
        """Its registration is off GitHub, by our doing."""
        self._note("deregistered", name, at=at)

    def close_record(self, name: str, at: float, outcome: str, detail: str) -> None:
        """End the runner's story. The record stays as history until it is pruned."""
        self._note("close_record", name, at=at, outcome=text(outcome), detail=text(detail))

    def adopt(self, record: RunnerRecord) -> None:
        """Look after a Slurm job with our name that has no open record: a new one, or the closed one opened again.

        One that is opened again keeps what is known of it: a used claim stays used. An open record is left alone.
        """
        with self.together():
            if self.record(record.name) is None:
                self._write("intend", **columns_of(record), secret_digest=None)
            else:
                self._write("reopen", **columns_of(record))
            self._refresh(record.name)

    # Runners: what is known

    def open_records(self) -> tuple[RunnerRecord, ...]:
        """The open records, oldest intent first, then by name."""
        if self._ordered is None:
            records = self._known_open().values()
            self._ordered = tuple(sorted(records, key=lambda record: (record.intended_at, record.name)))
        return self._ordered

    def record(self, name: str) -> RunnerRecord | None:
        """The record, open or closed."""
        known = self._known_open().get(name)
        if known is not None:
            return known
        row = self._row("record", name=name)
        return record_of(row) if row is not None else None

    def known_names(self, names: Iterable[str]) -> set[str]:
        """Those of the names that have a record, open or closed."""
        return {row["name"] for row in self._rows("known_names", names=json.dumps(list(names)))}

    def is_closed(self, name: str) -> bool:
        """Whether there is a record and it is closed."""
        return name not in self._known_open() and self._row("record", name=name) is not None

    def secret_digest(self, name: str) -> str | None:
        """The digest of the claim secret; a closed runner keeps it."""
        return self._column(name, "secret_digest")

    def report_digest(self, name: str) -> str | None:
        """The digest of the report token, once a claim was granted; a closed runner keeps it."""
        return self._column(name, "report_digest")

    def recent(self, limit: int) -> tuple[ClosedRunner, ...]:
        """The runners closed last, latest first."""
        return tuple(closed_of(row) for row in self._rows("recent", limit=limit))

    def counts(self) -> Counts:
        """How many runners there are and were (as far as they have not been pruned)."""
        outcomes = {row["outcome"]: row["number"] for row in self._rows("outcomes")}
        return Counts(len(self._known_open()), sum(outcomes.values()), MappingProxyType(outcomes))

    def prune(self, before: float) -> int:
        """Drop closed records, and their reports, that were closed before a time; how many."""
        return self._write("prune", before=before)

    # Reports, troubles, and small things

    def add_report(self, name: str, event: str, at: float, detail: str) -> None:
        """Keep a node's word; of an unknown runner it is not kept."""
        self._write("add_report", name=name, event=text(event), at=at, detail=text(detail))

    def reports(self, name: str) -> tuple[Report, ...]:
        """What the node said, in the order it arrived."""
        return tuple(Report(row["event"], row["at"], row["detail"]) for row in self._rows("reports", name=name))

    def troubles(self) -> Mapping[str, Trouble]:
        """The pools in back-off, by name."""
        if self._troubles is None:
            self._troubles = MappingProxyType({row["pool"]: trouble_of(row) for row in self._rows("troubles")})
        return self._troubles

    def set_trouble(self, trouble: Trouble) -> None:
        """A pool backs off; an earlier trouble of it is replaced."""
        self._troubles = None
        self._write(
            "set_trouble",
            pool=trouble.pool,
            failures=trouble.failures,
            until=trouble.until,
            reason=text(trouble.reason),
            kind=trouble.kind.value,
        )

    def clear_trouble(self, pool: str) -> None:
        """A pool's trouble is over."""
        self._troubles = None
        self._write("clear_trouble", pool=pool)

    def meta(self, key: str) -> str | None:
        row = self._row("meta", key=key)
        return str(row["value"]) if row is not None else None

    def set_meta(self, key: str, value: str) -> None:
        self._write("set_meta", key=key, value=value)

    # For the other books of this file: see deliveries.py and scalesets.py

    def write(self, query: str, **values: object) -> int:
        """Run a named statement; how many rows it changed."""
        return self._write(query, **values)

    def select(self, query: str, **values: object) -> list[sqlite3.Row]:
        """The rows of a named query."""
        return self._rows(query, **values)

    # SQLite

    def _note(self, query: str, name: str, **values: object) -> bool:
        changed = self._write(query, name=name, **values) > 0
        if changed:
            self._refresh(name)
        return changed

    def _write(self, query: str, **values: object) -> int:
        with self._translated():
            if not self._depth:  # within a transaction, its own level holds
                self._set_level("NORMAL" if query in _SOON and self._synchronous == "FULL" else self._synchronous)
            return self._connection.execute(self._sql[query], values).rowcount

    def _set_level(self, level: str) -> None:
        if level != self._level:
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._level = level

    def _rows(self, query: str, **values: object) -> list[sqlite3.Row]:
        with self._translated():
            return self._connection.execute(self._sql[query], values).fetchall()

    def _row(self, query: str, **values: object) -> sqlite3.Row | None:
        rows = self._rows(query, **values)
        return rows[0] if rows else None

    def _column(self, name: str, column: str) -> str | None:
        row = self._row("record", name=name)
        return optional_text(row[column]) if row is not None else None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with _failures_of(self._path):
                yield
        except JournalError:
            self._forget_cache()
            raise

    # The open records in memory

    def _known_open(self) -> dict[str, RunnerRecord]:
        if self._open is None:
            self._open = {row["name"]: record_of(row) for row in self._rows("open_records")}
        return self._open

    def _refresh(self, name: str) -> None:
        """Read one runner again after a write of it."""
        if self._open is None:
            return
        self._ordered = None
        row = self._row("record", name=name)
        if row is None or row["closed_at"] is not None:
            self._open.pop(name, None)
        else:
            self._open[name] = record_of(row)

    def _forget_cache(self) -> None:
        self._open = self._ordered = self._troubles = None


def _make_private(path: Path) -> None:
    """The file, with mode 0600 from its first moment; SQLite gives its -wal and -shm files the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be opened: {error.strerror}") from error


@contextmanager
def _failures_of(path: Path) -> Iterator[None]:
    """SQLite's errors as ours; a number or text that does not fit its column counts as one."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise JournalError(f"the journal {path} failed: {error}") from error
