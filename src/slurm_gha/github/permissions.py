"""What a token may do, found out without side effects, by the names that GitHub's settings pages use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.github import wire
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import NotInstalled
from slurm_gha.github.values import Installed

# Classic scopes that allow managing runners, the one to ask for first.
# Source: docs.github.com, "Scopes for OAuth apps"; REST reference of self-hosted runners.
_CLASSIC = {
    ScopeKind.REPOSITORY: ("repo",),
    ScopeKind.ORGANISATION: ("admin:org", "manage_runners:org"),
    ScopeKind.ENTERPRISE: ("manage_runners:enterprise", "admin:enterprise"),
}
# The same for fine-grained tokens and Apps: GitHub's name in REST, and on its settings pages.
# Source: docs.github.com, "Permissions required for GitHub Apps" and "… for fine-grained personal access tokens".
_RUNNERS = {
    ScopeKind.REPOSITORY: ("administration", "repository permission Administration"),
    ScopeKind.ORGANISATION: ("organization_self_hosted_runners", "organisation permission Self-hosted runners"),
}
_ACTIONS = ("actions", "repository permission Actions")
_LEVELS = ("read", "write", "admin")
_ENTERPRISE_ONLY = (
    "GitHub's calls for runners of an enterprise take neither GitHub Apps nor fine-grained tokens; "
    "use a classic token, or serve the organisations one by one"
)
LIST, MANAGE = "list runners", "register and remove runners"
MOST_LOOKED_AT = 50
"""Repositories of a scope that are looked at one by one, to tell whether the App may see them."""


class Standing(StrEnum):
    """UNKNOWN: this kind of token does not tell before it is used."""

    GRANTED = "granted"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Permission:
    """One permission by the names GitHub's settings pages use, what it is for, and whether the holder has it."""

    name: str
    purpose: str
    standing: Standing
    detail: str = ""
    holder: str = "token"


async def permissions(
    client: GitHubClient, scope: Scope, prefix: str, repository: str | None
) -> tuple[Permission, ...]:
    """The permissions that serving the scope takes. ``repository``: one of its repositories, to read runs of.

    Raises GitHubError: Forbidden where nothing can be told for the token is refused, NotInstalled for an App;
    GitHubUnavailable and RateLimited, which say nothing about permissions.
    """
    if client.installed is not None:
        return await _of_app(client, scope, prefix)
    answer = await _look(client, f"{prefix}/actions/runners?per_page=1")
    refusal = _refusal(f"{prefix}/actions/runners", answer)
    scopes = classic_scopes(answer)
    found = _of_classic(scope.kind, scopes, refusal) if scopes is not None else _of_fine_grained(scope.kind, refusal)
    if repository is not None:
        path = f"/repos/{repository}/actions/runs"
        refusal = _refusal(path, await _look(client, f"{path}?per_page=1"))
        name = f"{_ACTIONS[1]}: read" if scopes is None else "scope repo"
        found.append(_by_read(name, _see(repository), refusal))
    return tuple(found)


def classic_scopes(answer: wire.Answer) -> frozenset[str] | None:
    """The scopes of a classic token (X-OAuth-Scopes); None for other tokens, whose answers lack the header."""
    header = answer.headers.get("x-oauth-scopes")
    return None if header is None else frozenset(word.strip() for word in header.split(",") if word.strip())


def _of_classic(kind: ScopeKind, scopes: frozenset[str], refusal: str) -> list[Permission]:
    name = f"scope {_CLASSIC[kind][0]}"
    has = f"the token's scopes are: {wire.clean(', '.join(sorted(scopes))) or 'none'}"
    enough = not scopes.isdisjoint(_CLASSIC[kind])
    if refusal:
        # With the scope, it is the user who may not, or the thing that is not there.
        detail = refusal if enough else f"{refusal}; {has}"
        return [Permission(name, purpose, Standing.MISSING, detail) for purpose in (LIST, MANAGE)]
    managing = Permission(name, MANAGE, Standing.GRANTED) if enough else Permission(name, MANAGE, Standing.MISSING, has)
    return [Permission(name, LIST, Standing.GRANTED), managing]


def _of_fine_grained(kind: ScopeKind, refusal: str) -> list[Permission]:
    if kind is ScopeKind.ENTERPRISE:
        name = f"scope {_CLASSIC[kind][0]} of a classic token"
        if refusal:
            return [Permission(name, MANAGE, Standing.MISSING, f"{_ENTERPRISE_ONLY}; {refusal}")]
        return [Permission(name, LIST, Standing.GRANTED), Permission(name, MANAGE, Standing.UNKNOWN, _ENTERPRISE_ONLY)]
    _, name = _RUNNERS[kind]
    if refusal:
        missing = Permission(f"{name}: write", MANAGE, Standing.MISSING, refusal)
        return [_by_read(f"{name}: read", LIST, refusal), missing]
    detail = "a fine-grained token does not tell before it is used"
    return [
        Permission(f"{name}: read", LIST, Standing.GRANTED),
        Permission(f"{name}: write", MANAGE, Standing.UNKNOWN, detail),
    ]


async def _of_app(client: GitHubClient, scope: Scope, prefix: str) -> tuple[Permission, ...]:
    """What the installation was granted tells everything, without trying."""
    assert client.installed is not None
    installed = await client.installed(prefix)
    if scope.kind is ScopeKind.ENTERPRISE:
        name = f"scope {_CLASSIC[scope.kind][0]} of a classic token"
        return (Permission(name, MANAGE, Standing.MISSING, _ENTERPRISE_ONLY, "App"),)
    found = [
        granted(installed, *_RUNNERS[scope.kind], "write", MANAGE),
        granted(installed, *_ACTIONS, "read", "see jobs"),
    ]
    if not installed.every_repository and scope.kind is ScopeKind.ORGANISATION:
        for repository in scope.repositories[:MOST_LOOKED_AT]:
            try:
                await client.installed(f"/repos/{quote(repository, safe='/')}")
            except NotInstalled as error:
                name = f"access to the repository {repository}"
                found.append(Permission(name, _see(repository), Standing.MISSING, str(error), "App"))
    return tuple(found)


def granted(installed: Installed, key: str, name: str, level: str, purpose: str) -> Permission:
    """Whether an installation has a permission; what it lacks is asked for on the App's page, and then accepted."""
    if _rank(installed.permissions, key) >= _LEVELS.index(level):
        return Permission(f"{name}: {level}", purpose, Standing.GRANTED, holder="App")
    has = ", ".join(f"{key} {value}" for key, value in sorted(installed.permissions.items())) or "nothing"
    detail = (
        f"add it on the App's page, Permissions & events, then accept it at {installed.url}; "
        f"granted on {installed.account}: {wire.clean(has)}"
    )
    return Permission(f"{name}: {level}", purpose, Standing.MISSING, detail, "App")


def _rank(permissions: Mapping[str, str], key: str) -> int:
    held = permissions.get(key, "")
    return _LEVELS.index(held) if held in _LEVELS else -1


async def _look(client: GitHubClient, path: str) -> wire.Answer:
    return await client.ask("GET", path, again=True)


def _refusal(path: str, answer: wire.Answer) -> str:
    """GitHub's refusal in a sentence; empty if it answered. A token that it does not know at all is an error."""
    if answer.status < 400:
        return ""
    error = wire.failure_of("GET", path, answer)
    if answer.status == 401:
        raise error
    return str(error)


def _by_read(name: str, purpose: str, refusal: str) -> Permission:
    return Permission(name, purpose, Standing.MISSING if refusal else Standing.GRANTED, refusal)


def _see(repository: str) -> str:
    return f"see the jobs of {repository}"
