"""The journal: what is noted stays noted, once, and nothing half."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.world import Trouble, TroubleKind
from slurm_gha.store.errors import JournalError
from slurm_gha.store.journal import Journal
from slurm_gha.store.rows import LONGEST_TEXT, Counts, Report

NAME = "sg-hpc-small-1"


def a_record(name: str = NAME, at: float = 100.0) -> RunnerRecord:
    return RunnerRecord(
        name=name,
        scope="web",
        pool="small",
        labels=frozenset({"slurm", "small"}),
        handover=Handover.CLAIM,
        intended_at=at,
        job_id=7,
        repository="o/r",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.open(path, synchronous="OFF") as journal:
        yield journal


@pytest.fixture
def runner(journal: Journal) -> RunnerRecord:
    journal.intend([a_record()], {NAME: "digest"})
    return a_record()


def test_an_intent_is_on_disk_with_all_its_facts(journal: Journal, path: Path) -> None:
    full = replace(
        a_record("sg-hpc-small-2"),
        handover=Handover.STDIN,
        slurm_id=5,
        submitted_at=101.5,
        claimed_at=102.0,
        minted_at=103.0,
        registration_id=2**53,
        online_at=104.0,
        busy_at=105.0,
        finished_at=106.0,
        withdrawn_at=107.0,
        withdrawn_because="idle",
        deregistered_at=108.0,
    )
    journal.intend([full, a_record()], {NAME: "digest"})
    with Journal.open(path) as again:
        assert again.open_records() == (a_record(), full)
        assert again.secret_digest(NAME) == "digest"
        assert again.secret_digest(full.name) is None


def test_intents_are_all_or_none(journal: Journal, runner: RunnerRecord) -> None:
    with pytest.raises(JournalError, match="UNIQUE"):
        journal.intend([a_record("sg-hpc-small-2"), a_record()], {})
    assert journal.open_records() == (runner,)
    assert journal.record("sg-hpc-small-2") is None


def test_open_records_are_ordered_by_intent_then_name(journal: Journal) -> None:
    names = [("c", 1.0), ("a", 2.0), ("b", 1.0)]
    journal.intend([a_record(name, at) for name, at in names], {})
    assert [record.name for record in journal.open_records()] == ["b", "c", "a"]


def test_the_first_slurm_id_stays(journal: Journal, runner: RunnerRecord) -> None:
    journal.submitted(NAME, 5, 101.0)
    journal.submitted(NAME, 6, 102.0)
    assert journal.record(NAME) == replace(runner, slurm_id=5, submitted_at=101.0)


def test_a_claim_is_granted_once(journal: Journal, runner: RunnerRecord) -> None:
    journal.submitted(NAME, 5, 101.0)
    assert journal.begin_claim(NAME, 102.0, 5, "n1")
    assert not journal.begin_claim(NAME, 103.0, 5, "n1")
    assert journal.record(NAME) == replace(runner, slurm_id=5, submitted_at=101.0, claimed_at=102.0)


def test_a_claim_gives_a_runner_its_slurm_id_if_sbatch_never_answered(journal: Journal, runner: RunnerRecord) -> None:
    assert journal.begin_claim(NAME, 102.0, 9, "n1")
    assert journal.record(NAME) == replace(runner, slurm_id=9, claimed_at=102.0)
    journal.submitted(NAME, 9, 103.0)
    assert journal.record(NAME) == replace(runner, slurm_id=9, claimed_at=102.0, submitted_at=103.0)


@pytest.mark.parametrize("obstacle", ["another Slurm job", "withdrawn", "closed", "unknown"])
def test_a_claim_is_denied(journal: Journal, runner: RunnerRecord, obstacle: str) -> None:
    name = NAME
    match obstacle:
        case "another Slurm job":
            journal.submitted(NAME, 6, 101.0)
        case "withdrawn":
            journal.withdraw(NAME, 101.0, "no demand")
        case "closed":
            journal.close_record(NAME, 101.0, "finished", "")
        case "unknown":
            name = "sg-hpc-small-3"
    before = journal.record(name)
    assert not journal.begin_claim(name, 102.0, 5, "n1")
    assert journal.record(name) == before


def test_a_claim_that_github_could_not_serve_may_be_made_again(journal: Journal, runner: RunnerRecord) -> None:
    assert journal.begin_claim(NAME, 102.0, 5, "n1")
    journal.release_claim(NAME)
    assert journal.begin_claim(NAME, 103.0, 5, "n1")
    journal.minted(NAME, 77, 104.0, "report digest")
    journal.release_claim(NAME)
    assert not journal.begin_claim(NAME, 105.0, 5, "n1")
    assert journal.report_digest(NAME) == "report digest"


def test_the_latest_registration_counts_and_has_not_been_removed(journal: Journal, runner: RunnerRecord) -> None:
    journal.minted(NAME, 77, 104.0, None)
    journal.deregistered(NAME, 105.0)
    journal.minted(NAME, 78, 106.0, None)
    assert journal.record(NAME) == replace(runner, registration_id=78, minted_at=106.0)


def test_first_times_stay(journal: Journal, runner: RunnerRecord) -> None:
    for at in (110.0, 120.0):
        journal.online(NAME, at)
        journal.busy(NAME, at + 1)
        journal.finished(NAME, at + 2, f"exit code {at}")
        journal.deregistered(NAME, at + 3)
    expected = replace(runner, online_at=110.0, busy_at=111.0, finished_at=112.0, deregistered_at=113.0)
    assert journal.record(NAME) == expected
    journal.close_record(NAME, 130.0, "finished", "")
    assert journal.recent(1)[0].finished_detail == "exit code 110.0"


def test_a_withdrawal_may_be_repeated_and_taken_back(journal: Journal, runner: RunnerRecord) -> None:
    assert journal.withdraw(NAME, 110.0, "idle")
    assert journal.withdraw(NAME, 120.0, "another reason")
    assert journal.record(NAME) == replace(runner, withdrawn_at=110.0, withdrawn_because="idle")
    journal.unwithdraw(NAME)
    assert journal.record(NAME) == runner
    journal.close_record(NAME, 130.0, "finished", "")
    assert not journal.withdraw(NAME, 140.0, "idle")
    assert not journal.withdraw("sg-hpc-small-3", 140.0, "idle")


def test_a_closed_record_is_history(journal: Journal, runner: RunnerRecord) -> None:
    journal.begin_claim(NAME, 105.0, 5, "n1")
    journal.close_record(NAME, 110.0, "finished", "exit code 0")
    journal.close_record(NAME, 111.0, "lost", "")
    journal.online(NAME, 112.0)
    assert journal.open_records() == ()
    assert journal.is_closed(NAME)
    assert not journal.is_closed("sg-hpc-small-3")
    (closed,) = journal.recent(10)
    assert (closed.closed_at, closed.outcome, closed.detail, closed.node) == (110.0, "finished", "exit code 0", "n1")
    assert closed.record == journal.record(NAME) == replace(runner, slurm_id=5, claimed_at=105.0)
    assert journal.secret_digest(NAME) == "digest"


def test_known_names_are_open_or_closed(journal: Journal) -> None:
    names = [f"sg-hpc-small-{number}" for number in range(3000)]
    journal.intend([a_record(name) for name in names], {})
    journal.close_record(names[0], 110.0, "finished", "")
    assert journal.known_names([*names, "sg-hpc-small-x", "'; DROP TABLE runner; --"]) == set(names)
    assert journal.known_names([]) == set()


def test_recent_and_counts(journal: Journal) -> None:
    for number, outcome in enumerate(["finished", "time limit", "finished"]):
        journal.intend([a_record(f"r{number}")], {})
        journal.close_record(f"r{number}", 200.0 + number, outcome, "")
    journal.intend([a_record()], {})
    assert [closed.record.name for closed in journal.recent(2)] == ["r2", "r1"]
    assert journal.counts() == Counts(1, 3, {"finished": 2, "time limit": 1})


def test_pruning_drops_old_closed_records_and_their_reports(journal: Journal, runner: RunnerRecord) -> None:
    for number in range(3):
        journal.intend([a_record(f"r{number}")], {})
        journal.add_report(f"r{number}", "ended", 150.0, "")
        journal.close_record(f"r{number}", 200.0 + number, "finished", "")
    assert journal.prune(202.0) == 2
    assert journal.known_names(["r0", "r1", "r2", NAME]) == {"r2", NAME}
    assert journal.reports("r0") == ()
    assert journal.reports("r2") == (Report("ended", 150.0, ""),)


def test_reports_keep_the_order_of_arrival(journal: Journal, runner: RunnerRecord) -> None:
    journal.add_report(NAME, "listening", 120.0, "")
    journal.add_report(NAME, "launched", 110.0, "host")
    journal.add_report("sg-hpc-small-3", "launched", 110.0, "")
    assert journal.reports(NAME) == (Report("listening", 120.0, ""), Report("launched", 110.0, "host"))
    assert journal.reports("sg-hpc-small-3") == ()


def test_adopting_a_name_that_was_never_known(journal: Journal, path: Path) -> None:
    adopted = replace(a_record(), slurm_id=9, submitted_at=100.0, registration_id=3, minted_at=100.0)
    journal.adopt(adopted)
    assert journal.open_records() == (adopted,)
    assert journal.secret_digest(NAME) is None
    with Journal.open(path) as again:
        assert again.open_records() == (adopted,)


def test_adopting_a_closed_name_does_not_make_its_claim_worth_anything(journal: Journal, runner: RunnerRecord) -> None:
    assert journal.begin_claim(NAME, 105.0, 5, "n1")
    journal.minted(NAME, 77, 106.0, "report digest")
    journal.deregistered(NAME, 107.0)
    journal.close_record(NAME, 110.0, "lost", "")
    journal.adopt(replace(a_record(at=300.0), slurm_id=5, submitted_at=99.0, registration_id=78))
    expected = replace(runner, slurm_id=5, submitted_at=99.0, claimed_at=105.0, minted_at=106.0, registration_id=78)
    assert journal.open_records() == (expected,)
    assert not journal.begin_claim(NAME, 111.0, 5, "n1")
    assert journal.recent(10) == ()


def test_adopting_an_open_name_changes_nothing(journal: Journal, runner: RunnerRecord) -> None:
    journal.adopt(replace(a_record(), slurm_id=9, pool="large"))
    assert journal.open_records() == (runner,)


def test_troubles(journal: Journal, path: Path) -> None:
    first = Trouble("small", 1, 200.0, "Invalid account")
    second = Trouble("small", 2, 220.5, "Invalid account", TroubleKind.FAILING)
    other = Trouble("large", 1, 200.0, "QOSMaxSubmitJobPerUserLimit")
    assert journal.troubles() == {}
    journal.set_trouble(first)
    journal.set_trouble(other)
    journal.set_trouble(second)
    assert journal.troubles() == {"small": second, "large": other}
    with Journal.open(path) as again:
        assert again.troubles() == {"small": second, "large": other}
    journal.clear_trouble("small")
    journal.clear_trouble("unheard of")
    assert journal.troubles() == {"large": other}


def test_meta(journal: Journal) -> None:
    assert journal.meta("installation") is None
    journal.set_meta("installation", "hpc")
    journal.set_meta("installation", "hpc2")
    assert journal.meta("installation") == "hpc2"


def test_several_writes_together_are_all_or_none(journal: Journal, path: Path, runner: RunnerRecord) -> None:
    with suppress(ZeroDivisionError), journal.together():
        journal.online(NAME, 110.0)
        journal.set_trouble(Trouble("small", 1, 200.0, ""))
        journal.intend([a_record("other")], {})
        assert len(journal.open_records()) == 2
        raise ZeroDivisionError
    assert journal.open_records() == (runner,)
    assert journal.troubles() == {}
    with journal.together():
        journal.online(NAME, 111.0)
        with Journal.open(path) as other:
            assert other.open_records() == (runner,)
    assert journal.open_records() == (replace(runner, online_at=111.0),)


def test_hostile_texts_are_data(journal: Journal) -> None:
    hostile = "'); DROP TABLE runner; --\x00\ud800\n" + "x" * 100_000
    journal.intend([replace(a_record(), repository=hostile)], {})
    journal.withdraw(NAME, 110.0, hostile)
    journal.add_report(NAME, hostile, 110.0, hostile)
    journal.set_trouble(Trouble("small", 1, 200.0, hostile))
    kept = hostile[:LONGEST_TEXT].replace("\ud800", "?")
    record = journal.record(NAME)
    assert record is not None
    assert record.repository == record.withdrawn_because == journal.troubles()["small"].reason == kept
    assert journal.reports(NAME)[0].detail == kept


def test_numbers_that_do_not_fit_are_an_error_and_change_nothing(journal: Journal, runner: RunnerRecord) -> None:
    with pytest.raises(JournalError, match=r"journal\.db failed"):
        journal.submitted(NAME, 2**64, 101.0)
    with pytest.raises(JournalError):
        journal.add_report(NAME, "ended", float("nan"), "")
    assert journal.open_records() == (runner,)


def test_files_are_private_even_if_the_journal_was_not(path: Path) -> None:
    path.touch(0o644)
    with Journal.open(path) as journal:
        journal.intend([a_record()], {})
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert files == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}


def test_it_waits_for_an_administrators_reader_and_tells_of_a_writer(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM runner").fetchall()
    journal.intend([a_record()], {})
    other.execute("ROLLBACK")
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("slurm_gha.store.journal.BUSY_TIMEOUT", 0.05)
    with Journal.open(path) as impatient, pytest.raises(JournalError, match=r"journal\.db failed: database is locked"):
        impatient.online(NAME, 110.0)
    other.execute("ROLLBACK")
    other.close()
    journal.online(NAME, 110.0)
    assert journal.open_records() == (replace(a_record(), online_at=110.0),)


def test_a_place_that_cannot_hold_a_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"nowhere/journal\.db cannot be opened: No such file or directory"):
        Journal.open(tmp_path / "nowhere" / "journal.db")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(JournalError, match="link cannot be opened"):
        Journal.open(tmp_path / "link")
    with pytest.raises(ValueError, match="synchronous"):
        Journal.open(tmp_path / "journal.db", synchronous="PERHAPS; DROP TABLE runner")


def test_durability_is_full_unless_asked_otherwise(path: Path) -> None:
    with Journal.open(path) as journal:
        assert journal._connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert journal._connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_closed_journal_says_so(path: Path) -> None:
    journal = Journal.open(path)
    journal.close()
    with pytest.raises(JournalError, match="closed database"):
        journal.open_records()


def test_only_what_cannot_be_learnt_again_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes no intent and no used claim back; for the rest Slurm, GitHub and the node are asked again."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remembered(*arguments: object, **options: object) -> sqlite3.Connection:
        connections.append(connect(*arguments, **options))  # type: ignore[call-overload]
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", remembered)
    with Journal.open(path) as journal:
        level, levels = "FULL", dict[str, str]()

        def follow(statement: str) -> None:
            nonlocal level
            words = statement.split()
            if words[:2] == ["PRAGMA", "synchronous"]:
                level = words[-1]
            elif words[0] in ("INSERT", "UPDATE", "DELETE"):
                levels[doing] = level

        connections[0].set_trace_callback(follow)
        steps = {
            "intend": lambda: journal.intend([a_record()], {NAME: "digest"}),
            "submitted": lambda: journal.submitted(NAME, 5, 101.0),
            "begin_claim": lambda: journal.begin_claim(NAME, 102.0, 5, "n1"),
            "minted": lambda: journal.minted(NAME, 9, 103.0, "report digest"),
            "add_report": lambda: journal.add_report(NAME, "launched", 104.0, ""),
            "online": lambda: journal.online(NAME, 105.0),
            "busy": lambda: journal.busy(NAME, 106.0),
            "finished": lambda: journal.finished(NAME, 107.0, "0"),
            "withdraw": lambda: journal.withdraw(NAME, 108.0, "because"),
            "close_record": lambda: journal.close_record(NAME, 109.0, "finished", ""),
        }
        for doing, step in steps.items():  # noqa: B007 - follow() reads it
            step()
    at_once = {doing for doing, how in levels.items() if how == "FULL"}
    assert levels.keys() == steps.keys()
    assert at_once == {"intend", "begin_claim", "withdraw"}


def test_a_transaction_keeps_one_level_from_beginning_to_end(path: Path) -> None:
    with Journal.open(path) as journal:
        journal.add_report("unknown", "launched", 99.0, "")
        with journal.together():
            journal.submitted(NAME, 4, 100.0)
            journal.intend([a_record()], {NAME: "digest"})
            journal.submitted(NAME, 5, 101.0)
        assert [record.slurm_id for record in journal.open_records()] == [5]
