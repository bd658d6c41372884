"""Refusals of the simulated GitHub: the status and the message that a caller over HTTP would see."""

from __future__ import annotations


class RefusedError(Exception):
    """The service will not do what was asked. ``status`` is the HTTP status of the answer.

    ``needs`` is the permission that would have allowed it, where that is the reason.
    """

    status = 400

    def __init__(self, message: str, *, needs: str | None = None) -> None:
        super().__init__(message)
        self.needs = needs


class NotThere(RefusedError):
    """There is no such thing, or the caller may not know of it."""

    status = 404


class Conflict(RefusedError):
    """The name is taken, or a session is open already."""

    status = 409


class Unprocessable(RefusedError):
    """Understood, and refused: a busy runner, a bad label."""

    status = 422


class Denied(RefusedError):
    """Not allowed now, or not to this caller."""

    status = 403


class Unauthorised(RefusedError):
    """Nobody known, or no longer."""

    status = 401


class WorkflowError(ValueError):
    """A workflow file that GitHub would refuse; the text names the file, the key and what is allowed there."""
