"""What we have open on a stratum 0, kept in a small file, so that a publication that was killed can be found again.

A transaction's token begins with this directory's own word, by which it is recognised on the stratum 0 even if it was
opened after we were killed. The file is locked while a publication lives: two of ours never work on one repository
at the same time.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from slurm_gha.images.cvmfs.errors import NotUsable
from slurm_gha.images.cvmfs.patience import Patience
from slurm_gha.images.cvmfs.settings import CvmfsSettings

Phase = Literal["filling", "publishing", "ending", "ingesting"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An open transaction of ours. ``pid`` and ``machine`` are for people; the lock tells whether it lives."""

    repository: str
    host: str | None
    token: str
    phase: Phase
    pid: int
    machine: str


class Record:
    """Held from :meth:`hold` to :meth:`release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int, settings: CvmfsSettings) -> None:
        self._path = path
        self._owner = path.with_suffix(".owner")
        self._descriptor: int | None = descriptor
        self._settings = settings

    @classmethod
    def hold(cls, state_dir: Path, settings: CvmfsSettings, patience: Patience) -> Record:
        """Take the lock, waiting for another publication of ours; raises StillBusy or NotUsable."""
        name = f"cvmfs-{settings.repository}@{settings.host or 'local'}".replace(":", "_")
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                state_dir / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise NotUsable(f"{state_dir} cannot be written: {error.strerror}") from error
        record = cls(state_dir / f"{name}.json", descriptor, settings)
        try:
            while not _lock(descriptor):
                patience.wait(f"another slurm-gha publishes from {state_dir}")
        except BaseException:
            record.release()
            raise
        return record

    @property
    def owner(self) -> str:
        """This directory's own word; made once. Raises NotUsable."""
        try:
            word = self._owner.read_text(encoding="ascii").strip() if self._owner.exists() else ""
            if re.fullmatch(r"[0-9a-f]{16}", word) is None:
                word = secrets.token_hex(8)
                self._replace(self._owner, word + "\n")
        except (OSError, ValueError) as error:
            raise NotUsable(f"{self._owner} cannot be read or written: {error}") from error
        return word

    def token(self) -> str:
        """A word for a new transaction, that no other has."""
        return f"{self.owner}.{secrets.token_hex(12)}"

    def read(self) -> Entry | None:
        """What an earlier publication left behind. A file that says nothing useful counts as none."""
        try:
            return Entry(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, token: str, phase: Phase) -> None:
        """Note an open transaction, safely on disk before anything is done; raises NotUsable."""
        settings = self._settings
        entry = Entry(settings.repository, settings.host, token, phase, os.getpid(), socket.gethostname())
        try:
            self._replace(self._path, json.dumps(asdict(entry)))
        except OSError as error:
            raise NotUsable(f"{self._path} cannot be written: {error.strerror}") from error

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        fresh = path.with_name(f"{path.name}.new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def clear(self) -> None:
        """Nothing of ours is open any more."""
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the lock back; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NotUsable(f"the directory of the image catalogue does not support locks: {error.strerror}") from error
    return True
