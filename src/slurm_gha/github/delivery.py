"""Webhook deliveries on the wire: the signature, and what a ``workflow_job`` body says. Pure.

Source: docs.github.com, "Validating webhook deliveries" and "Webhook events and payloads", ``workflow_job``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from typing import Any

from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.told import rank
from slurm_gha.github import parse

_ACTIONS = {
    "queued": JobStatus.QUEUED,
    "in_progress": JobStatus.IN_PROGRESS,
    "completed": JobStatus.COMPLETED,
    "waiting": JobStatus.WAITING,
}
EVENT = "workflow_job"
_PREFIX = "sha256="


class Malformed(ValueError):
    """A body that is no delivery of the kind it should be; the text says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class JobNews:
    """What a delivery says: the action, the repository as GitHub writes it, and the job (its scope left empty)."""

    action: str
    repository: str
    job: Job


def signature(secret: Secret, body: bytes) -> str:
    """What ``X-Hub-Signature-256`` is to hold for a body."""
    return _PREFIX + hmac.new(_key(secret), body, hashlib.sha256).hexdigest()


def is_signed(secret: Secret, body: bytes, given: str) -> bool:
    """Whether the header's value belongs to the body, compared in constant time."""
    return hmac.compare_digest(signature(secret, body).encode(), given.strip().encode("utf-8", "replace"))


def _key(secret: Secret) -> bytes:
    return secret.reveal().encode("utf-8", "surrogatepass")


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; raises Malformed."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Malformed("the body is no JSON object")
    return value


def job_news(value: dict[str, Any], seen_at: float) -> JobNews | None:
    """What a ``workflow_job`` body says; None for an action of tomorrow. Raises Malformed.

    ``seen_at`` (seconds since the epoch) stands in for a creation time that is missing.
    """
    action, item, repository = value.get("action"), value.get("workflow_job"), value.get("repository")
    if not isinstance(action, str) or not isinstance(item, dict) or not isinstance(repository, dict):
        raise Malformed("the body lacks action, workflow_job or repository")
    name = repository.get("full_name")
    if not isinstance(name, str) or not parse.is_repository(name):
        raise Malformed("repository.full_name is no owner/name")
    if action not in _ACTIONS:
        return None
    try:
        job = parse.job({**item, "status": _status(action, item)}, scope="", repository=name, run_id=0, seen_at=seen_at)
    except ValueError as error:
        raise Malformed(f"workflow_job: {error}") from None
    if job.run_id == 0:
        raise Malformed("workflow_job: run_id is no positive integer")
    return JobNews(action, name, replace(job, origin=_origin(action, item, repository, value.get("sender"))))


def _status(action: str, item: dict[str, Any]) -> str:
    """The action's status, or the body's where it is further along already."""
    said = item.get("status")
    status = JobStatus(said) if isinstance(said, str) else JobStatus.UNKNOWN
    return max(_ACTIONS[action], status, key=rank).value


def _origin(action: str, item: dict[str, Any], repository: dict[str, Any], sender: object) -> Origin:
    branch = item.get("head_branch")
    login = sender.get("login") if isinstance(sender, dict) else None
    forks = repository.get("forks_count")
    return Origin(
        branch=parse.sound(branch) if isinstance(branch, str) else None,
        # Later actions are sent by whoever ended or approved the job.
        actor=parse.sound(login) if action == "queued" and isinstance(login, str) else None,
        # Where there is no fork, no head can lie in one. Forbidding new forks does not remove those there are.
        fork=False if type(forks) is int and forks == 0 else None,
    )


def repository_of(scope: Scope, full_name: str) -> str | None:
    """The repository as listings of the scope call it; None where it is not the scope's."""
    name = full_name.lower()
    match scope.kind:
        case ScopeKind.REPOSITORY:
            return scope.path if name == scope.path.lower() else None
        case ScopeKind.ORGANISATION if not scope.repositories:
            return name if name.partition("/")[0] == scope.path.lower() else None
        case _:
            return name if name in scope.repositories else None
