"""The journal against a dictionary, through crashes and restarts at any point."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.world import Trouble, TroubleKind
from slurm_gha.store.errors import JournalError
from slurm_gha.store.journal import Journal
from slurm_gha.store.rows import Report

# Few names and few moments, so that the rules meet each other.
NAMES = [f"sg-hpc-small-{letter}" for letter in "ab"]
names = st.sampled_from(NAMES)
times = st.sampled_from([1.0, 2.0, 2.5]) | st.floats(0, 2e9)
ids = st.integers(1, 3)
texts = st.text(max_size=20)
labels = st.frozensets(st.sampled_from(["slurm", "small", "gpu", 'quo"te']), max_size=3)


def records(name: str) -> st.SearchStrategy[RunnerRecord]:
    return st.builds(
        RunnerRecord,
        name=st.just(name),
        scope=st.sampled_from(["one", "two"]),
        pool=st.sampled_from(["small", "large"]),
        labels=labels,
        handover=st.sampled_from(Handover),
        intended_at=times,
        job_id=st.none() | ids,
        repository=st.none() | texts,
    )


def found(name: str) -> st.SearchStrategy[RunnerRecord]:
    """A record as it is made of a Slurm job that was found."""
    return st.builds(
        lambda record, slurm_id, at, registration: replace(
            record, slurm_id=slurm_id, submitted_at=at, registration_id=registration
        ),
        records(name),
        ids,
        times,
        st.none() | ids,
    )


@dataclass
class Row:
    record: RunnerRecord
    secret: str | None = None
    report_digest: str | None = None
    closed: tuple[float, str, str] | None = None
    reports: list[Report] = field(default_factory=list)


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "journal.db"
        self.journal = Journal.open(self.path, synchronous="OFF")
        self.crashed: list[Journal] = []
        self.rows: dict[str, Row] = {}
        self.troubles: dict[str, Trouble] = {}
        self.meta: dict[str, str] = {}

    def teardown(self) -> None:
        for journal in [*self.crashed, self.journal]:
            journal.close()
        self.directory.cleanup()

    def change(self, name: str, **changes: Any) -> None:
        self.rows[name].record = replace(self.rows[name].record, **changes)

    def note_first(self, name: str, attribute: str, value: object) -> None:
        if self.is_open(name) and getattr(self.rows[name].record, attribute) is None:
            self.change(name, **{attribute: value})

    def is_open(self, name: str) -> bool:
        return name in self.rows and self.rows[name].closed is None

    # The life of the process

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.path, synchronous="OFF")

    @precondition(lambda self: len(self.crashed) < 5)
    @rule()
    def crash(self) -> None:
        self.crashed.append(self.journal)
        self.journal = Journal.open(self.path, synchronous="OFF")

    @rule(name=names, at=times)
    def crash_between_writes_that_belong_together(self, name: str, at: float) -> None:
        with suppress(KeyboardInterrupt), self.journal.together():
            self.journal.online(name, at)
            self.journal.close_record(name, at, "finished", "")
            self.journal.set_trouble(Trouble("small", 99, at, "never"))
            self.journal.open_records()
            self.journal.troubles()
            raise KeyboardInterrupt

    # The life of a runner

    @rule(data=st.data(), chosen=st.lists(names, min_size=1, max_size=3), secret=st.none() | texts)
    def intend(self, data: st.DataObject, chosen: list[str], secret: str | None) -> None:
        new = [data.draw(records(name)) for name in chosen]
        digests = dict.fromkeys(chosen, secret)
        if len(set(chosen)) < len(chosen) or any(name in self.rows for name in chosen):
            with pytest.raises(JournalError):
                self.journal.intend(new, digests)
            return
        self.journal.intend(new, digests)
        for record in new:
            self.rows[record.name] = Row(record, secret)

    @rule(name=names, slurm_id=ids, at=times)
    def submitted(self, name: str, slurm_id: int, at: float) -> None:
        self.journal.submitted(name, slurm_id, at)
        self.note_first(name, "slurm_id", slurm_id)
        self.note_first(name, "submitted_at", at)

    @rule(name=names, at=times, slurm_id=ids)
    def begin_claim(self, name: str, at: float, slurm_id: int) -> None:
        record = self.rows[name].record if self.is_open(name) else None
        free = record is not None and record.claimed_at is None and record.withdrawn_at is None
        granted = free and record is not None and record.slurm_id in (None, slurm_id)
        assert self.journal.begin_claim(name, at, slurm_id, "n1") is granted
        if granted:
            self.change(name, claimed_at=at, slurm_id=slurm_id)

    @rule(name=names)
    def release_claim(self, name: str) -> None:
        self.journal.release_claim(name)
        if self.is_open(name) and self.rows[name].report_digest is None:
            self.change(name, claimed_at=None)

    @rule(name=names, registration_id=ids, at=times, digest=st.none() | texts)
    def minted(self, name: str, registration_id: int, at: float, digest: str | None) -> None:
        self.journal.minted(name, registration_id, at, digest)
        if self.is_open(name):
            self.change(name, registration_id=registration_id, minted_at=at, deregistered_at=None)
            if digest is not None:
                self.rows[name].report_digest = digest

    @rule(name=names, at=times, note=st.sampled_from(["online", "busy", "deregistered"]))
    def first_time(self, name: str, at: float, note: str) -> None:
        getattr(self.journal, note)(name, at)
        self.note_first(name, f"{note}_at", at)

    @rule(name=names, at=times, detail=texts)
    def finished(self, name: str, at: float, detail: str) -> None:
        self.journal.finished(name, at, detail)
        self.note_first(name, "finished_at", at)

    @rule(name=names, at=times, because=texts)
    def withdraw(self, name: str, at: float, because: str) -> None:
        assert self.journal.withdraw(name, at, because) is self.is_open(name)
        if self.is_open(name) and self.rows[name].record.withdrawn_at is None:
            self.change(name, withdrawn_at=at, withdrawn_because=because)

    @rule(name=names)
    def unwithdraw(self, name: str) -> None:
        self.journal.unwithdraw(name)
        if self.is_open(name):
            self.change(name, withdrawn_at=None, withdrawn_because=None)

    @rule(name=names, at=times, outcome=texts, detail=texts)
    def close_record(self, name: str, at: float, outcome: str, detail: str) -> None:
        self.journal.close_record(name, at, outcome, detail)
        if self.is_open(name):
            self.rows[name].closed = (at, outcome, detail)

    @rule(data=st.data(), name=names)
    def adopt(self, data: st.DataObject, name: str) -> None:
        record = data.draw(found(name))
        self.journal.adopt(record)
        if name not in self.rows:
            self.rows[name] = Row(record)
        elif not self.is_open(name):
            row = self.rows[name]
            old, row.closed = row.record, None
            self.change(
                name,
                scope=record.scope,
                pool=record.pool,
                labels=record.labels,
                handover=record.handover,
                job_id=record.job_id if record.job_id is not None else old.job_id,
                repository=record.repository if record.repository is not None else old.repository,
                slurm_id=record.slurm_id,
                submitted_at=record.submitted_at if old.submitted_at is None else old.submitted_at,
            )
            if record.registration_id is not None:
                self.change(name, registration_id=record.registration_id, deregistered_at=None)

    @rule(before=times)
    def prune(self, before: float) -> None:
        old = [name for name, row in self.rows.items() if row.closed is not None and row.closed[0] < before]
        assert self.journal.prune(before) == len(old)
        for name in old:
            del self.rows[name]

    # The rest

    @rule(name=names, event=texts, at=times, detail=texts)
    def add_report(self, name: str, event: str, at: float, detail: str) -> None:
        self.journal.add_report(name, event, at, detail)
        if name in self.rows:
            self.rows[name].reports.append(Report(event, at, detail))

    @rule(
        trouble=st.builds(Trouble, st.sampled_from(["small", "large"]), ids, times, texts, st.sampled_from(TroubleKind))
    )
    def set_trouble(self, trouble: Trouble) -> None:
        self.journal.set_trouble(trouble)
        self.troubles[trouble.pool] = trouble

    @rule(pool=st.sampled_from(["small", "large"]))
    def clear_trouble(self, pool: str) -> None:
        self.journal.clear_trouble(pool)
        self.troubles.pop(pool, None)

    @rule(key=st.sampled_from("ab"), value=texts)
    def set_meta(self, key: str, value: str) -> None:
        self.journal.set_meta(key, value)
        self.meta[key] = value

    # What must hold at any time

    @invariant()
    def open_records_agree(self) -> None:
        expected = sorted(
            (row.record for row in self.rows.values() if row.closed is None), key=lambda r: (r.intended_at, r.name)
        )
        assert self.journal.open_records() == tuple(expected)

    @invariant()
    def runners_agree(self) -> None:
        for name in NAMES:
            row = self.rows.get(name)
            assert self.journal.record(name) == (row.record if row else None)
            assert self.journal.is_closed(name) is (row is not None and row.closed is not None)
            assert self.journal.secret_digest(name) == (row.secret if row else None)
            assert self.journal.report_digest(name) == (row.report_digest if row else None)
            assert self.journal.reports(name) == tuple(row.reports if row else ())
        assert self.journal.known_names(NAMES) == set(self.rows)

    @invariant()
    def history_agrees(self) -> None:
        closed = {name: row for name, row in self.rows.items() if row.closed is not None}
        recent = self.journal.recent(100)
        assert {c.record.name: (c.closed_at, c.outcome, c.detail) for c in recent} == {
            name: row.closed for name, row in closed.items()
        }
        assert [c.closed_at for c in recent] == sorted((c.closed_at for c in recent), reverse=True)
        counts = self.journal.counts()
        assert (counts.open, counts.closed) == (len(self.rows) - len(closed), len(closed))
        assert sum(counts.outcomes.values()) == len(closed)

    @invariant()
    def the_rest_agrees(self) -> None:
        assert self.journal.troubles() == self.troubles
        assert {key: value for key in "ab" if (value := self.journal.meta(key)) is not None} == self.meta


JournalMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
test_the_journal_is_a_dictionary_that_survives = JournalMachine.TestCase


WRITER = """
import json, sys
from pathlib import Path
from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.store.journal import Journal

