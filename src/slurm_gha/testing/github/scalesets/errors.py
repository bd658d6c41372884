"""Refusals of the Actions service: a status, the name of an exception, and a message.

Sources: actions/scaleset, ``errors.go``; actions/runner, ``src/Sdk/DTWebApi/WebApi/Exceptions.cs``. Clients know the
exceptions by a part of their names.
"""

from __future__ import annotations

from slurm_gha.testing.github.errors import RefusedError

RUNTIME = "GitHub.Actions.Runtime.WebApi"
TASKS = "GitHub.DistributedTask.WebApi"
COMMON = "GitHub.Services.Common"


class ServiceError(RefusedError):
    """``kind`` is the exception's name, ``space`` what stands before it. ``plain``: the body is text, no JSON."""

    def __init__(self, status: int, kind: str, message: str, *, space: str = RUNTIME, plain: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.space = space
        self.plain = plain


def no_scale_set(identifier: int) -> ServiceError:
    return ServiceError(
        404, "RunnerScaleSetNotFoundException", f"No runner scale set found with identifier {identifier}."
    )


def no_session(identifier: str) -> ServiceError:
    """The session is over, or never was: the service calls that a bad request."""
    return ServiceError(
        400, "RunnerScaleSetSessionExpiredException", f"The session identifier {identifier} is not valid."
    )


def malformed(message: str) -> ServiceError:
    return ServiceError(400, "ArgumentException", message, plain=True)


def no_group(identifier: int) -> ServiceError:
    return ServiceError(404, "RunnerGroupNotFoundException", f"No runner group found with identifier {identifier}.")
