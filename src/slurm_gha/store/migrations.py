"""Bringing a journal's schema up to date: numbered steps, each in one transaction with its number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from slurm_gha.store.errors import JournalError, NewerSchema
from slurm_gha.store.queries import Migration

# "sgha" in ASCII: tells our journal from another program's database.
APPLICATION_ID = 0x73676861


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Migration]) -> int:
    """Apply what is lacking and give the number of the schema; ``connection`` is in autocommit mode.

    Raises NewerSchema for a journal of a newer version, and JournalError for a file that is no journal or for a step
    that fails; the schema is then what it was before that step.
    """
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise JournalError("migrations must be numbered 1, 2, 3… without a gap")
    version = _number(connection, "user_version")
    application = _number(connection, "application_id")
    if application not in (0, APPLICATION_ID) or (application == 0 and (version or _has_tables(connection))):
        raise JournalError(f"{path} is another program's database, not a slurm-gha journal; choose another state_dir")
    if version > len(steps):
        raise NewerSchema(
            f"the journal {path} has schema {version}, but this version of slurm-gha knows schemas up to {len(steps)}: "
            "it was written by a newer version; install that version, or name another state_dir"
        )
    for step in steps[version:]:
        _apply(connection, path, step)
    return len(steps)


def _apply(connection: sqlite3.Connection, path: Path, step: Migration) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        if _number(connection, "user_version") < step.number:
            for statement in statements(step.sql):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {step.number}")
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise JournalError(f"the journal {path} could not be brought to schema {step.number}: {error}") from error


def statements(sql: str) -> Iterator[str]:
    """The statements of a script one by one, so that they all run inside one transaction of ours."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines()):
        yield statement


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
