"""For tests of `slurm-gha image`: an unprivileged user with subordinate ids, a catalogue of his, and small images."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from slurm_gha.testing.docker_archive import write_archive
from slurm_gha.testing.rootless import prepare_machine

# Test processes run at the same time, and each looks whether anything of its user is left.
USER = f"slurmgha-img-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
PATIENCE = 60.0


@dataclass
class Keeper:
    """The user who keeps a catalogue, and what he runs. ``home`` is short, and removed at the end."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def catalogue(self) -> Path:
        return self.home / "cat"

    def argv(self, *argv: str) -> list[str]:
        """``argv`` as the user, with an environment of nothing but what it needs."""
        account = pwd.getpwnam(USER)
        words = {
            "HOME": str(self.home),
            "USER": USER,
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            **self.env,
        }
        drop = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]
        return [*drop, "env", "-i", *(f"{key}={value}" for key, value in words.items()), *argv]

    def run(self, *argv: str, check: bool = True, cwd: str = "/") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
            cwd=cwd,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def image_argv(self, *words: str, catalogue: Path | None = None) -> list[str]:
        verb, *rest = words
        place = str(catalogue if catalogue is not None else self.catalogue)
        return self.argv(sys.executable, "-m", "slurm_gha", "image", verb, "--dir", place, *rest)

    def image(self, *words: str, check: bool = True, catalogue: Path | None = None) -> subprocess.CompletedProcess[str]:
        """One verb of ``slurm-gha image``."""
        verb, *rest = words
        place = str(catalogue if catalogue is not None else self.catalogue)
        return self.run(sys.executable, "-m", "slurm_gha", "image", verb, "--dir", place, *rest, check=check)

    def image_home(self, name: str) -> Path:
        return (self.catalogue / "names" / name).resolve(strict=True)

    def give(self, path: Path) -> Path:
        """Make the user the owner."""
        account = pwd.getpwnam(USER)
        os.chown(path, account.pw_uid, account.pw_gid)
        return path

    def remove(self, path: Path) -> None:
        subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=True)

    def processes(self) -> list[str]:
        """What the user runs."""
        done = subprocess.run(["ps", "-u", USER, "-o", "pid=,stat=,args="], capture_output=True, text=True, check=False)
        return [line for line in done.stdout.splitlines() if " Z" not in line]


@contextmanager
def keeper() -> Iterator[Keeper]:
    """The user with an empty home below /tmp; afterwards nothing of his runs, and nothing is left."""
    if USER not in [account.pw_name for account in pwd.getpwall()]:
        subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", USER], check=True)
    prepare_machine(USER)
    home = Path(tempfile.mkdtemp(prefix="sgk-", dir="/tmp"))
    made = Keeper(home)
    try:
        made.give(home)
        yield made
        wait_until(lambda: not made.processes(), lambda: f"processes are left: {made.processes()}")
    finally:
        for line in made.processes():
            os.kill(int(line.split()[0]), signal.SIGKILL)
        made.remove(home)


def wait_until(true: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def entry(
    name: str,
    content: bytes | None = None,
    *,
    mode: int = 0o644,
    kind: bytes | None = None,
    link: str = "",
    uid: int = 0,
) -> tuple[tarfile.TarInfo, bytes]:
    """A member of a layer: a file, or with ``content`` None a directory, or what ``kind`` says."""
    info = tarfile.TarInfo(name)
    info.mode, info.mtime, info.linkname, info.uid, info.gid = mode, 1_700_000_000, link, uid, uid
    info.type = kind if kind is not None else tarfile.DIRTYPE if content is None else tarfile.REGTYPE
    info.size = len(content or b"") if info.isreg() else 0
    return info, content or b""


def layer(path: Path, members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A tar file of members."""
    with tarfile.open(path, "w") as tar:
        for info, content in members:
            tar.addfile(info, BytesIO(content) if info.isreg() else None)
    return path


def small_archive(directory: Path, name: str = "small", extra: bytes = b"one") -> tuple[Path, str]:
    """An image with busybox, a file of another owner, a deleted file, a setuid file; its archive and its digest."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    lower = [
        entry("bin", mode=0o755),
        entry("bin/busybox", busybox, mode=0o755),
        entry("bin/sh", mode=0o777, kind=tarfile.SYMTYPE, link="busybox"),
        entry("bin/cat", mode=0o777, kind=tarfile.SYMTYPE, link="busybox"),
        entry("bin/stat", mode=0o777, kind=tarfile.SYMTYPE, link="busybox"),
        entry("etc", mode=0o755),
        entry("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
        entry("gone", b"deleted by the second layer\n"),
        entry("old", mode=0o755),
        entry("old/hidden", b"hidden by an opaque directory\n"),
        entry("home/runner/run.sh", b"#!/bin/sh\n", mode=0o755),
        entry("home/runner/bin/Runner.Listener", b"x", mode=0o755),
        entry("home/runner/bin/Runner.Listener.deps.json", b'{"libraries": {"Runner.Listener/2.320.0": {}}}'),
    ]
    upper = [
        entry(".wh.gone", b""),
        entry("old", mode=0o755),
        entry("old/.wh..wh..opq", b""),
        entry("old/new", b"new\n"),
        entry("owned", b"by 1000\n", mode=0o600, uid=1000),
        entry("extra", extra),
        entry("setuid", b"#!/bin/sh\n", mode=0o4755),
    ]
    layers = [layer(directory / "lower.tar", lower), layer(directory / "upper.tar", upper)]
    path = directory / f"{name}.tar"
    digest = write_archive(path, layers, f"localhost/test/{name}:latest", {"Env": ["PATH=/bin", "GREETING=it's me"]})
    path.chmod(0o644)
    return path, digest


@contextmanager
def registry(directory: Path) -> Iterator[str]:
    """A registry on this machine's loopback: its host and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "registry.yml"
    config.write_text(
        "version: 0.1\n"
        f"storage:\n  filesystem:\n    rootdirectory: {directory}/blobs\n"
        f"http:\n  addr: 127.0.0.1:{port}\n"
    )
    with (directory / "registry.log").open("w") as log:
        argv = ["setpriv", "--pdeathsig", "KILL", "--", "docker-registry", "serve", str(config)]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: _listens(port), lambda: (directory / "registry.log").read_text())
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
