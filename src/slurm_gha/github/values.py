"""Values that GitHub answers with, beyond the domain's."""

from __future__ import annotations

from dataclasses import dataclass

from slurm_gha.domain.job import Job
from slurm_gha.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Minted:
    """A just-in-time runner: its registration's id, and the configuration that only its node may see."""

    registration_id: int
    config: Secret


@dataclass(frozen=True, slots=True)
class Newest:
    """The jobs of a repository's newest runs. ``complete``: these are all of its queued and running jobs."""

    jobs: tuple[Job, ...]
    complete: bool
