"""A rootless Docker daemon for tests, started as nodes start theirs, by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from types import TracebackType

from slurm_gha.testing.base_image import base_image
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.processes import end_processes, processes_of
from slurm_gha.testing.rootless import prepare_machine

BASE, WEB = "stand-in/base:1", "stand-in/web:1"
_START = """
set -euo pipefail
source "$1"
SG_JOB_DIR=$2 SG_NODE_DIR=$2/none SG_HIDDEN=()
run_dockerd "$2"
"""


class RootlessDocker:
    """A context manager, in a directory of its own with a short name. Needs root, to be another user."""

    def __init__(self) -> None:
        self._account = _account()
        self.dir = Path(tempfile.mkdtemp(prefix="sgd-", dir="/tmp"))
        self._daemon: subprocess.Popen[bytes] | None = None
        self.log = self.dir / "log"

    @property
    def host(self) -> str:
        return f"unix://{self.dir}/docker.sock"

    @property
    def env(self) -> dict[str, str]:
        """A runner's environment, with this daemon."""
        path = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(self.dir / "home"), "LANG": "C.UTF-8", "DOCKER_HOST": self.host}

    def __enter__(self) -> RootlessDocker:
        try:
            self._start()
            for name, change in ((BASE, ()), (WEB, ("--change", 'CMD ["python3", "-m", "http.server", "80"]'))):
                self.docker("import", *change, str(base_image()), name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        prepare_machine(self._account.pw_name)
        for name in ("home", "data"):
            (self.dir / name).mkdir()
        (self.dir / "daemon.json").write_text("{}\n")
        for path in (self.dir, *self.dir.iterdir()):
            os.chown(path, self._account.pw_uid, self._account.pw_gid)
        script = str(resources.files("slurm_gha.node").joinpath("rootless.sh"))
        with self.log.open("wb") as log:
            self._daemon = subprocess.Popen(
                self.as_user(["bash", "-c", _START, "bash", script, str(self.dir)]),
                env=self.env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while self.run("docker", "version", check=False).returncode != 0:
            assert self._daemon.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def _stop(self) -> None:
        if self._daemon is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._daemon.pid, signal.SIGKILL)
            self._daemon.wait()
            end_processes(processes_of([str(self.dir)]))
        shutil.rmtree(self.dir)

    def as_user(self, argv: Sequence[str]) -> list[str]:
        ids = (f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}")
        return ["setpriv", *ids, "--clear-groups", "--", *argv]

    def run(
        self, *argv: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.as_user(argv),
            env={**self.env, **(env or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{argv}: {done.stdout}{done.stderr}"
        return done

    def docker(self, *arguments: str) -> str:
        return self.run("docker", *arguments).stdout.strip()

    def own(self, *paths: Path) -> None:
        for path in paths:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def everything(self) -> dict[str, list[str]]:
        """Names of containers, networks and volumes, but for Docker's own networks."""
        containers = self.docker("ps", "--all", "--format", "{{.Names}}").split()
        networks = self.docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").split()
        volumes = self.docker("volume", "ls", "--format", "{{.Name}}").split()
        return {"containers": containers, "networks": networks, "volumes": volumes}


def _account() -> pwd.struct_passwd:
    """The account that the private Slurm runs as too; made if it is not there."""
    return pwd.getpwnam(PrivateSlurm().user)
