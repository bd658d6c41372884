"""Apps, installations and their tokens as REST shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slurm_gha.testing.github import render
from slurm_gha.testing.github.apps import SimApp, SimInstallation
from slurm_gha.testing.github.values import Organisation, Repository, Token

EVENTS = ("workflow_job",)
_IN_FULL_ONLY = frozenset({"network_count", "subscribers_count"})


def app(url: str, found: SimApp, installations: int) -> dict[str, Any]:
    """An App, as it sees itself."""
    return {
        "id": found.id,
        "client_id": found.client_id,
        "slug": found.slug,
        "node_id": f"A_{found.id}",
        "owner": render.owner(url, found.owner),
        "name": found.slug,
        "description": None,
        "external_url": f"{url}/about/{found.slug}",
        "html_url": f"{url}/apps/{found.slug}",
        "created_at": render.time(found.created_at),
        "updated_at": render.time(found.created_at),
        "permissions": dict(found.permissions),
        "events": list(EVENTS),
        "installations_count": installations,
    }


def installation(url: str, found: SimInstallation) -> dict[str, Any]:
    """An App on an account."""
    api = f"{url}/app/installations/{found.id}"
    return {
        "id": found.id,
        "client_id": found.app.client_id,
        "account": account(url, found.account),
        "repository_selection": "all" if found.selected is None else "selected",
        "access_tokens_url": f"{api}/access_tokens",
        "repositories_url": f"{url}/installation/repositories",
        "html_url": f"{url}/organizations/{found.account.login}/settings/installations/{found.id}",
        "app_id": found.app.id,
        "app_slug": found.app.slug,
        "target_id": found.account.id,
        "target_type": found.account.kind,
        "permissions": dict(found.permissions),
        "events": list(EVENTS),
        "created_at": render.time(found.created_at),
        "updated_at": render.time(found.created_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": None if found.suspended_at is None else render.user(url, "octocat", 583231),
        "suspended_at": render.time(found.suspended_at),
    }


def account(url: str, found: Organisation) -> dict[str, Any]:
    """An account; an enterprise has a slug where others have a login."""
    if found.kind != "Enterprise":
        return render.owner(url, found)
    return {
        "id": found.id,
        "slug": found.login,
        "name": found.login,
        "node_id": f"E_{found.id}",
        "description": None,
        "website_url": None,
        "avatar_url": f"{url}/avatars/{found.id}",
        "html_url": f"{url}/enterprises/{found.login}",
        "created_at": None,
        "updated_at": None,
    }


def token(url: str, found: Token, repositories: Sequence[Repository]) -> dict[str, Any]:
    """A token just made: the only time that it is shown."""
    shown: dict[str, Any] = {
        "token": found.text,
        "expires_at": render.time(found.expires_at),
        "permissions": dict(found.permissions),
        "repository_selection": "all" if found.repositories is None else "selected",
    }
    if found.repositories is not None:
        shown["repositories"] = [repository(url, each) for each in repositories]
    return shown


def repository(url: str, found: Repository) -> dict[str, Any]:
    """A repository as an installation sees it."""
    full = render.repository(url, found)
    return {name: value for name, value in full.items() if name not in _IN_FULL_ONLY} | {"has_downloads": False}
