"""Where runs come from, for jobs of scale sets: asked once for a run, kept for its jobs, and heeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.unit.test_observation import EmptyCluster, EmptyScope
from tests.unit.test_scale_set_book import LABELS, NOW, PLACE, Time

from slurm_gha.assembly.queues import Rules
from slurm_gha.controller.observation import Observer
from slurm_gha.controller.origins import ASK_AGAIN, KEPT, MOST, Origins
from slurm_gha.controller.scalesets import ScaleSetBook
from slurm_gha.domain.allow import Allow
from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.pool import Policy, Pool, SlurmRequest
from slurm_gha.domain.scaleset import JobNews, Message, NewsKind, Place, ScaleSet, Statistics
from slurm_gha.domain.told import Told
from slurm_gha.domain.world import SlurmView, World
from slurm_gha.github.errors import GitHubUnavailable
from slurm_gha.observe.events import Bus
from slurm_gha.planner.actions import Cause, Submit
from slurm_gha.planner.capacity import capacity
from slurm_gha.planner.plan import plan
from slurm_gha.store.journal import Journal

POOL = Pool("small", frozenset({"lab"}), LABELS, SlurmRequest(1, 600), "/r", max_runners=4, allow=Allow())
POLICY = Policy("x", (POOL,), scale_sets=frozenset({("lab", "small")}))
FORK = Origin("pull_request", "x", "mallory", fork=True)
OWN = Origin("pull_request", "x", "mona", fork=False)


def job(run_id: int, origin: Origin | None = None) -> Job:
    return Job(run_id, "lab", "o/n", run_id, 1, "n", "w", LABELS, JobStatus.QUEUED, NOW, origin=origin)


class Runs(EmptyScope):
    """A scope of whose runs one comes from a fork, one does not, and one cannot be read."""

    def __init__(self) -> None:
        self.looks: list[int] = []

    async def run(self, repository: str, run_id: int) -> tuple[Job, ...]:
        self.looks.append(run_id)
        if run_id == 9:
            raise GitHubUnavailable("not now")
        return (job(run_id, FORK if run_id == 1 else OWN),)


class Bench:
    def __init__(self, journal: Journal) -> None:
        self.clock, self.scope = Time(), Runs()
        self.book = ScaleSetBook(journal, self.clock, Bus(), Rules(lambda: POLICY).may_run)
        self.book.follow({PLACE: "small"})
        self.book.found(PLACE, ScaleSet(3, "small", 1, LABELS), LABELS, made=False)
        self.observer = Observer(
            installation="x",
            scopes={"lab": self.scope},
            cluster=EmptyCluster(),
            journal=journal,
            clock=self.clock,
            bus=Bus(),
            scale_sets=self.book,
            listed=(),
        )

    def assigned(self, *items: tuple[str, int], event: str = "pull_request") -> None:
        news = tuple(
            JobNews(NewsKind.ASSIGNED, name, name=name, repository="o/n", run_id=run, event=event, labels=LABELS)
            for name, run in items
        )
        self.book.opened(PLACE, "s", Statistics(), fresh=True)
        self.book.settle(PLACE)
        self.book.heard(PLACE, Message(1, news, Statistics(assigned=len(items))))

    def world(self) -> World:
        world = self.observer.world(surplus_since={}, last_tried={}, draining=False)
        return replace(world, slurm=SlurmView(NOW))

    def causes(self) -> dict[str, Cause | None]:
        return {entry.job.name: entry.cause for entry in plan(self.world(), POLICY, NOW).waiting}

    def look(self, run_id: int) -> None:
        anyio.run(self.observer.look_at_run, "lab", "o/n", run_id)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Journal.open(tmp_path / "journal.sqlite", synchronous="OFF") as journal:
        yield Bench(journal)


def test_a_look_at_a_run_tells_whether_its_jobs_may_run(bench: Bench) -> None:
    bench.assigned(("a", 1), ("b", 1), ("c", 2), ("d", 9), ("e", 0))
    assert bench.causes() == {
        "a": Cause.ORIGIN, "b": Cause.ORIGIN, "c": Cause.ORIGIN, "d": Cause.ORIGIN, "e": Cause.REFUSED
    }  # fmt: skip
    for run_id in (1, 2, 9):
        bench.look(run_id)
    assert bench.causes() == {
        "a": Cause.REFUSED, "b": Cause.REFUSED, "c": None, "d": Cause.ORIGIN, "e": Cause.REFUSED
    }  # fmt: skip
    submits = [action for action in plan(bench.world(), POLICY, NOW).actions if isinstance(action, Submit)]
    assert [submit.job.name for submit in submits if submit.job is not None] == ["c"]


def test_what_the_look_shows_of_jobs_is_left_to_the_queue(bench: Bench) -> None:
    bench.look(2)
    assert bench.world().jobs == ()


def test_a_look_tells_that_a_job_which_was_taken_back_does_not_come_again(bench: Bench) -> None:
    """The run still has a job called n, and none called m."""
    bench.assigned(("n", 2), ("m", 2))
    lost = (JobNews(NewsKind.COMPLETED, name, name=name, run_id=2, result="canceled") for name in ("n", "m"))
    bench.book.heard(PLACE, Message(2, tuple(lost), Statistics()))
    bench.look(2)
    assert [job.name for job in bench.world().jobs] == ["m", "n"]
    bench.clock.at += 10.0
    bench.look(2)
    assert [(job.name, job.taken_back) for job in bench.world().jobs] == [("n", True)]
    ended = replace(job(2), name="n", status=JobStatus.COMPLETED)
    bench.observer.hear(Told(ended, bench.clock.at))
    assert bench.world().jobs == ()


def test_no_runner_is_started_for_a_job_that_was_taken_back(bench: Bench) -> None:
    bench.assigned(("a", 1), event="push")
    assert any(isinstance(action, Submit) for action in plan(bench.world(), POLICY, NOW).actions)
    bench.book.heard(PLACE, Message(2, (JobNews(NewsKind.COMPLETED, "a", result="canceled"),), Statistics()))
    assert bench.causes() == {"a": None}
    assert plan(bench.world(), POLICY, NOW).actions == ()


def test_a_push_needs_no_look(bench: Bench) -> None:
    bench.assigned(("a", 1), event="push")
    assert bench.causes() == {"a": None}


def test_jobs_that_may_not_run_take_no_room(bench: Bench) -> None:
    bench.assigned(*((f"a{number}", 1) for number in range(7)), ("c", 2))
    assert capacity(bench.world(), POLICY, PLACE, NOW) == 4 + 8
    bench.look(1)
    bench.look(2)
    assert capacity(bench.world(), POLICY, PLACE, NOW) == 4 + 7
    assert capacity(replace(bench.world(), draining=True), POLICY, PLACE, NOW) == 0
    assert capacity(bench.world(), POLICY, Place("lab", "other"), NOW) == 0


def test_a_run_is_asked_for_once_and_again_after_a_while() -> None:
    clock = Time()
    origins = Origins(clock)
    assert [origins.due(("lab", "o/n", run)) for run in (1, 1, 2)] == [True, False, True]
    clock.at += ASK_AGAIN
    assert origins.due(("lab", "o/n", 1))


def test_an_origin_is_kept_as_long_as_jobs_speak_of_its_run_and_a_while_longer() -> None:
    clock = Time()
    origins = Origins(clock)
    origins.learn([job(1, OWN), job(2, OWN), job(0, OWN)])
    for _ in range(3):
        clock.at += KEPT - 60
        assert origins.known(job(1)).origin == OWN
        origins.due(("lab", "o/n", 3))
    assert origins.known(job(2)).origin is None
    assert origins.known(job(0)).origin is None


def test_of_very_many_the_latest_are_kept() -> None:
    origins = Origins(Time())
    origins.learn(job(number, OWN) for number in range(1, MOST + 2))
    assert origins.known(job(MOST + 1)).origin == OWN
    assert origins.known(job(1)).origin is None
