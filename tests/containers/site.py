"""A scene whose runners are containers, and what may be left of them: more than files and processes of a directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.scene import Scene, scene

from slurm_gha.slurm.script import NodeSite
from slurm_gha.slurm.tools import stores_script
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.processes import inhabitants
from slurm_gha.testing.stage import StagePool

# GitHub's own patience with a runner that is gone without a word is minutes; these tests have seconds.
IMPATIENT = Behaviour(lease=20, session_timeout=10)


def container_pool(launcher: str, name: str = "small", **keys: Any) -> StagePool:
    """A pool of that launcher, with the runner that the image has."""
    slurm = {"mem": "400M", **keys.pop("slurm", {})}
    given = {"launcher": launcher, "image": "runner", "runner_dir": None, "max_runners": 20, **keys}
    return StagePool(name, ("self-hosted", name), slurm=slurm, keys=given)


@dataclass(frozen=True)
class Images:
    """A catalogue that the cluster's user keeps with ``slurm-gha image``, and the stores that root mounts."""

    slurm: PrivateSlurm
    home: Path

    @property
    def catalogue(self) -> Path:
        return self.home / "catalogue"

    @property
    def stores(self) -> Path:
        return self.home / "stores"

    def image(self, verb: str, *words: str) -> str:
        """One verb of ``slurm-gha image``."""
        argv = [sys.executable, "-m", "slurm_gha", "image", verb, "--dir", str(self.catalogue), *words]
        done = subprocess.run(
            self.slurm.as_user(argv), env=self.slurm.env, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add(self, name: str, make: Callable[[Path], str]) -> None:
        archive = self.home / f"{name}.tar"
        make(archive)
        archive.chmod(0o644)
        self.image("import", str(archive), "--name", name)
        archive.unlink()

    def publish(self, name: str, form: str, *words: str) -> None:
        self.image("publish", name, "--to", form, *words)

    def home_of(self, name: str) -> Path:
        """The image's directory in the catalogue."""
        return (self.catalogue / "names" / name).resolve(strict=True)

    def mount_stores(self) -> None:
        site = NodeSite(images_dir=str(self.catalogue), stores_dir=str(self.stores))
        subprocess.run(["/bin/bash", "-p", "-s"], input=stores_script("/tmp", site), text=True, check=True)


@contextmanager
def images_of(slurm: PrivateSlurm) -> Iterator[Images]:
    """An empty catalogue; at the end everything is unmounted and removed."""
    home = Path(tempfile.mkdtemp(prefix="sgc-", dir="/tmp"))
    made = Images(slurm, home)
    try:
        home.chmod(0o755)
        made.stores.mkdir(mode=0o755)
        made.catalogue.mkdir(mode=0o755)
        os.chown(made.catalogue, slurm.uid, slurm.gid)
        yield made
    finally:
        for mount in made.stores.glob("*"):
            subprocess.run(["umount", str(mount)], check=False)
        shutil.rmtree(home)


@contextmanager
def container_scene(
    slurm: PrivateSlurm,
    network: Network,
    images: Images,
    pools: Sequence[StagePool],
    tables: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Scene]:
    """The service with these pools; at its end nothing of any job may be left, mounts and namespaces included."""
    places = {"dir": str(images.catalogue), "stores_dir": str(images.stores)}
    overrides = {"images": places, **(tables or {})}
    with (
        network.listen() as listening,
        scene(slurm, pools=pools, overrides=overrides, behaviour=IMPATIENT, listening=listening) as stage,
    ):
        yield stage
        stage.ends_clean(60)
        assert inhabitants(str(stage.node_dir)) == {}, "no process lives on in a namespace of a job"


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
            texts += f" {os.readlink(entry / 'exe')}"
            mine = any(mark in texts for mark in marks) or all(mark in texts for mark in variables)
            if mine:
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
    return found
