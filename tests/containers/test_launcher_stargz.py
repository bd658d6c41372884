"""The launcher ``stargz``, in real Slurm jobs: a job's own Docker, with images read as needed."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.containers.cases import DockerCases, log_of
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
    """The service with pools ``small`` and ``brief`` (two minutes, of which starting may take one)."""
    tables: dict[str, Any] = {
        "slurm": {"signal_before_end": "40s", "node_path": [programs]},
        "images.mirrors": {f'"{published}"': f"http://{published}"},
    }
    request.cls.image = f"{published}/runner:1"
    pools = [container_pool("stargz"), container_pool("stargz", "brief", slurm={"time": "2m"})]
    with container_scene(slurm, network, images, pools, tables) as made:
        yield made


class TestStargz(DockerCases):
    launcher = "stargz"
    # What it has beyond launcher docker, whose tests kill the rest.
    victims = ("dockerd", "containerd", "containerd-star", "containerd-shim")

    def busy(self) -> str:
        return f"{TINY}docker run -d tiny:1 sh -c 'trap \"\" TERM; sleep 300'; sleep 300"

    def test_files_come_when_they_are_read(self, stage: Scene) -> None:
        """The image's files are served by a program of the job, and not unpacked."""
        one = stage.push(workflow(a=job("sleep 300")))
        stage.until_running(one, "a", 90)
        stage.until(lambda: lazy_mounts(stage, "stargz") != [], 60, "layers are mounted by FUSE")
        stage.github.cancel_run("lab/demo", one.id)
        assert stage.until_completed(one, 60) == {"a": "cancelled"}, log_of(stage, one)


def lazy_mounts(stage: Scene, name: str) -> list[str]:
    """What FUSE file systems of that name are mounted in namespaces of the stage's jobs."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            lines = (entry / "mountinfo").read_text().splitlines()
        except OSError:
            continue
        found += [line for line in lines if str(stage.node_dir) in line and " fuse" in line and name in line]
    return found


@pytest.fixture(scope="module")
def indexed(network: Network, images: Images, programs: str) -> Iterator[tuple[str, str]]:
    """An image with an index beside it, in a registry of a site with certificates of its own, and a directory of
    programs that trust these."""
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as directory,
        registry(network, Path(directory), port=5443, secure=True) as host,
        containerd(programs) as address,
    ):
        Path(directory).chmod(0o755)
        reference = f"{host}/runner:1"
        archive = str(images.home_of("runner") / "archive.tar")
        run(f"{programs}/ctr", *address, "images", "import", "--no-unpack", archive)
        (name,) = run(f"{programs}/ctr", *address, "images", "ls", "-q").stdout.split()
        run(f"{programs}/ctr", *address, "images", "convert", "--oci", name, reference)
        run(f"{programs}/ctr", *address, "images", "push", "--skip-verify", reference)
        # It keeps what it makes below a directory of the system's: in a mount namespace, that is another one.
        own = 'mkdir "$1/own" && mount --bind "$1/own" /var/lib && "${@:2}" create "$0" && "${@:2}" push -k "$0"'
        trusted = f"SSL_CERT_FILE={directory}/ca.crt"
        run("env", trusted, "unshare", "--mount", "bash", "-c", own, reference, directory, f"{programs}/soci", *address)
        trusting = Path(directory) / "bin"
        trusting.mkdir(mode=0o755)
        for program in ("dockerd", "soci-snapshotter-grpc"):
            words = f'#!/bin/sh\n{trusted} exec {programs}/{program} "$@"\n'
            (trusting / program).write_text(words)
            (trusting / program).chmod(0o755)
        yield reference, str(trusting)


class TestSoci:
    """Of an image as it is; its index has to be in a registry that speaks HTTPS."""

    @pytest.fixture(scope="class")
    def stage(
        self, slurm: PrivateSlurm, network: Network, images: Images, indexed: tuple[str, str], programs: str
    ) -> Iterator[Scene]:
        reference, trusting = indexed
        pools = [container_pool("stargz", image=reference, snapshotter="soci")]
        tables = {"slurm": {"node_path": [trusting, programs]}}
        with container_scene(slurm, network, images, pools, tables) as made:
            yield made

    def test_a_job_runs_and_has_docker(self, stage: Scene) -> None:
        """Whether files are read lazily is the snapshotter's choice; the job runs in either case."""
        run = stage.push(workflow(a=job("test $(docker info --format '{{.Driver}}') = soci")))
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
