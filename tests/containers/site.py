"""A scene whose runners are containers, and what may be left of them: more than files and processes of a directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.scene import Scene, scene

from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import StagePool

# GitHub's own patience with a runner that is gone without a word is minutes; these tests have seconds.
IMPATIENT = Behaviour(lease=8, session_timeout=4)


def container_pool(launcher: str, name: str = "small", **keys: Any) -> StagePool:
    """A pool of that launcher, with the runner that the image has."""
    slurm = {"mem": "400M", **keys.pop("slurm", {})}
    given = {"launcher": launcher, "image": "runner", "runner_dir": None, "max_runners": 20, **keys}
    return StagePool(name, ("self-hosted", name), slurm=slurm, keys=given)


@contextmanager
def container_scene(
    slurm: PrivateSlurm,
    network: Network,
    catalogue: Path,
    pools: Sequence[StagePool],
    tables: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Scene]:
    """The service with these pools; at its end nothing of any job may be left, mounts and namespaces included."""
    overrides = {"images": {"dir": str(catalogue)}, **(tables or {})}
    with (
        network.listen() as listening,
        scene(slurm, pools=pools, overrides=overrides, behaviour=IMPATIENT, listening=listening) as stage,
    ):
        yield stage
        stage.ends_clean(60)
        assert inhabitants(str(stage.node_dir)) == {}, "no process lives on in a namespace of a job"


def inhabitants(directory: str) -> dict[int, str]:
    """Processes that have something mounted from or in ``directory``: those of containers, whatever their names."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f" {directory}" in (entry / "mountinfo").read_text():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def processes_of_job(stage: Scene, slurm_id: str) -> dict[int, str]:
    """Every process of the Slurm job, by id, with the name of its command: by its directory, mounts or environment."""
    marks = [f"{stage.node_dir}/sg-{slurm_id}{end}" for end in ("/", " ", "\0")]
    variables = [f"SLURM_JOB_ID={slurm_id}\0", f"SLURM_CLUSTER_NAME={stage.slurm.cluster_name}\0"]
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            texts = "".join((entry / name).read_text() for name in ("mountinfo", "environ", "cmdline"))
            mine = any(mark in texts for mark in marks) or all(mark in texts for mark in variables)
            if mine:
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
    return found
