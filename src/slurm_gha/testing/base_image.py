"""A Debian root file system for container images, made on this machine by debootstrap: no registry is needed.

Made once and kept in a cache; run by root, as debootstrap needs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "curl", "git", "procps", "python3")
CACHE = Path("/var/cache/slurm-gha")
# Lists and documentation, which no job reads.
_UNWANTED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


class BaseImageError(Exception):
    """The root file system cannot be made; the text holds the end of debootstrap's words."""


def base_image(cache: Path = CACHE) -> Path:
    """A tar of the root file system, as for ``docker import``; everybody may read it.

    Takes most of a minute the first time, and is then there at once. Raises BaseImageError.
    """
    path = place(cache)
    if path.exists():
        return path
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise BaseImageError("debootstrap makes the base image, and has to be run by root: make install brings it")
    cache.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make(path)
    return path


def place(cache: Path = CACHE) -> Path:
    """Where it is kept, once it is made."""
    key = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    return cache / f"debian-{SUITE}-{key}.tar"


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as parent:
        root = Path(parent) / "root"
        # What it mounts is gone with it, also if it is killed.
        _run(
            "unshare",
            "--mount",
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            SUITE,
            str(root),
        )
        for folder in _UNWANTED:
            shutil.rmtree(root / folder, ignore_errors=True)
            (root / folder).mkdir(parents=True)
        made = Path(parent) / path.name
        # What is in dev are device nodes, which a user's engine may not make, and does not need.
        _run("tar", "-C", str(root), "--exclude=./dev/*", "--numeric-owner", "-cf", str(made), ".")
        made.chmod(0o644)
        made.rename(path)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise BaseImageError(f"{argv[0]} failed with exit status {done.returncode}: {words}")
