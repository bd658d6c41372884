"""What can go wrong with the state directory."""

from __future__ import annotations


class StoreError(Exception):
    """The journal or the lock cannot be used; the text names the file and what to do."""


class JournalError(StoreError):
    """The journal could not be read or written. A write that failed has left nothing behind."""


class NewerSchema(StoreError):
    """The journal was written by a newer version."""


class AlreadyRunning(StoreError):
    """Another service holds the state directory. ``pid`` is its process, if the lock file tells."""

    def __init__(self, message: str, pid: int | None) -> None:
        super().__init__(message)
        self.pid = pid
