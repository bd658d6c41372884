"""What the observer makes of odd answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import anyio

from slurm_gha.controller.observation import Observer
from slurm_gha.domain.clock import SystemClock
from slurm_gha.domain.job import Job
from slurm_gha.domain.runner import Registration
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.github.values import Minted, Newest
from slurm_gha.observe.events import Bus, Event, GitHubReadable
from slurm_gha.store.journal import Journal


class EmptyScope:
    """An organisation that has no repository yet."""

    async def repositories(self) -> tuple[str, ...]:
        return ()

    async def jobs(self, repository: str) -> tuple[Job, ...]:
        raise AssertionError(repository)

    async def newest(self, repository: str) -> Newest:
        raise AssertionError(repository)

    def requests(self, repository: str) -> tuple[int, int]:
        raise AssertionError(repository)

    async def pushes(self) -> Mapping[str, str]:
        return {}

    def pace(self, demand: float) -> float:
        return 5.0

    async def run(self, repository: str, run_id: int) -> tuple[Job, ...]:
        raise AssertionError(repository)

    async def runners(self) -> tuple[Registration, ...]:
        return ()

    async def mint(self, name: str, labels: Sequence[str], runner_group_id: int) -> Minted:
        raise AssertionError(name)

    async def remove(self, registration_id: int) -> None:
        raise AssertionError(registration_id)


class EmptyCluster:
    async def submit(self, submission: Submission) -> int:
        raise AssertionError(submission)

    async def list_jobs(self) -> tuple[SlurmJob, ...]:
        return ()

    async def look_up(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        return {}

    async def cancel(self, ids: Sequence[int]) -> None:
        raise AssertionError(ids)


def test_a_scope_without_repositories_counts_as_read(tmp_path: Path) -> None:
    heard: list[Event] = []
    bus = Bus()
    bus.subscribe(heard.append)
    with Journal.open(tmp_path / "journal") as journal:
        observer = Observer(
            installation="lab",
            scopes={"new": EmptyScope()},
            cluster=EmptyCluster(),
            journal=journal,
            clock=SystemClock(),
            bus=bus,
        )

        async def look() -> None:
            assert not observer.world(surplus_since={}, last_tried={}, draining=False).scopes["new"].jobs_readable
            await observer.look_at_runners("new")
            await observer.look_at_jobs("new")

        anyio.run(look)
        view = observer.world(surplus_since={}, last_tried={}, draining=False).scopes["new"]
    assert view.jobs_readable
    assert view.runners_readable
    assert [type(event) for event in heard] == [GitHubReadable]
