"""The launcher ``apptainer``, in real Slurm jobs: directories and SIF files, with and without Docker beside them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.containers.cases import DockerCases, log_of
from tests.containers.registry import TINY, push, registry, run
from tests.containers.site import Images, container_pool, container_scene, images_of
from tests.e2e.scene import Scene, job, workflow

from slurm_gha.testing.network import Network
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.runner_image import runner_archive

pytestmark = pytest.mark.engines

PREFIX = Path("/opt/slurm-gha-tools/apptainer")
INSTALL = Path(__file__).parents[2] / "tools/install_apptainer.sh"

ALONE = """
set -x
test "$(cat /proc/1/comm)" = appinit
test "$(ls -d /proc/[0-9]* | wc -l)" -lt 30
touch "$HOME/mine" /tmp/mine /var/tmp/mine
test "$(ls {node_dir} | wc -l)" = 1
test ! -e {catalogue}/names
test -z "$(env | grep JITCONFIG)"
test -n "$SLURM_JOB_ID"
grep -q bookworm /etc/os-release
"""
ROOT = """
test "$(id -u)" = 0
echo changed > /opt/new && echo changed >> /etc/os-release && chown 33:33 /opt/new
test "$(stat -c %u /opt/new)" = 33
dd if=/dev/zero of=/opt/large bs=1M count=100 status=none && test "$(stat -c %s /opt/large)" = 104857600
echo "changed the image"
"""


@pytest.fixture(scope="module", autouse=True)
def apptainer() -> str:
    """The directory of Apptainer's program; installed where it is lacking."""
    run(str(INSTALL))
    return str(PREFIX / "bin")


@pytest.fixture(scope="module")
def images(slurm: PrivateSlurm) -> Iterator[Images]:
    """A catalogue of the cluster's user with the image ``runner`` as a directory."""
    with images_of(slurm) as made:
        made.add("runner", runner_archive)
        made.publish("runner", "unpacked")
        yield made


