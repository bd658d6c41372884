"""One service to a state directory: a lock that the kernel gives back however its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from slurm_gha.store.errors import AlreadyRunning, StoreError

FILE_NAME = "lock"
# Whoever asks for the holder has the lock himself for a moment; that is no service (seconds, times).
PATIENCE = 0.05
TRIES = 4


class StateLock:
    """Held from :meth:`acquire` to :meth:`release` or the end of the process. Child processes do not inherit it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, state_dir: Path, *, sleep: Callable[[float], None] = time.sleep) -> StateLock:
        """Take the lock of a state directory; raises AlreadyRunning or StoreError."""
        path = state_dir / FILE_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"the lock {path} cannot be opened: {error.strerror}") from error
        with ExitStack() as undo:
            undo.callback(os.close, descriptor)
            for attempt in range(TRIES):
                if attempt:
                    sleep(PATIENCE)
                if _try(descriptor, fcntl.LOCK_EX, path):
                    break
            else:
                raise _taken(descriptor, state_dir)
            _sign(descriptor, path)
            undo.pop_all()
        return cls(descriptor)

    def release(self) -> None:
        """Give the lock back; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> StateLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def is_held(state_dir: Path) -> bool:
    """Whether a service holds the directory now; raises StoreError where that cannot be told."""
    path = state_dir / FILE_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"the lock {path} cannot be read: {error.strerror}") from error
    try:
        return not _try(descriptor, fcntl.LOCK_SH, path)
    finally:
        os.close(descriptor)


def _try(descriptor: int, operation: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise StoreError(f"{path} cannot be locked ({error.strerror}); state_dir must be on a local disk") from error
    return True


def _sign(descriptor: int, path: Path) -> None:
    """Leave our process id for those who come too late."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise StoreError(f"the lock {path} cannot be written: {error.strerror}") from error


def _taken(descriptor: int, state_dir: Path) -> AlreadyRunning:
    word = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    pid = int(word) if word.isdecimal() and word.isascii() else None
    holder = f"process {pid}" if pid is not None else "another process"
    return AlreadyRunning(
        f"{holder} already serves the state directory {state_dir}: stop it first, or name another state_dir", pid
    )
