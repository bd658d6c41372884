"""What can go wrong between us and GitHub, as types whose text says what to do."""

from __future__ import annotations


class GitHubError(Exception):
    """Any answer, or lack of one, that leaves us without what we asked for.

    ``request_id`` is GitHub's X-GitHub-Request-Id, to quote to its support.
    """

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message if request_id is None else f"{message} (request {request_id})")
        self.request_id = request_id


class GitHubUnavailable(GitHubError):
    """No usable answer: connection, time-out, 5xx, or a malformed body. Worth trying again later."""


class RateLimited(GitHubError):
    """GitHub said to wait, or our budget is spent. ``until`` is seconds since the epoch."""

    def __init__(self, message: str, *, until: float, request_id: str | None = None) -> None:
        super().__init__(message, request_id=request_id)
        self.until = until


class Forbidden(GitHubError):
    """The token lacks a permission (401, 403 that is no rate limit, or 404 that hides one)."""


class NotInstalled(Forbidden):
    """The GitHub App is not installed where it is needed."""


class NotFound(GitHubError):
    """The thing asked for does not exist, or the token may not see it."""


class NameTaken(GitHubError):
    """409: a runner of this name is registered already."""


class RunnerBusy(GitHubError):
    """422 on removal: the runner has a job and must be left alone."""


class Invalid(GitHubError):
    """422 otherwise: GitHub refuses what we sent."""
