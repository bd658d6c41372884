"""Container engines for building and pulling: a private rootless Docker daemon, Podman, or a daemon that is there.

The private ones keep all they have in one directory and end with the block, or with this process.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from pathlib import Path

from slurm_gha.images.errors import CommandFailed, MissingTool
from slurm_gha.images.namespace import as_container_root, own_ids
from slurm_gha.images.process import environment, failure, find, run, started
from slurm_gha.images.references import Way
from slurm_gha.images.reporter import Reporter, Silent
from slurm_gha.images.work import sockets

# A daemon answers within this time, or never will (seconds).
_PATIENCE = 60.0
# Without a container it stops at once; its store must be whole before it is used (seconds).
_STOP_PATIENCE = 30.0
_VERSION = re.compile(r"version ([^,\s]+)")


class EngineKind(StrEnum):
    DOCKER = "docker"
    PODMAN = "podman"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers. ``command``: its command line, ``place``: where it writes, for sentences."""

    kind: EngineKind
    command: tuple[str, ...]
    env: Mapping[str, str]
    place: Path
    private: bool
    reporter: Reporter = field(default_factory=Silent)

    @property
    def has_own_network(self) -> bool:
        """Whether the machine's loopback has another address for it."""
        return self.private and self.kind is EngineKind.DOCKER

    def run(self, *arguments: str, doing: str, told: bool = True) -> str:
        """One command of the engine; its lines are reported unless they are an answer."""
        reporter = self.reporter if told else None
        return run([*self.command, *arguments], doing, writes=self.place, env=self.env, reporter=reporter)

    def pull(self, way: Way) -> None:
        """Pull one image."""
        tls = ["--tls-verify=false"] if self.kind is EngineKind.PODMAN and way.insecure is not None else []
        self.run("pull", *tls, way.reference, doing=f"pulling {way.reference}")

    def build(self, context: Path, dockerfile: Path, reference: str, arguments: Mapping[str, str]) -> None:
        """Build an image from a Dockerfile, on the engine's own network."""
        pairs = [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
        options = ["--network", "host", "--tag", reference, "--file", str(dockerfile), *pairs]
        if self.kind is EngineKind.PODMAN:
            options += ["--isolation", "chroot", "--format", "docker"]
        self.run("build", *options, str(context), doing=f"building from {dockerfile}")

    def take_rootfs(self, archive: Path, reference: str) -> None:
        """Make an image of one layer from a tar of a root file system."""
        self.run("import", str(archive), reference, doing=f"importing {archive}", told=False)

    def load(self, archive: Path) -> None:
        self.run("load", "--input", str(archive), doing=f"loading {archive.name}")

    def save(self, reference: str, target: Path) -> None:
        """Write a docker-archive."""
        form = ["--format", "docker-archive"] if self.kind is EngineKind.PODMAN else []
        self.run("save", *form, "--output", str(target), reference, doing=f"saving {reference}", told=False)

    def tag(self, reference: str, other: str) -> None:
        self.run("tag", reference, other, doing=f"naming {other}", told=False)

    def registry_digest(self, reference: str) -> str | None:
        """The registry's digest of a pulled image."""
        text = self.run("image", "inspect", reference, doing=f"inspecting {reference}", told=False)
        digests = json.loads(text)[0].get("RepoDigests") or []
        repository = reference.partition("@")[0].rpartition(":")[0] or reference
        fitting = [one for one in digests if one.rpartition("@")[0] == repository] or digests
        return str(fitting[0]).rpartition("@")[2] if fitting else None


@contextmanager
def open_engine(
    work: Path,
    *,
    kind: EngineKind = EngineKind.DOCKER,
    docker_host: str | None = None,
    insecure: Iterable[str] = (),
    host_loopback: bool = False,
    reporter: Reporter | None = None,
) -> Iterator[Engine]:
    """An engine for the time of the block. ``work``: where a private one keeps its data, on a local disk.

    ``insecure``: registries that are spoken to without TLS. ``host_loopback``: whether this machine's own loopback is
    reachable for it; then it is for the steps of a build, too.
    """
    told = reporter if reporter is not None else Silent()
    if docker_host is not None:
        env = {"DOCKER_HOST": docker_host, "DOCKER_BUILDKIT": "0"}
        engine = Engine(EngineKind.DOCKER, (find("docker", "use a daemon"),), env, work, private=False, reporter=told)
        engine.run("version", doing=f"asking the daemon at {docker_host}", told=False)
        yield engine
    elif kind is EngineKind.PODMAN:
        yield podman(work, "graph", told)
    else:
        with private_daemon(work, insecure=insecure, host_loopback=host_loopback) as (sock, _):
            env = {"DOCKER_HOST": f"unix://{sock}", "DOCKER_BUILDKIT": "0"}
            docker = find("docker", "speak to the private daemon")
            yield Engine(EngineKind.DOCKER, (docker,), env, work, private=True, reporter=told)


def podman(work: Path, graph: str, reporter: Reporter | None = None) -> Engine:
    """Podman with a storage of its own in ``work/graph``. It has no daemon; each command is a world of its own."""
    find("podman", "work with --engine podman")
    find("newuidmap", "run a rootless engine")
    own_ids()
    short = sockets(work)
    (work / graph).mkdir(mode=0o755)
    (short / "home").mkdir()
    (short / "containers.conf").write_text(
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\nlock_type = "file"\n', encoding="utf-8"
    )
    env = {
        "CONTAINERS_CONF": str(short / "containers.conf"),
        "XDG_RUNTIME_DIR": str(short),
        "TMPDIR": str(work),
        "HOME": str(short / "home"),
        **_credentials(),
        # We make the namespace ourselves, with process ids of its own: nothing of Podman's outlives its command.
        "_CONTAINERS_USERNS_CONFIGURED": "done",
        "_CONTAINERS_ROOTLESS_UID": str(os.geteuid()),
        "_CONTAINERS_ROOTLESS_GID": str(os.getegid()),
    }
    storage = ("--root", str(work / graph), "--runroot", str(short / "run"), "--storage-driver", "overlay")
    unshare = as_container_root("podman")
    dash = unshare.index("--")
    command = (
        *unshare[:dash],
        "--mount",
        "--pid",
        "--mount-proc",
        "--fork",
        "--kill-child=KILL",
        *unshare[dash:],
        *storage,
    )
    return Engine(EngineKind.PODMAN, command, env, work, private=True, reporter=reporter or Silent())


@contextmanager
def private_daemon(
    work: Path, *, insecure: Iterable[str] = (), host_loopback: bool = False, data: str = "data"
) -> Iterator[tuple[Path, Path]]:
    """A rootless Docker daemon: its socket and its data-root, ``work/data``. At the end it is stopped, and has written
    all it knows."""
    for program in ("rootlesskit", "dockerd", "newuidmap"):
        find(program, "run a private rootless Docker daemon")
    own_ids()
    short, root = sockets(work), work / data
    root.mkdir(mode=0o711)
    (short / "daemon.json").write_text("{}\n", encoding="utf-8")
    arguments = [str(short), "--data-root", str(root), "--storage-driver", "overlay2"]
    arguments += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
    for host in insecure:
        arguments += ["--insecure-registry", host]
    log = work / "dockerd.log"
    with _script() as script, log.open("w", encoding="utf-8") as out:
        text = f"set -euo pipefail\n. {shlex.quote(str(script))}\nrun_dockerd {shlex.join(arguments)}\n"
        env = environment({"SG_HOST_LOOPBACK": "yes" if host_loopback else ""})
        argv = ["bash", "-c", text]
        with started(argv, env=env, cwd=Path("/"), stdout=out, stderr=out, patience=_STOP_PATIENCE) as process:
            _await(process, short / "docker.sock", log, root)
            yield short / "docker.sock", root


def daemon_version() -> str:
    """The version of the Docker daemon on this machine."""
    return _version(["dockerd", "--version"], "make a store for Docker")


def podman_version() -> str:
    return _version(["podman", "--version"], "make a store for Podman")


def _credentials() -> dict[str, str]:
    """Where the user's logins to registries are, for an engine that has another home."""
    home = Path.home()
    places = [home / ".config/containers/auth.json", home / ".docker/config.json"]
    if "XDG_RUNTIME_DIR" in os.environ:
        places.insert(0, Path(os.environ["XDG_RUNTIME_DIR"]) / "containers/auth.json")
    found = os.environ.get("REGISTRY_AUTH_FILE") or next((str(path) for path in places if path.is_file()), None)
    return {} if found is None else {"REGISTRY_AUTH_FILE": found}


def _version(argv: list[str], purpose: str) -> str:
    find(argv[0], purpose)
    found = _VERSION.search(run(argv, f"asking {argv[0]} for its version", writes=Path("/")))
    if found is None:
        raise MissingTool(f"{argv[0]} does not tell its version")
    return found[1]


def _script() -> AbstractContextManager[Path]:
    return resources.as_file(resources.files("slurm_gha.node") / "rootless.sh")


def _await(process: subprocess.Popen[str], sock: Path, log: Path, root: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not _answers(sock):
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            code = process.poll()
            if code is None:
                raise CommandFailed(f"the private Docker daemon did not answer within {_PATIENCE:g} s")
            if any("overlay2" in line and ("not supported" in line or "failed to mount" in line) for line in lines):
                raise CommandFailed(
                    f"{root.parent} is on a file system that Docker's overlay2 cannot use; name a --work-dir on a "
                    "local disk"
                )
            raise failure(["dockerd"], code, lines, "starting a private Docker daemon", root)
        time.sleep(0.05)


def _answers(sock: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(str(sock))
            client.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            answer = client.recv(64)
        except OSError:
            return False
    return b" 200 " in answer
