"""Work in progress: directories that are removed by the next writer if their own writer has died."""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from slurm_gha.images.errors import FULL, ImageError, disk_full
from slurm_gha.images.namespace import remove_tree

_PREFIX = "sg-image-"
_SOCKETS_PREFIX = "sgi-"
# Seconds after which a directory without a lock counts as left behind: its writer was killed when it had just begun.
_UNLOCKED_AGE = 60.0


@contextmanager
def work(parent: Path) -> Iterator[Path]:
    """A private directory in ``parent`` for the time of the block. What dead writers left there is removed first."""
    sweep(parent)
    path = parent / f"{_PREFIX}{secrets.token_hex(6)}"
    try:
        path.mkdir(mode=0o700)
        descriptor = _locked(path)
    except OSError as error:
        with suppress(OSError):
            (path / "lock.new").unlink(missing_ok=True)
            path.rmdir()
        if error.errno in FULL:
            raise disk_full(parent, "beginning") from None
        raise ImageError(f"cannot make a working directory in {parent}: {error.strerror}") from None
    try:
        yield path
    finally:
        try:
            _remove(path)
        finally:
            os.close(descriptor)


def sockets(path: Path) -> Path:
    """A private directory with a short name, which paths of sockets must have; removed with the work ``path``."""
    place = Path(tempfile.gettempdir()) / f"{_SOCKETS_PREFIX}{secrets.token_hex(5)}"
    (path / "sockets").symlink_to(place)  # first: whoever removes the work has to know it
    place.mkdir(mode=0o700)
    return place


def sweep(parent: Path) -> tuple[Path, ...]:
    """Remove work whose writer is dead, and return what was removed."""
    removed = []
    for path in sorted(parent.glob(f"{_PREFIX}*")):
        with suppress(FileNotFoundError):
            if _is_dead(path):
                removed.append(path)
    return tuple(removed)


def _is_dead(path: Path) -> bool:
    """Whether the writer is dead; if so, the work is gone now. Its lock is held meanwhile: two may sweep."""
    if path.stat().st_uid != os.geteuid():
        return False
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if time.time() - path.stat().st_mtime < _UNLOCKED_AGE:
            return False
        _remove(path)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        _remove(path)
        return True
    finally:
        os.close(descriptor)


def _locked(path: Path) -> int:
    """The lock comes into being held: a sweeper would take a free one."""
    new = path / "lock.new"
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(path / "lock")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(path: Path) -> None:
    link = path / "sockets"
    with suppress(OSError):
        place = Path(os.readlink(link))
        if place.name.startswith(_SOCKETS_PREFIX) and place.lstat().st_uid == os.geteuid() and not place.is_symlink():
            remove_tree(place)
    for entry in sorted(path.iterdir(), key=lambda entry: entry.name == "lock"):  # the lock last
        remove_tree(entry)
    path.rmdir()
