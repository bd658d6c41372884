"""The launcher ``stargz``, in real Slurm jobs: a job's own Docker, with images read as needed."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.containers.cases import USES_DOCKER, DockerCases, log_of
from tests.containers.registry import TINY, registry, run
from tests.containers.site import Images, container_pool, container_scene, images_of
from tests.e2e.scene import Scene, job, workflow

from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.runner_image import runner_archive

pytestmark = pytest.mark.engines

PREFIX = Path("/opt/slurm-gha-tools/stargz")
INSTALL = Path(__file__).parents[2] / "tools/install_stargz.sh"
_CONTAINERD = """version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{directory}/sock"
"""


@pytest.fixture(scope="module", autouse=True)
def programs() -> str:
    """The directory of the programs; installed where they are lacking."""
    run(str(INSTALL), seconds=900)
    return str(PREFIX / "bin")


@contextmanager
def containerd(programs: str) -> Iterator[tuple[str, ...]]:
    """A containerd that converts images, run by root; the arguments that clients find it by."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        configuration = Path(directory) / "config.toml"
        configuration.write_text(_CONTAINERD.format(directory=directory))
        with (Path(directory) / "log").open("wb") as log:
            argv = [f"{programs}/containerd", "--config", str(configuration)]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while not os.path.exists(f"{directory}/sock"):
                assert process.poll() is None, (Path(directory) / "log").read_text()
                assert time.monotonic() < deadline, "containerd does not answer"
                time.sleep(0.05)
            yield ("--address", f"{directory}/sock")
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="module")
def images(slurm: PrivateSlurm) -> Iterator[Images]:
    """A catalogue of the cluster's user with the image ``runner``."""
    with images_of(slurm) as made:
        made.add("runner", runner_archive)
        yield made


@pytest.fixture(scope="module")
def published(network: Network, images: Images, programs: str) -> Iterator[str]:
    """A registry that has the catalogue's image in the lazy format, under its own name."""
    home = images.home_of("runner")
    with tempfile.TemporaryDirectory() as directory, registry(network, Path(directory)) as host:
        reference = f"{host}/runner:1"
        with containerd(programs) as address:
            run(f"{programs}/ctr", *address, "images", "import", "--no-unpack", str(home / "archive.tar"))
            (name,) = run(f"{programs}/ctr", *address, "images", "ls", "-q").stdout.split()
            convert = (f"{programs}/ctr-remote", *address, "images", "convert", "--estargz", "--oci")
            # The quickest level: what is compressed here is read once or twice.
            run(*convert, "--estargz-compression-level", "1", name, reference)
            run(f"{programs}/ctr", *address, "images", "push", "--plain-http", reference)
        (home / "estargz.env").write_text(f"PULL={reference}\n")
        (home / "estargz.env").chmod(0o644)
        yield host


@pytest.fixture(scope="class")
def stage(
    request: pytest.FixtureRequest,
    slurm: PrivateSlurm,
    network: Network,
    images: Images,
    published: str,
    programs: str,
) -> Iterator[Scene]:
    """The service with pools ``small`` and ``brief`` (two minutes)."""
    tables: dict[str, Any] = {
        "slurm": {"signal_before_end": "50s", "node_path": [programs]},
        "images.mirrors": {f'"{published}"': f"http://{published}"},
    }
    request.cls.image = f"{published}/runner:1"
    keys = {**({"image": request.cls.image} if request.cls.by_reference else {}), **request.cls.keys}
    pools = [container_pool("stargz", **keys), container_pool("stargz", "brief", slurm={"time": "2m"}, **keys)]
    with container_scene(slurm, network, images, pools, tables) as made:
        yield made


class TestStargz(DockerCases):
    launcher = "stargz"
    by_reference: ClassVar[bool] = False
    # What it has beyond launcher docker, whose tests kill the rest.
    victims = ("rootlesskit", "dockerd", "containerd", "containerd-star", "containerd-shim", "run.sh")

    def busy(self) -> str:
        return f"{TINY}docker run -d tiny:1 sh -c 'trap \"\" TERM; sleep 300'; sleep 300"

    def test_steps_use_docker(self, stage: Scene) -> None:
        """Built on a small image: what a build adds is found by comparing all files, which reads a lazy image whole."""
        run = stage.push(
            workflow(a=job(TINY + USES_DOCKER.replace("FROM {image}", "FROM tiny:1").format(image=self.image)))
        )
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)

    def test_files_come_when_they_are_read(self, stage: Scene) -> None:
        """The image's files are served by a program of the job, and not unpacked."""
        one = stage.push(workflow(a=job("sleep 300")))
        stage.until_running(one, "a", 90)
        stage.until(lambda: lazy_mounts(stage) != [], 60, "layers are mounted by FUSE")
        stage.github.cancel_run("lab/demo", one.id)
        assert stage.until_completed(one, 60) == {"a": "cancelled"}, log_of(stage, one)


def lazy_mounts(stage: Scene) -> list[str]:
    """What FUSE file systems are mounted in namespaces of the stage's jobs."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            lines = (entry / "mountinfo").read_text().splitlines()
        except OSError:
            continue
        found += [line for line in lines if str(stage.node_dir) in line and " fuse" in line and "stargz" in line]
    return found


class TestSoci:
    """A registry without an index, as here, gives the image whole."""

    image: ClassVar[str] = ""
    by_reference: ClassVar[bool] = True
    keys: ClassVar[dict[str, Any]] = {"snapshotter": "soci"}

    def test_a_job_runs_and_has_docker(self, stage: Scene) -> None:
        run = stage.push(workflow(a=job("test $(docker info --format '{{.Driver}}') = soci")))
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
