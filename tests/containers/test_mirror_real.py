"""A pull-through cache by docker-registry, and jobs' daemons that pull through it, past it, and without it."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.containers.epilog_site import Site, open_site, until
from tests.containers.registry import PORT, push, registry, run

from slurm_gha.domain.pool import Container, Handover, Launcher
from slurm_gha.slurm.script import NodeSite, ScriptValues, head, part, parts
from slurm_gha.testing.docker_archive import write_archive
from slurm_gha.testing.network import Network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="the registries are in a network of their own"),
]

MIRROR_PORT = 5001
# As main does, up to the claim; then what the engine has.
JOB = """
trap 'code=$?; trap - EXIT; set +e; launcher_stop; end_leftovers; remove_tree "$SG_JOB_DIR"; exit "$code"' EXIT
prepare_environment
make_job_dir
launcher_prepare
await_image
"${SG_CLIENT[@]}" image inspect --format '{{.Id}}' "$SG_IMAGE_READY"
"""


class Registries:
    """An upstream and a cache of it, and a node whose jobs pull."""

    def __init__(self, network: Network, directory: Path, upstream: str, site: Site) -> None:
        self.network, self.directory, self.upstream, self.site = network, directory, upstream, site
        self.mirror_host = f"{network.address}:{MIRROR_PORT}"
        self.url = f"http://{self.mirror_host}"
        self.storage = directory / "mirror-storage"
        self.file = directory / "mirror.yml"
        self.process: subprocess.Popen[bytes] | None = None
        layer = directory / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            member = tarfile.TarInfo("file")
            member.size = 100_000
            tar.addfile(member, io.BytesIO(random.randbytes(100_000)))
        archive = directory / "image.tar"
        self.digest = write_archive(archive, [layer], "image:1")
        for name in ("owner/image:1", "library/slurm-gha-test:1"):
            push(archive, f"{upstream}/{name}")

    def manifest(self) -> str:
        """The digest by which the registry knows the image."""
        done = run("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", self.reference)
        return done.stdout.strip()

    @property
    def reference(self) -> str:
        return f"docker://{self.upstream}/owner/image:1"

    def start_mirror(self) -> None:
        """As an administrator does."""
        command = [sys.executable, "-m", "slurm_gha", "image", "mirror"]
        options = ("--storage", str(self.storage), "--listen", self.mirror_host)
        run(*command, "write", f"http://{self.upstream}", str(self.file), *options)
        with (self.directory / "mirror.log").open("ab") as log:
            argv = self.network.inside([*command, "serve", str(self.file)])
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: run("curl", "-sf", f"{self.url}/v2/", check=False).returncode == 0)

    def stop_mirror(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def cached(self) -> bool:
        return any(self.storage.glob("docker/registry/v2/blobs/sha256/*/*/data"))

    def job(self, image: str, *, mirrored: str | None = None) -> tuple[int, str, str]:
        """A job's exit status, the id of the image that it got, and its output."""
        # The upstream too speaks HTTP, which the daemon has to be told.
        mirrors = ((mirrored or self.upstream, self.url), ("none.example", f"http://{self.upstream}"))
        values = ScriptValues(
            name="sg-test",
            handover=Handover.STDIN,
            runner_dir="",
            node_dir=str(self.site.directory),
            launcher=Launcher.DOCKER,
            container=Container(image=image),
            site=NodeSite(mirrors=mirrors),
        )
        text = "\n".join([head(values), *(part(name) for name in parts(Launcher.DOCKER)[:-1]), JOB])
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        os.chown(home, self.site.user.pw_uid, self.site.user.pw_gid)
        done = subprocess.run(
            self.site.step_down("bash", "-p", "-c", text),
            env={**self.site.environment(random.randrange(10**6, 10**7)), "HOME": str(home)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout.strip(), done.stderr


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[Registries]:
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    with Network() as network, registry(network, tmp_path) as upstream, open_site() as site:
        made = Registries(network, tmp_path, upstream, site)
        made.start_mirror()
        try:
            yield made
        finally:
            made.stop_mirror()
        assert list(site.directory.iterdir()) == []


def test_images_come_through_the_mirror_and_without_it(registries: Registries) -> None:
    image, expected = f"{registries.upstream}/owner/image:1", f"sha256:{registries.digest}"
    assert not registries.cached()
    code, got, said = registries.job(image)
    assert (code, got) == (0, expected), said
    assert registries.cached()
    assert "pulling from" not in said

    os.kill(registries.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
    code, got, said = registries.job(image)
    assert (code, got) == (0, expected), said
    itself = f"pulling from {registries.upstream} itself"
    assert f"the mirror {registries.url} of {registries.upstream} does not answer within 3 s; {itself}" in said

    registries.stop_mirror()
    code, got, said = registries.job(image)
    assert (code, got) == (0, expected), said
    assert itself in said


def test_a_digest_comes_through_the_mirror_too(registries: Registries) -> None:
    digest = registries.manifest()
    code, got, said = registries.job(f"{registries.upstream}/owner/image@{digest}")
    assert (code, got) == (0, f"sha256:{registries.digest}"), said
    assert registries.cached()
    code, got, said = registries.job(f"slurm-gha-test@{digest}", mirrored="docker.io")
    assert (code, got) == (0, f"sha256:{registries.digest}"), said


def test_the_daemon_gets_images_of_docker_io_through_the_mirror(registries: Registries) -> None:
    code, got, said = registries.job("slurm-gha-test:1", mirrored="docker.io")
    assert (code, got) == (0, f"sha256:{registries.digest}"), said
    assert registries.cached()


def test_what_the_mirror_lacks_comes_from_the_registry(registries: Registries) -> None:
    """A cache of something else: it answers, and has not heard of the image."""
    registries.stop_mirror()
    empty = registries.directory / "empty.yml"
    empty.write_text(registries.file.read_text().partition("proxy:\n")[0])
    argv = registries.network.inside(["docker-registry", "serve", str(empty)])
    with (registries.directory / "empty.log").open("wb") as log:
        registries.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    until(lambda: run("curl", "-sf", f"{registries.url}/v2/", check=False).returncode == 0)
    code, got, said = registries.job(f"{registries.upstream}/owner/image:1")
    assert (code, got) == (0, f"sha256:{registries.digest}"), said
    assert "does not have owner/image:1; pulling from" in said


def test_a_warm_mirror_lasts_while_its_upstream_is_away(registries: Registries) -> None:
    image, expected = f"{registries.upstream}/owner/image:1", f"sha256:{registries.digest}"
    assert registries.job(image)[:2] == (0, expected)
    listening = run(*registries.network.inside(["ss", "-Hltnp", f"sport = :{PORT}"])).stdout
    upstream = int(listening.partition("pid=")[2].partition(",")[0])
    os.kill(upstream, signal.SIGKILL)
    code, got, said = registries.job(image)
    assert (code, got) == (0, expected), said
    assert "pulling from" not in said
