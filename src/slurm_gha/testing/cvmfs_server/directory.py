"""Makes a stratum 0 in a directory: the program, repositories, and what nodes see of them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from slurm_gha.testing.cvmfs_server.control import Control
from slurm_gha.testing.cvmfs_server.repository import Repository, user

_PROGRAM = """#!/bin/sh
exec {python} -P -m slurm_gha.testing.cvmfs_server.main {root} "$@"
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stratum 0 in the directory ``root``."""

    root: Path

    @property
    def server(self) -> Path:
        """The program ``cvmfs_server``."""
        return self.root / "bin" / "cvmfs_server"

    @property
    def mount_root(self) -> Path:
        """In place of ``/cvmfs``."""
        return self.root / "cvmfs"

    @property
    def spool_root(self) -> Path:
        """In place of ``/var/spool/cvmfs``."""
        return self.root / "var" / "spool" / "cvmfs"

    @property
    def control(self) -> Control:
        """Faults and slowness."""
        return Control(self.root)

    def repository(self, name: str) -> Repository:
        """A repository, to look into."""
        return Repository(self.root, name)

    def run(self, *arguments: str, cwd: Path | str = "/", text: str = "") -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return subprocess.run(
            [str(self.server), *arguments], cwd=cwd, input=text, capture_output=True, text=True, check=False
        )

    def create(self, name: str, owner: str | None = None) -> Repository:
        """Make a repository of ``owner``'s, by default whoever calls."""
        answer = self.run("mkfs", "-o", owner or user(), "-f", "overlayfs", name)
        if answer.returncode != 0:
            raise RuntimeError(f"mkfs: {answer.stderr}")
        return self.repository(name)

    def node(self, label: str) -> Path:
        """What takes the place of ``/cvmfs`` on a node. It shows nothing before its first :meth:`refresh`."""
        place = self.root / "nodes" / label
        place.mkdir(parents=True, exist_ok=True)
        return place

    def refresh(self, label: str, name: str) -> None:
        """The node's client takes up the published revision, as when its time to live is over."""
        repository = self.repository(name)
        fresh = self.node(label) / f"{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(repository.revision(repository.published))
        fresh.replace(self.node(label) / name)


def build(root: Path, python: str = sys.executable) -> Stage:
    """Make the directory ``root``, with ``bin/cvmfs_server`` in it. ``python`` must have this package."""
    stage = Stage(root.resolve())
    stage.server.parent.mkdir(parents=True)
    stage.server.write_text(_PROGRAM.format(python=shlex.quote(python), root=shlex.quote(str(stage.root))))
    stage.server.chmod(0o755)
    return stage
