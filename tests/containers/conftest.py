"""What the launchers' tests stand on: a real cluster, a catalogue of images, a network that containers reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.site import Images, container_pool, container_scene, images_of
from tests.e2e.scene import Scene

from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.rootless import prepare_machine
from slurm_gha.testing.runner_image import runner_archive


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def slurm() -> Iterator[PrivateSlurm]:
    """Two nodes with room for many small jobs, of a user who may run rootless engines."""
    with PrivateSlurm(nodes=2, cpus=16, gpus={"A100": 2}, message_timeout=2) as cluster:
        prepare_machine(cluster.user)
        yield cluster


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture(scope="module")
def images(slurm: PrivateSlurm) -> Iterator[Images]:
    """A catalogue of the cluster's user with the image ``runner``, whose store is mounted."""
    with images_of(slurm) as made:
        made.add("runner", runner_archive)
        made.publish("runner", "store")
        made.mount_stores()
        yield made


@pytest.fixture(scope="class")
def stage(request: pytest.FixtureRequest, slurm: PrivateSlurm, network: Network, images: Images) -> Iterator[Scene]:
    """The service with pools ``small`` and ``brief`` (two minutes) of the class's launcher."""
    launcher, keys = request.cls.launcher, request.cls.keys
    pools = [
        container_pool(launcher, dynamic={"gpus": ["A100:2"]}, **keys),
        container_pool(launcher, "brief", slurm={"time": "2m"}, **keys),
    ]
    with container_scene(slurm, network, images, pools, {"slurm": {"signal_before_end": "50s"}}) as made:
        yield made
