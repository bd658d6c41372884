"""What the demo's Docker jobs need beside the stage: an image, its store, a network. Without it, why not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slurm_gha.domain.pool import Container, Handover, Launcher
from slurm_gha.slurm.script import NodeSite, ScriptValues
from slurm_gha.slurm.tools import Checked, check_script, stores_script
from slurm_gha.testing import base_image
from slurm_gha.testing.demo import errands
from slurm_gha.testing.demo.errands import ErrandError
from slurm_gha.testing.demo.interruption import Interrupted, Interruption
from slurm_gha.testing.network import Network, NetworkError
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.processes import mounts, release, start_guard
from slurm_gha.testing.rootless import NotPreparedError, prepare_machine
from slurm_gha.testing.stage import StagePool

IMAGE = "runner"
POOL = StagePool(
    "docker",
    ("self-hosted", "linux", "docker"),
    slurm={"mem": "400M"},
    keys={"launcher": "docker", "image": IMAGE, "runner_dir": None},
)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL = ("/bin/bash", "-p", "-s")
# Processes of the last job may still end while stores are unmounted (seconds).
_UNMOUNTING = 5.0
Say = Callable[[str], None]


class LackingError(Exception):
    """There can be no Docker jobs here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class DockerJobs:
    """What to set the stage with. Without pools there are no such jobs."""

    pools: tuple[StagePool, ...] = ()
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    listening: socket.socket | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The repository's variables: its workflow asks them whether it may use Docker."""
        return {"DOCKER": "yes"} if self.pools else {}


@contextmanager
def docker_jobs(
    slurm: PrivateSlurm, interruption: Interruption, say: Say, told: Callable[[Path], None]
) -> Iterator[DockerJobs]:
    """Everything there for them, or nothing and a line that says why; taken down again at the end.

    ``slurm`` need not run yet. ``told`` hears of the directory that is made.
    """
    with ExitStack() as stack:
        try:
            made = _prepare(slurm, interruption, say, told, stack)
        except Interrupted:
            say("\nInterrupted. Taking everything down …")
            raise
        except (LackingError, ErrandError, NetworkError, NotPreparedError) as error:
            say(f"The Docker jobs are skipped: {error}")
            made = DockerJobs()
        yield made


def _prepare(
    slurm: PrivateSlurm, interruption: Interruption, say: Say, told: Callable[[Path], None], stack: ExitStack
) -> DockerJobs:
    if os.geteuid() != 0:
        raise LackingError("only root can make the network by which containers reach GitHub; run the demo as root")
    prepare_machine(slurm.user)
    listening = stack.enter_context(stack.enter_context(Network()).listen())
    home = Path(tempfile.mkdtemp(prefix="slurm-gha-", dir="/tmp")).resolve()
    told(home)
    image = _Image(slurm, interruption, say, home)
    stack.callback(image.remove)
    image.check_machine()
    image.make()
    image.publish()
    return DockerJobs((POOL,), {"images": {"dir": str(image.catalogue), "stores_dir": str(image.stores)}}, listening)


class _Image:
    """The runners' image in a catalogue of the cluster's user, and its store."""

    def __init__(self, slurm: PrivateSlurm, interruption: Interruption, say: Say, home: Path) -> None:
        self._slurm, self._interruption, self._say, self._home = slurm, interruption, say, home
        self.catalogue, self.stores = home / "catalogue", home / "stores"
        # Should the demo be killed, this takes down what it can no longer.
        self._guard = start_guard(home, [str(home)])
        self._env = {"PATH": _PATH, "HOME": str(home), "USER": slurm.user, "LANG": "C.UTF-8"}
        home.chmod(0o755)
        self.stores.mkdir(mode=0o755)
        self.catalogue.mkdir(mode=0o755)
        os.chown(self.catalogue, slurm.uid, slurm.gid)

    def check_machine(self) -> None:
        """Start an engine as a job would. Raises LackingError with what this machine lacks."""
        values = ScriptValues(
            name="demo",
            handover=Handover.STDIN,
            runner_dir="",
            node_dir=tempfile.gettempdir(),
            launcher=Launcher.DOCKER,
            container=Container(image=""),
        )
        script = check_script([Checked("the demo", values, start=True)])
        status, said = errands.run(self._slurm.as_user(_SHELL), self._interruption, self._env, script)
        if status != 0:
            raise LackingError("; ".join(faults(said)) or said[-300:])

    def make(self) -> None:
        """Put the image into the catalogue. Raises ErrandError."""
        self._say(f"Making the runner image of the Docker jobs, in {self._home} …")
        if not base_image.place().exists():
            self._say(
                f"Its Debian is made by debootstrap, which takes one to three minutes, and kept in {base_image.CACHE} …"
            )
        since = time.monotonic()
        archive = self._home / "image.tar"
        self._succeed([sys.executable, "-m", "slurm_gha.testing.runner_image", str(archive)])
        archive.chmod(0o644)
        self._image("import", str(archive), "--name", IMAGE)
        archive.unlink()
        self._say(f"Made in {time.monotonic() - since:.0f} s.")

    def publish(self) -> None:
        """As a store that is mounted, if that can be done: jobs load the archive where there is none."""
        self._say("Publishing it as a store, which jobs start from at once …")
        since = time.monotonic()
        site = NodeSite(images_dir=str(self.catalogue), stores_dir=str(self.stores))
        script = stores_script(tempfile.gettempdir(), site)
        try:
            self._image("publish", IMAGE, "--to", "store")
            errands.succeed(_SHELL, self._interruption, words=script)
        except ErrandError as error:
            self._say(f"There is no store, so each Docker job loads the image itself: {error}")
        else:
            self._say(f"Published and mounted in {time.monotonic() - since:.0f} s.")

    def remove(self) -> None:
        """Unmount the stores, and remove everything."""
        self._unmount()
        release(self._guard)

    def _unmount(self) -> None:
        until = time.monotonic() + _UNMOUNTING
        while left := mounts(str(self._home)):
            if time.monotonic() > until:
                return
            for point in left:
                subprocess.run(["umount", point], capture_output=True, check=False)
            time.sleep(0.05)

    def _image(self, verb: str, *words: str) -> None:
        """One verb of ``slurm-gha image``, as the user who keeps the catalogue."""
        argv = [sys.executable, "-m", "slurm_gha", "image", verb, *words, "--dir", str(self.catalogue)]
        self._succeed(self._slurm.as_user(argv))

    def _succeed(self, argv: Sequence[str]) -> None:
        environment = {**self._env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        errands.succeed(argv, self._interruption, environment)


def faults(answers: str) -> list[str]:
    """What is wrong, of the lines with which a check of the node answers."""
    return [line.removeprefix("✗ ") for line in answers.splitlines() if line.startswith("✗ ")]
