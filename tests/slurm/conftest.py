"""Real clusters, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slurm_gha.testing.private_slurm import PrivateSlurm


@pytest.fixture(scope="module")
def private_slurm() -> Iterator[PrivateSlurm]:
    """Two nodes of four CPUs, no accounting database."""
    with PrivateSlurm(nodes=2, cpus=4, message_timeout=2) as slurm:
        yield slurm


@pytest.fixture(scope="module")
def accounted_slurm() -> Iterator[PrivateSlurm]:
    """Two nodes of four CPUs with slurmdbd; slurmctld forgets ended jobs after 2 s."""
    with PrivateSlurm(nodes=2, cpus=4, accounting=True, min_job_age=2) as slurm:
        yield slurm
