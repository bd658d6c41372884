"""What the Actions service may answer instead, as types. Where REST knows the same trouble, it is the same type."""

from __future__ import annotations

from slurm_gha.github.errors import GitHubError, NameTaken, NotFound, RunnerBusy


class AgentExists(NameTaken):
    """A runner of this name is registered already."""


class AgentNotFound(NotFound):
    """There is no such runner."""


class JobStillRunning(RunnerBusy):
    """The runner has a job and must be left alone."""


class ScaleSetNotFound(NotFound):
    """The scale set is gone: the service removes one that was left alone."""


class ScaleSetExists(GitHubError):
    """A scale set of this name is in the runner group already."""


class SessionConflict(GitHubError):
    """Another session of the scale set is alive. The text has GitHub's own words, which may name its owner."""


class SessionGone(GitHubError):
    """The session is over: it has ended by itself, was deleted, or another one has replaced it."""


class QueueTokenExpired(GitHubError):
    """The session's queue token is refused: the session has to be refreshed."""
