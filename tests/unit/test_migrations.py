"""The journal's schema: numbered steps, all or nothing each, never backwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_gha.store.errors import JournalError, NewerSchema
from slurm_gha.store.journal import Journal
from slurm_gha.store.migrations import migrate, statements
from slurm_gha.store.queries import Migration, migrations, queries

ONE = Migration(1, "0001_one.sql", "CREATE TABLE one (a);\nINSERT INTO one VALUES ('x;y');\n")
TWO = Migration(2, "0002_two.sql", "ALTER TABLE one ADD COLUMN b;\nUPDATE one SET b = a;\n")
BROKEN = Migration(3, "0003_broken.sql", "CREATE TABLE three (a);\nINSERT INTO nowhere VALUES (1);\n")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    yield connection
    connection.close()


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_steps_are_applied_once_each_and_in_order(connection: sqlite3.Connection, tmp_path: Path) -> None:
    assert migrate(connection, tmp_path, [ONE]) == 1
    assert migrate(connection, tmp_path, [ONE, TWO]) == 2
    assert migrate(connection, tmp_path, [ONE, TWO]) == 2
    assert connection.execute("SELECT a, b FROM one").fetchall() == [("x;y", "x;y")]


def test_a_step_that_fails_leaves_the_schema_before_it(connection: sqlite3.Connection, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="could not be brought to schema 3: no such table: nowhere"):
        migrate(connection, tmp_path, [ONE, TWO, BROKEN])
    assert version(connection) == 2
    assert not connection.in_transaction
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'three'").fetchall() == []


def test_steps_without_a_gap(connection: sqlite3.Connection, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="without a gap"):
        migrate(connection, tmp_path, [ONE, BROKEN])


def test_a_newer_schema_is_refused_in_one_sentence_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal.open(path).close()
    newer = len(migrations()) + 7
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    with pytest.raises(NewerSchema) as refusal:
        Journal.open(path)
    assert str(path) in str(refusal.value)
    assert f"schema {newer}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    connection = sqlite3.connect(path)
    assert version(connection) == newer
    connection.close()


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (a)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"]
)
def test_another_programs_database_is_left_alone(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "journal.db"
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match="another program's database"):
        Journal.open(path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_text("not a database, but a text of some length\n" * 50)
    with pytest.raises(JournalError, match=r"journal\.db failed: file is not a database"):
        Journal.open(path)


def test_statements_are_split_where_they_end() -> None:
    script = (
        "-- a; comment\nCREATE TABLE a (b);\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\n  DELETE FROM a;\nEND;\n-- end\n"
    )
    assert [s.split()[-1] for s in statements(script)] == ["(b);", "END;"]
    assert list(statements("SELECT 1")) == ["SELECT 1"]


def test_the_shipped_steps_have_numbers_one_two_three() -> None:
    steps = migrations()
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert steps


def test_every_shipped_statement_is_valid_against_the_shipped_schema(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal.open(path).close()
    connection = sqlite3.connect(path)

    class Anything(dict[str, object]):
        def __missing__(self, key: str) -> object:
            return None

    for name, sql in queries().items():
        plan = connection.execute(f"EXPLAIN QUERY PLAN {strip_comments(sql)}", Anything()).fetchall()
        if name == "open_records":
            assert "runner_open" in str(plan), "reading the open records must not scan the history"
        if name in ("prune", "recent"):
            assert "runner_closed" in str(plan)
    connection.close()


def strip_comments(sql: str) -> str:
    return "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