@pytest.fixture(scope="module")
def sif(images: Images, slurm: PrivateSlurm, apptainer: str) -> Iterator[Path]:
    """The same as a SIF file."""
    with tempfile.TemporaryDirectory(prefix="sgsif-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        os.chown(directory, slurm.uid, slurm.gid)
        path = Path(directory) / "image.sif"
        ids = (f"--reuid={slurm.uid}", f"--regid={slurm.gid}", "--clear-groups")
        environment = (f"HOME={directory}", f"PATH={apptainer}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        quick = "-comp gzip -Xcompression-level 1 -no-duplicates"
        command = (
            "apptainer",
            "--quiet",
            "build",
            "--mksquashfs-args",
            quick,
            str(path),
            str(images.home_of("runner") / "unpacked"),
        )
        run("setpriv", *ids, "env", "-i", *environment, *command)
        yield path


@pytest.fixture(scope="module")
def foreign(images: Images) -> Iterator[Path]:
    """The same directory, of another owner: as one in CVMFS is."""
    made = Path(tempfile.mkdtemp(prefix="sgf-", dir="/tmp"))
    try:
        run("cp", "-a", "--no-preserve=ownership", f"{images.home_of('runner')}/unpacked/.", str(made))
        made.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(made)


@pytest.fixture(scope="class")
def stage(
    request: pytest.FixtureRequest,
    slurm: PrivateSlurm,
    network: Network,
    images: Images,
    apptainer: str,
) -> Iterator[Scene]:
    """The service with pools ``small`` and ``brief``; a class names the fixture that is its image."""
    keys = dict(request.cls.keys)
    if fixture := request.cls.image_fixture:
        keys["image"] = str(request.getfixturevalue(fixture))
    tables: dict[str, Any] = {
        "slurm": {"signal_before_end": request.cls.warning, "node_path": [apptainer]},
    }
    if request.cls.mirrored:
        tables["images.mirrors"] = {'"docker.io"': f"http://{request.getfixturevalue('mirror')}"}
    pools = [
        container_pool("apptainer", **keys),
        container_pool("apptainer", "brief", slurm={"time": request.cls.limit}, **keys),
    ]
    with container_scene(slurm, network, images, pools, tables) as made:
        yield made


@pytest.fixture(scope="module")
def mirror(network: Network, images: Images) -> Iterator[str]:
    """A registry that has the runner's image as one of docker.io's."""
    with tempfile.TemporaryDirectory() as directory, registry(network, Path(directory)) as host:
        push(images.home_of("runner") / "archive.tar", f"{host}/library/runner:1")
        yield host


class ApptainerCases:
    """``victims``: the names of a job's processes, each of which is killed in a job of its own."""

    keys: ClassVar[dict[str, Any]] = {}
    image_fixture: ClassVar[str] = ""
    mirrored: ClassVar[bool] = False
    image: ClassVar[str] = "runner:1"
    victims: ClassVar[tuple[str, ...]]
    replaced: ClassVar[tuple[str, ...]] = ()
    limit, warning = "1m", "50s"

    def busy(self) -> str:
        return "sleep 300"

    running = DockerCases.running
    test_nothing_is_left_however_a_job_ends = DockerCases.test_nothing_is_left_however_a_job_ends


class TestDirectory(ApptainerCases):
    """Of the catalogue, as the user that Slurm runs the job as."""

    victims = ("starter", "appinit", "run.sh", "python3", "Runner.Worker", "sleep")

    def test_jobs_see_their_own_files_and_processes_only(self, stage: Scene, images: Images) -> None:
        step = ALONE.format(node_dir=stage.node_dir, catalogue=images.catalogue)
        run = stage.push(workflow(a=job(step + "sleep 3"), b=job(step + "sleep 3")))
        assert stage.until_completed(run, 90) == {"a": "success", "b": "success"}, log_of(stage, run)
        (a, b) = stage.github.present_jobs(run)
        assert max(a.started_at or 0, b.started_at or 0) < min(a.completed_at or 0, b.completed_at or 0), "at once"


class TestSif(ApptainerCases):
    """Files that programs of the user mount: the image, and the writable layer."""

    image_fixture = "sif"
    keys: ClassVar[dict[str, Any]] = {"scratch": "400M", "fakeroot": True}
    victims = ("starter", "appinit", "squashfuse_ll", "fuse2fs", "fuse-overlayfs", "run.sh", "python3")

    def test_root_may_change_the_image(self, stage: Scene) -> None:
        run = stage.push(workflow(a=job(ROOT)))
        assert stage.until_completed(run, 90) == {"a": "success"}, log_of(stage, run)
        assert "changed the image" in log_of(stage, run)


class TestForeignDirectory(ApptainerCases):
    """A directory whose files belong to somebody whom the container's root does not stand for."""

    image_fixture = "foreign"
    keys: ClassVar[dict[str, Any]] = {"fakeroot": True}
    victims = ("starter", "fuse-overlayfs")

    def test_root_may_change_the_image(self, stage: Scene, foreign: Path) -> None:
        before = (foreign / "etc/os-release").read_bytes()
        run = stage.push(workflow(a=job(ROOT)))
        assert stage.until_completed(run, 90) == {"a": "success"}, log_of(stage, run)
        assert "changed the image" in log_of(stage, run)
        assert (foreign / "etc/os-release").read_bytes() == before


class TestRegistry(ApptainerCases):
    """An image that is in a registry only, and is made a directory of for each job."""

    mirrored = True
    keys: ClassVar[dict[str, Any]] = {"image": "docker://runner:1"}
    test_nothing_is_left_however_a_job_ends = None  # type: ignore[assignment]

    def test_a_job_runs_in_it(self, stage: Scene) -> None:
        run = stage.push(workflow(a=job("grep -q bookworm /etc/os-release && pwd")))
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)


class TestDocker(DockerCases):
    """With a rootless Docker daemon beside the container."""

    launcher = "apptainer"
    image_fixture: ClassVar[str] = ""
    mirrored: ClassVar[bool] = True
    keys: ClassVar[dict[str, Any]] = {"docker_in_job": True}
    victims = ("starter", "appinit", "rootlesskit", "slirp4netns", "dockerd", "containerd", "run.sh", "python3")
    replaced = ("containerd",)
    limit, warning = "2m", "80s"  # a dozen daemons start at once

    def busy(self) -> str:
        return f"{TINY}docker run -d tiny:1 sh -c 'trap \"\" TERM; sleep 300'; sleep 300"
