"""Real clusters, shared by the tests of a module. Everything here is slow, and needs a real Slurm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.scene import Sources

from slurm_gha.testing.private_slurm import PrivateSlurm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="module")
def slurm() -> Iterator[PrivateSlurm]:
    """Two nodes of four CPUs, no accounting database."""
    with PrivateSlurm(nodes=2, cpus=4, message_timeout=2) as cluster:
        yield cluster


WAYS = (("poll",), ("webhook",), ("scaleset",), ("poll", "webhook", "scaleset"))


@pytest.fixture(params=WAYS, ids="+".join)
def sources(request: pytest.FixtureRequest) -> Sources:
    """Every way in which GitHub tells of work, and all at once."""
    return tuple(request.param)
