"""What the launchers' tests stand on: a real cluster, a catalogue of images, a network that containers reach."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.site import container_pool, container_scene
from tests.e2e.scene import Scene

from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.rootless import prepare_machine
from slurm_gha.testing.runner_image import add_to_catalogue, runner_archive


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def slurm() -> Iterator[PrivateSlurm]:
    """Two nodes with room for many small jobs, of a user who may run rootless engines."""
    with PrivateSlurm(nodes=2, cpus=16, message_timeout=2) as cluster:
        prepare_machine(cluster.user)
        yield cluster


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def catalogue(slurm: PrivateSlurm) -> Iterator[Path]:
    """A catalogue with the image ``runner``, which the cluster's user owns."""
    path = Path(tempfile.mkdtemp(prefix="sgc-", dir="/tmp"))
    try:
        add_to_catalogue(path, "runner", runner_archive)
        path.chmod(0o755)
        for entry in (path, *path.rglob("*")):
            os.chown(entry, slurm.uid, slurm.gid, follow_symlinks=False)
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(scope="class")
def stage(request: pytest.FixtureRequest, slurm: PrivateSlurm, network: Network, catalogue: Path) -> Iterator[Scene]:
    """The service with pools ``small`` and ``brief`` (one minute) of the class's launcher."""
    launcher, keys = request.cls.launcher, request.cls.keys
    pools = [container_pool(launcher, **keys), container_pool(launcher, "brief", slurm={"time": "1m"}, **keys)]
    with container_scene(slurm, network, catalogue, pools, {"slurm": {"signal_before_end": "50s"}}) as made:
        yield made
