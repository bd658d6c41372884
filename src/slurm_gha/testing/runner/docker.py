"""The Docker daemon that a job's containers run on: found as Docker's own command finds it, and swept afterwards."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

DEFAULT = "unix:///var/run/docker.sock"
ANSWER_SECONDS, REMOVE_SECONDS = 20.0, 60.0
# What lists each kind by name, and what removes it; networks only go when no container is in them.
_KINDS: Sequence[tuple[Sequence[str], Sequence[str]]] = (
    (("ps", "--all", "--quiet", "--no-trunc"), ("rm", "--force", "--volumes")),
    (("network", "ls", "--quiet", "--no-trunc"), ("network", "rm")),
    (("volume", "ls", "--quiet"), ("volume", "rm", "--force")),
)


class NoDockerError(Exception):
    """A job wants containers, and there is no Docker daemon for them."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """``address`` is a DOCKER_HOST; ``command`` the docker command, run with ``environment``."""

    address: str
    command: str
    environment: Mapping[str, str] = field(repr=False)

    async def remove(self, mark: str) -> None:
        """Remove containers, networks and volumes whose names hold ``mark``; nothing else is touched."""
        for listing, removal in _KINDS:
            code, found, _ = await self._run([*listing, "--filter", f"name={mark}"], ANSWER_SECONDS)
            if code != 0:
                return  # the daemon has gone, and what it ran with it
            if found.split():
                await self._run([*removal, *found.split()], REMOVE_SECONDS)

    async def check(self) -> None:
        """Raises NoDockerError unless the daemon answers."""
        code, _, error = await self._run(["version", "--format", "{{.Server.Version}}"], ANSWER_SECONDS)
        if code != 0:
            raise NoDockerError(
                f"no Docker daemon answers at {self.address}: {(error.strip() or '?').splitlines()[-1]}"
            )

    async def _run(self, arguments: Sequence[str], seconds: float) -> tuple[int, str, str]:
        with anyio.move_on_after(seconds):
            done = await anyio.run_process(
                [self.command, *arguments], env=self.environment, stdin=subprocess.DEVNULL, check=False
            )
            return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        return 1, "", f"no answer within {seconds:.0f} s"


def find(environment: Mapping[str, str]) -> Daemon:
    """The daemon of ``DOCKER_HOST``, or that of /var/run/docker.sock; raises NoDockerError if there can be none."""
    command = shutil.which("docker", path=environment.get("PATH"))
    if command is None:
        raise NoDockerError("there is no docker command on the runner's PATH")
    address = environment.get("DOCKER_HOST") or DEFAULT
    socket = address.removeprefix("unix://")
    if socket != address and not Path(socket).is_socket():
        raise NoDockerError(f"there is no Docker socket at {socket}")
    return Daemon(address, command, environment)
