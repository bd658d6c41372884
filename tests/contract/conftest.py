"""A stratum 0 by the stand-in for cvmfs_server, with one repository."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cvmfs_bench import NAME, settings_for

from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.testing.cvmfs_server.directory import Stage, build
from slurm_gha.testing.cvmfs_server.repository import Repository


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = build(tmp_path / "stratum0")
    made.create(NAME)
    return made


@pytest.fixture
def settings(stage: Stage) -> CvmfsSettings:
    return settings_for(stage)


@pytest.fixture
def repository(stage: Stage) -> Repository:
    return stage.repository(NAME)
