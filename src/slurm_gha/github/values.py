"""Values that GitHub answers with, beyond the domain's."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Installed:
    """A GitHub App's installation on an account. ``permissions`` are granted levels by GitHub's names for them."""

    number: int
    account: str
    permissions: Mapping[str, str]
    every_repository: bool
    suspended: bool
    url: str
