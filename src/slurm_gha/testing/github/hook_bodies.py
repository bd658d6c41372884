"""What the simulated GitHub's webhooks send: bodies as GitHub's webhook description has them, and their headers."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github import render
from slurm_gha.testing.github.values import Organisation, Repository, SimJob

_TARGETS = {"repos": "repository", "orgs": "organization", "app": "integration"}


def headers(hook_id: int, owner: str, event: str, body: bytes, secret: Secret | None) -> dict[str, str]:
    """The headers of a delivery, but for its GUID, which the sender adds."""
    kind, _, target = owner.partition("/")
    found = {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/51a0042",
        "accept": "*/*",
        "x-github-event": event,
        "x-github-hook-id": str(hook_id),
        "x-github-hook-installation-target-type": _TARGETS[kind],
        "x-github-hook-installation-target-id": target if kind == "app" else "1",
    }
    if secret is not None:
        key = secret.reveal().encode()
        found["x-hub-signature"] = "sha1=" + hmac.new(key, body, hashlib.sha1).hexdigest()
        found["x-hub-signature-256"] = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
    return found


def workflow_job(url: str, action: str, job: SimJob, *, installation: int | None = None) -> dict[str, Any]:
    """The body of a ``workflow_job`` delivery."""
    item = render.job(url, job)
    if job.status != "in_progress" and job.status != "completed":
        item |= dict.fromkeys(("runner_id", "runner_name", "runner_group_id", "runner_group_name"))
    owner = job.repository.owner
    body: dict[str, Any] = {
        "action": action,
        "workflow_job": item,
        "repository": repository(url, job.repository),
        "sender": render.user(url, job.run.actor, 583231),
    }
    if owner.kind == "Organization":
        body["organization"] = organization(url, owner)
    if installation is not None:
        body["installation"] = {"id": installation, "node_id": f"MDI_{installation}"}
    return body


def ping(url: str, hook_id: int, owner: str, target: str, events: Sequence[str]) -> dict[str, Any]:
    """The body of a ping."""
    kind = {"repos": "Repository", "orgs": "Organization", "app": "App"}[owner.partition("/")[0]]
    here = f"{url}/app/hook" if kind == "App" else f"{url}/{owner}/hooks/{hook_id}"
    return {
        "zen": "Keep it logically awesome.",
        "hook_id": hook_id,
        "hook": {
            "type": kind,
            "id": hook_id,
            "name": "web",
            "active": True,
            "events": list(events),
            "config": {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": target},
            "updated_at": "2026-01-01T00:00:00Z",
            "created_at": "2026-01-01T00:00:00Z",
            "url": here,
            "test_url": f"{here}/test",
            "ping_url": f"{here}/pings",
            "deliveries_url": f"{here}/deliveries",
            "last_response": {"code": None, "status": "unused", "message": None},
        },
    }


def repository(url: str, found: Repository) -> dict[str, Any]:
    """A repository as deliveries show it: no permissions of the reader's, and a few fields more."""
    shown = render.repository(url, found)
    for key in ("permissions", "subscribers_count", "network_count"):
        shown.pop(key, None)
    return {
        **shown,
        "allow_forking": True,
        "is_template": False,
        "topics": [],
        "has_downloads": True,
        "web_commit_signoff_required": False,
        "custom_properties": {},
    }


def organization(url: str, account: Organisation) -> dict[str, Any]:
    """An organisation in short."""
    here = f"{url}/orgs/{account.login}"
    return {
        "login": account.login,
        "id": account.id,
        "node_id": f"O_{account.id}",
        "url": here,
        "repos_url": f"{here}/repos",
        "events_url": f"{here}/events",
        "hooks_url": f"{here}/hooks",
        "issues_url": f"{here}/issues",
        "members_url": f"{here}/members{{/member}}",
        "public_members_url": f"{here}/public_members{{/member}}",
        "avatar_url": f"{url}/avatars/{account.id}",
        "description": None,
    }
