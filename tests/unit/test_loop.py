"""When the loop looks, under a virtual clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import trio.testing

from slurm_gha.controller.acting import Actor
from slurm_gha.controller.loop import Cadence, Controller
from slurm_gha.controller.observation import Observer
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.pool import Handover, Policy
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.observe.events import Bus
from slurm_gha.store.journal import Journal

EPOCH = 1_800_000_000.0


class ListedCluster:
    """An empty cluster that notes when it was listed, in seconds since the test began."""

    def __init__(self) -> None:
        self.listed: list[float] = []

    async def submit(self, submission: Submission) -> int:
        raise AssertionError(submission)

    async def list_jobs(self) -> tuple[SlurmJob, ...]:
        self.listed.append(round(anyio.current_time() - self.began, 3))
        return ()

    async def look_up(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        return {}

    async def cancel(self, ids: Sequence[int]) -> None:
        raise AssertionError(ids)

    began = 0.0


def test_the_first_runner_ends_the_slow_listing_of_idle_times(tmp_path: Path) -> None:
    cluster = ListedCluster()

    async def play() -> None:
        clock, bus = EventLoopClock(EPOCH), Bus()
        cluster.began = anyio.current_time()
        with Journal.open(tmp_path / "journal", synchronous="OFF") as journal:
            observer = Observer(installation="lab", scopes={}, cluster=cluster, journal=journal, clock=clock, bus=bus)
            controller = Controller(
                policy=lambda: Policy("lab", ()),
                observer=observer,
                actor=cast(Actor, Idle()),
                journal=journal,
                clock=clock,
                bus=bus,
                cadence=Cadence(slurm=5.0, slurm_idle=30.0),
            )
            async with anyio.create_task_group() as group:
                group.start_soon(controller.run)
                await anyio.sleep(32)
                at = clock.now()
                journal.intend(
                    [RunnerRecord("sg-lab-p-1", "s", "p", frozenset({"p"}), Handover.CLAIM, at)], {"sg-lab-p-1": None}
                )
                await anyio.sleep(15)
                group.cancel_scope.cancel()

    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(play, backend="trio", backend_options={"clock": clock})
    assert cluster.listed == [0, 30, 35, 40, 45]


class Idle(SimpleNamespace):
    """Carries nothing out: what is decided does not matter here."""

    last_tried: Mapping[str, float] = {}

    def recovered(self, pool: str, kind: object) -> None: ...

    async def act(self, *decided: Any) -> None: ...