journal = Journal.open(Path(sys.argv[1]))
begin = int(sys.argv[2])

def say(*words):
    sys.stdout.write(json.dumps(words) + "\\n")
    sys.stdout.flush()

for number in range(begin, begin + 10_000):
    names = [f"r{number}a", f"r{number}b"]
    pair = [RunnerRecord(name, "s", "p", frozenset({"x"}), Handover.CLAIM, float(number)) for name in names]
    journal.intend(pair, {record.name: "digest" for record in pair})
    say("intended", number)
    journal.submitted(f"r{number}a", number + 1, 1.0)
    say("submitted", number)
    journal.close_record(f"r{number}b", 2.0, "refused", "")
    say("closed", number)
"""


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_it_was_told_is_done(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    dice = random.Random(7)
    said: set[tuple[str, int]] = set()
    begin = 0
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(begin)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(dice.randint(1, 90))]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
            assert writer.wait() == -signal.SIGKILL
        with Journal.open(path) as journal:
            opened = {record.name for record in journal.open_records()}
            numbers = {int(name[1:-1]) for name in opened}
            said |= {tuple(json.loads(line)) for line in lines if line.endswith("]\n")}
            for word, number in said:
                record = journal.record(f"r{number}a")
                assert record is not None
                if word == "submitted":
                    assert record.slurm_id == number + 1
                if word == "closed":
                    assert journal.is_closed(f"r{number}b")
            for number in numbers:  # a pair is intended together or not at all
                assert journal.known_names([f"r{number}a", f"r{number}b"]) == {f"r{number}a", f"r{number}b"}
            begin = max(numbers, default=begin) + 1
