"""What the queue tells, kept: idempotent, on disk, and never taken for more than it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_gha.controller.adoption import adopted
from slurm_gha.controller.comment import comment
from slurm_gha.controller.queue_reading import Reading, Standing
from slurm_gha.controller.scalesets import ScaleSetBook
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Handover, Policy, Pool, SlurmRequest
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.scaleset import JobNews, Message, NewsKind, Place, ScaleSet, Statistics
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import ScopeView, SlurmView, Trouble, World
from slurm_gha.observe import events
from slurm_gha.planner.capacity import capacity
from slurm_gha.store.journal import Journal

NOW = 1_000_000.0
PLACE = Place("lab", "small")
LABELS = frozenset({"linux", "small"})
RECORD = RunnerRecord(
    "sg-x-small-1",
    "lab",
    "small",
    LABELS,
    Handover.CLAIM,
    NOW - 90,
    scale_set=True,
    slurm_id=5,
    claimed_at=NOW - 81,
    minted_at=NOW - 80,
    registration_id=9,
)


class Time:
    """A clock that is set by hand."""

    at = NOW

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Bench:
    def __init__(self, journal: Journal) -> None:
        self.journal, self.clock = journal, Time()
        self.told: list[events.Event] = []
        self.book = self.again()

    def again(self) -> ScaleSetBook:
        """As after a restart."""
        book = ScaleSetBook(self.journal, self.clock, events.Bus(self.told.append))
        book.follow({PLACE: "small"})
        return book

    def listens(self, **counts: int) -> None:
        self.book.found(PLACE, ScaleSet(3, "small", 1, LABELS), LABELS, made=False)
        self.book.opened(PLACE, "s-1", Statistics(**counts), fresh=True)
        self.book.settle(PLACE)

    def hear(self, *news: JobNews, **counts: int) -> None:
        self.book.heard(PLACE, Message(1, news, Statistics(**counts)))

    def jobs(self, *runners: tuple[RunnerRecord, SlurmJob | None]) -> dict[str, tuple[JobStatus, str | None]]:
        return {job.name: (job.status, job.runner_name) for job in self.book.jobs(runners)}

    @property
    def reading(self) -> Reading:
        return next(iter(self.book.readings))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Journal.open(tmp_path / "journal.sqlite", synchronous="OFF") as journal:
        yield Bench(journal)


def news(kind: NewsKind, job: str = "a", **more: str) -> JobNews:
    return JobNews(kind, job, name=job, repository="o/n", labels=LABELS, queued_at=NOW - 5, **more)  # type: ignore[arg-type]


ASSIGNED, STARTED, COMPLETED = NewsKind.ASSIGNED, NewsKind.STARTED, NewsKind.COMPLETED


def test_a_message_that_comes_again_changes_nothing_and_is_there_after_a_restart(bench: Bench) -> None:
    bench.listens()
    for _ in range(2):
        bench.hear(news(ASSIGNED, "a"), news(ASSIGNED, "b"), news(STARTED, "b", runner_name="r"), assigned=2, running=1)
        assert bench.jobs() == {"a": (JobStatus.QUEUED, None), "b": (JobStatus.IN_PROGRESS, "r")}
    book = bench.again()
    assert book.session_of(PLACE) == "s-1"
    # Not counted yet in this life: nothing is started for what an earlier one knew.
    assert [(job.name, job.status) for job in book.jobs(())] == [("b", JobStatus.IN_PROGRESS)]


def test_assigned_again_after_being_taken_back(bench: Bench) -> None:
    bench.listens()
    bench.hear(news(ASSIGNED), assigned=1)
    bench.hear(news(COMPLETED, result="canceled"), assigned=0)
    assert bench.jobs() == {}
    bench.hear(news(ASSIGNED), assigned=1)
    assert bench.jobs() == {"a": (JobStatus.QUEUED, None)}


def test_messages_of_before_the_session_do_not_count(bench: Bench) -> None:
    bench.book.found(PLACE, ScaleSet(3, "small", 1, LABELS), LABELS, made=False)
    bench.book.opened(PLACE, "s-1", Statistics(assigned=0), fresh=False)
    bench.hear(news(ASSIGNED), assigned=1)
    assert bench.jobs() == {}
    bench.book.heard(PLACE, None)
    assert bench.jobs() == {"a": (JobStatus.QUEUED, None)}


def test_a_runner_whose_job_is_called_completed_is_there_until_it_has_ended(bench: Bench) -> None:
    bench.journal.intend([RECORD], {})
    bench.listens()
    running = SlurmJob(5, RECORD.name, "RUNNING", started_at=NOW - 85)
    assert bench.book.registration(RECORD, running) is not None
    bench.hear(news(STARTED, runner_name=RECORD.name), assigned=1, running=1)
    registration = bench.book.registration(RECORD, running)
    assert registration is not None
    assert registration.busy
    bench.hear(news(COMPLETED, runner_name=RECORD.name, result="succeeded"))
    registration = bench.book.registration(RECORD, running)
    assert registration is not None
    assert not registration.busy
    assert bench.book.registration(RECORD, replace(running, state="COMPLETED", ended_at=NOW)) is None
    assert bench.again().registration(RECORD, replace(running, state="COMPLETED", ended_at=NOW)) is None
    record = bench.journal.record(RECORD.name)
    assert record is not None
    assert record.busy_at is not None


def test_while_another_controller_reads_nothing_is_started(bench: Bench) -> None:
    bench.listens()
    bench.hear(news(ASSIGNED, "a"), news(ASSIGNED, "b"), news(STARTED, "b", runner_name="r"), assigned=2, running=1)
    for _ in range(3):
        bench.book.failed(PLACE, "in use by X", conflict=True)
    assert bench.jobs() == {"b": (JobStatus.IN_PROGRESS, "r")}
    view = bench.book.view("lab")
    assert not view.jobs_readable
    assert view.jobs_error is not None
    assert "in use by X" in view.jobs_error
    assert len([event for event in bench.told if isinstance(event, events.SessionConflict)]) == 1
    assert bench.reading.standing is Standing.CONFLICT
    assert bench.book.status()[0].standing == "conflict"


def test_dropped_labels_are_told_and_do_not_count(bench: Bench) -> None:
    bench.book.found(PLACE, ScaleSet(3, "small", 1, frozenset({"small"})), LABELS, made=True)
    (told,) = [event for event in bench.told if isinstance(event, events.LabelsDropped)]
    assert (told.kept, told.dropped) == (("small",), ("linux",))
    job = Job(1, "lab", "o/n", 1, 1, "n", "w", frozenset({"linux", "small"}), JobStatus.QUEUED, NOW)
    assert not bench.book.covers(job)
    assert bench.book.covers(replace(job, labels=frozenset({"small"})))
    assert not bench.book.covers(replace(job, labels=frozenset({"small"}), scope="elsewhere"))


def test_a_scale_set_that_vanished_takes_its_jobs_along(bench: Bench) -> None:
    bench.listens()
    bench.hear(news(ASSIGNED), assigned=1)
    bench.book.vanished(PLACE)
    assert bench.jobs() == {}
    assert bench.again().session_of(PLACE) is None


def test_a_pool_that_is_gone_is_followed_no_more(bench: Bench) -> None:
    bench.listens()
    bench.book.follow({})
    assert bench.book.readings == ()
    bench.book.closed(PLACE)
    assert bench.book.view("lab").jobs_at is None


POOL = Pool("small", frozenset({"lab"}), LABELS, SlurmRequest(1, 600), "/r", max_runners=4)
POLICY = Policy("x", (POOL, replace(POOL, name="large")), max_runners=6)


def test_the_capacity_that_is_told_is_what_the_limits_leave() -> None:
    world = World(slurm=SlurmView(NOW))
    assert capacity(world, POLICY, PLACE, NOW) == 4
    assert capacity(replace(world, draining=True), POLICY, PLACE, NOW) == 0
    assert capacity(replace(world, slurm=SlurmView(NOW, "away")), POLICY, PLACE, NOW) == 0
    assert capacity(world, POLICY, Place("elsewhere", "small"), NOW) == 0
    trouble = replace(world, troubles={"small": Trouble("small", 1, NOW + 5, "no")})
    assert capacity(trouble, POLICY, PLACE, NOW) == 0
    assert capacity(trouble, POLICY, PLACE, NOW + 6) == 1


def test_a_slurm_job_says_that_its_runner_is_a_scale_set_s() -> None:
    slurm = SlurmJob(5, RECORD.name, "RUNNING", started_at=NOW - 85, comment=comment(RECORD, "x"))
    world = World(scopes={"lab": ScopeView("lab")})
    found = adopted(slurm, POLICY, world, NOW, 9)
    assert found is not None
    assert (found.scale_set, found.registration_id, found.minted_at) == (True, 9, NOW - 85)
    plain = adopted(replace(slurm, comment=comment(replace(RECORD, scale_set=False), "x")), POLICY, world, NOW)
    assert plain is not None
    assert not plain.scale_set
