"""Hints at single runs, and what the observer makes of what it hears: the next world holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import anyio
import trio.testing
from tests.unit.test_loop import Idle
from tests.unit.test_observation import EmptyCluster

from slurm_gha.controller.acting import Actor
from slurm_gha.controller.loop import MANY_RUNS, Controller
from slurm_gha.controller.observation import Observer
from slurm_gha.controller.ports import GitHubScope
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Handover, Policy
from slurm_gha.domain.runner import Registration, RunnerRecord
from slurm_gha.domain.told import Told
from slurm_gha.github.errors import GitHubUnavailable
from slurm_gha.github.values import Newest
from slurm_gha.observe.events import Bus
from slurm_gha.store.journal import Journal

EPOCH = 1_800_000_000.0


def job(run_id: int, status: JobStatus = JobStatus.QUEUED, runner: str | None = None) -> Job:
    labels = frozenset({"small"})
    return Job(run_id, "lab", "lab/demo", run_id, 1, "build", "CI", labels, status, EPOCH, runner_name=runner)


class CountedScope:
    """A scope of one repository with a job in each of its runs, that notes what it is asked."""

    def __init__(self, runs: Mapping[int, Job]) -> None:
        self.found = dict(runs)
        self.asked: list[str] = []
        self.broken = False

    async def repositories(self) -> tuple[str, ...]:
        return ("lab/demo",)

    async def jobs(self, repository: str) -> tuple[Job, ...]:
        self.asked.append(repository)
        return tuple(self.found.values())

    async def newest(self, repository: str) -> Newest:
        return Newest(await self.jobs(repository), complete=True)

    def requests(self, repository: str) -> tuple[int, int]:
        return 2, 6

    def pace(self, demand: float) -> float:
        return 5.0

    async def run(self, repository: str, run_id: int) -> tuple[Job, ...]:
        self.asked.append(f"{repository} {run_id}")
        if self.broken:
            raise GitHubUnavailable("502")
        return (self.found[run_id],) if run_id in self.found else ()

    async def runners(self) -> tuple[Registration, ...]:
        return ()


class Bench:
    def __init__(self, journal: Journal, scope: CountedScope) -> None:
        self.clock, bus = EventLoopClock(EPOCH), Bus()
        self.clock.now()
        self.scope = scope
        self.observer = Observer(
            installation="lab",
            scopes={"lab": cast(GitHubScope, scope)},
            cluster=EmptyCluster(),
            journal=journal,
            clock=self.clock,
            bus=bus,
        )
        self.controller = Controller(
            policy=lambda: Policy("lab", ()),
            observer=self.observer,
            actor=cast(Actor, Idle()),
            journal=journal,
            clock=self.clock,
            bus=bus,
        )

    async def look(self, *hints: Hint) -> list[str]:
        """What GitHub is asked because of some hints."""
        self.scope.asked.clear()
        for hint in hints:
            self.controller.nudge(hint)
        await self.clock.sleep(2)
        return sorted(self.scope.asked)

    def world(self) -> list[tuple[int, JobStatus]]:
        return [(each.id, each.status) for each in self.controller.world().jobs]


def play(tmp_path: Path, story: object, scope: CountedScope) -> None:
    async def main() -> None:
        with Journal.open(tmp_path / "journal", synchronous="OFF") as journal:
            bench = Bench(journal, scope)
            async with anyio.create_task_group() as group:
                group.start_soon(bench.controller.run)
                await story(bench, journal)  # type: ignore[operator]
                group.cancel_scope.cancel()

    anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})


def test_a_hint_at_a_run_costs_a_look_at_that_run_alone(tmp_path: Path) -> None:
    scope = CountedScope({1: job(1)})

    async def story(bench: Bench, journal: Journal) -> None:
        assert await bench.look(Hint("lab")) == ["lab/demo"]
        assert bench.world() == [(1, JobStatus.QUEUED)]
        scope.found = {1: job(1, JobStatus.IN_PROGRESS), 2: job(2)}
        assert await bench.look(Hint("lab", "lab/demo", 1)) == ["lab/demo 1"]
        assert bench.world() == [(1, JobStatus.IN_PROGRESS)]
        assert await bench.look(Hint("lab", "lab/demo", 2)) == ["lab/demo 2"]
        assert sorted(bench.world()) == [(1, JobStatus.IN_PROGRESS), (2, JobStatus.QUEUED)]
        scope.found = {}
        assert await bench.look(Hint("lab", "lab/demo", 2)) == ["lab/demo 2"]
        assert bench.world() == [(1, JobStatus.IN_PROGRESS)]

    play(tmp_path, story, scope)


def test_many_runs_of_a_repository_are_one_look_at_it(tmp_path: Path) -> None:
    scope = CountedScope({})

    async def story(bench: Bench, journal: Journal) -> None:
        await bench.look(Hint("lab"))
        few = [Hint("lab", "lab/demo", number) for number in range(1, MANY_RUNS + 1)]
        assert len(await bench.look(*few)) == MANY_RUNS
        assert await bench.look(*few, Hint("lab", "lab/demo", 99)) == ["lab/demo"]
        assert await bench.look(*few, Hint("lab", "lab/demo")) == ["lab/demo"]
        unknown = [Hint("lab", "lab/new", number) for number in range(1, MANY_RUNS + 2)]
        assert len(await bench.look(*unknown)) == MANY_RUNS + 1, "a repository that no listing has yet"

    play(tmp_path, story, scope)


def test_a_look_that_fails_leaves_what_was_told(tmp_path: Path) -> None:
    scope = CountedScope({1: job(1)})

    async def story(bench: Bench, journal: Journal) -> None:
        bench.observer.hear(Told(job(1), bench.clock.now()))
        scope.broken = True
        await bench.look(Hint("lab", "lab/demo", 1))
        assert bench.world() == [(1, JobStatus.QUEUED)]
        assert bench.observer.news.unsettled(bench.clock.now() + 100, 50) == [Hint("lab", "lab/demo", 1)]

    play(tmp_path, story, scope)


def test_who_took_a_told_job_is_known_even_once_it_is_over(tmp_path: Path) -> None:
    async def story(bench: Bench, journal: Journal) -> None:
        journal.intend(
            [RunnerRecord("sg-lab-p-1", "lab", "p", frozenset({"small"}), Handover.CLAIM, EPOCH)], {"sg-lab-p-1": None}
        )
        bench.observer.hear(Told(job(1, JobStatus.COMPLETED, "sg-lab-p-1"), bench.clock.now()))
        (runner,) = bench.controller.world().runners
        assert runner.taken_job == 1
        assert runner.record.busy_at is not None
        assert bench.world() == []
        await bench.clock.sleep(60)
        assert bench.controller.world().runners[0].taken_job is None

    play(tmp_path, story, CountedScope({}))


def test_a_repository_that_no_listing_has_yet_is_as_good(tmp_path: Path) -> None:
    async def story(bench: Bench, journal: Journal) -> None:
        bench.observer.hear(Told(job(1), bench.clock.now()))
        assert bench.world() == [(1, JobStatus.QUEUED)]
        bench.observer.hear(Told(job(1, JobStatus.COMPLETED), bench.clock.now()))
        assert bench.world() == []

    play(tmp_path, story, CountedScope({}))
