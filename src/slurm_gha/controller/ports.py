"""What the controller needs of the outside world, and the errors it understands.

The real edges and the simulated ones both fit these protocols; the same contract tests hold them to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from slurm_gha.domain.job import Job
from slurm_gha.domain.runner import Registration
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.github.values import Minted, Newest


class Cluster(Protocol):
    """Slurm. Every method raises :class:`slurm_gha.slurm.errors.SlurmUnreachable` when no answer could be had."""

    async def submit(self, submission: Submission) -> int:
        """Submit one job and give its id; raises SubmissionRefused with Slurm's own words."""
        ...

    async def list_jobs(self) -> tuple[SlurmJob, ...]:
        """Every job of this installation that Slurm still lists, ended ones too: one command, however many."""
        ...

    async def look_up(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        """The last known state of jobs that the listing no longer shows.

        A job that Slurm does not know at all has state ``GONE``; one whose state could not be learnt is left out.
        """
        ...

    async def cancel(self, ids: Sequence[int]) -> None:
        """Cancel jobs; one that has ended already is no error."""
        ...


class ScaleSetRunners(Protocol):
    """The runners of one scope's scale sets. Methods raise :class:`slurm_gha.github.errors.GitHubError` subclasses."""

    async def mint(self, scale_set_id: int, name: str) -> Minted:
        """A JIT configuration; raises NameTaken when a runner of that name is registered."""
        ...

    async def find_runner(self, name: str) -> int | None:
        """The registration's id of the runner of that name, if it is registered."""
        ...

    async def remove_runner(self, runner_id: int) -> None:
        """Deregister; raises RunnerBusy while it has a job; one that is gone already is no error."""
        ...


class GitHubScope(Protocol):
    """One scope of GitHub. Methods raise :class:`slurm_gha.github.errors.GitHubError` subclasses."""

    async def repositories(self) -> tuple[str, ...]:
        """The repositories to look at, as ``owner/name``."""
        ...

    async def jobs(self, repository: str) -> tuple[Job, ...]:
        """The jobs of the repository's unfinished runs that are queued or in progress."""
        ...

    async def newest(self, repository: str) -> Newest:
        """The jobs of the repository's newest runs, which is cheaper; the answer tells whether these are all."""
        ...

    def requests(self, repository: str) -> tuple[int, int]:
        """How many requests ``newest`` and ``jobs`` of the repository probably take."""
        ...

    async def pushes(self) -> Mapping[str, str]:
        """The repositories pushed to last, each with a word for when; empty where there is no such list."""
        ...

    def pace(self, demand: float) -> float:
        """Requests a second that looking for jobs may take; ``demand`` (the same unit) is what would be used."""
        ...

    async def run(self, repository: str, run_id: int) -> tuple[Job, ...]:
        """The queued and in-progress jobs of one run, with their origin; none where the run is gone."""
        ...

    async def runners(self) -> tuple[Registration, ...]:
        """All registered runners of the scope."""
        ...

    async def mint(self, name: str, labels: Sequence[str], runner_group_id: int) -> Minted:
        """A JIT configuration; raises NameTaken when a runner of that name is registered."""
        ...

    async def remove(self, registration_id: int) -> None:
        """Deregister; raises RunnerBusy while it has a job; one that is gone already is no error."""
        ...
