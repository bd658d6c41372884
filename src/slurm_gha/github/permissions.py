"""What a token may do, found out without side effects: reads, and what GitHub says of the token in their headers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.github import wire
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import Forbidden, NotFound

# Classic scopes that allow managing runners, the one to ask for first.
# Source: docs.github.com, "Scopes for OAuth apps"; REST reference of self-hosted runners.
_CLASSIC = {
    ScopeKind.REPOSITORY: ("repo",),
    ScopeKind.ORGANISATION: ("admin:org", "manage_runners:org"),
    ScopeKind.ENTERPRISE: ("manage_runners:enterprise", "admin:enterprise"),
}
_FINE = {
    ScopeKind.REPOSITORY: "repository permission Administration",
    ScopeKind.ORGANISATION: "organisation permission Self-hosted runners",
    ScopeKind.ENTERPRISE: "enterprise permission Self-hosted runners",
}


class Standing(StrEnum):
    """UNKNOWN: this kind of token does not tell before it is used."""

    GRANTED = "granted"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Permission:
    """One permission by the names GitHub's settings pages use, what it is for, and whether the token has it."""

    name: str
    purpose: str
    standing: Standing
    detail: str = ""


async def permissions(
    client: GitHubClient, scope: Scope, prefix: str, repository: str | None
) -> tuple[Permission, ...]:
    """The permissions that serving the scope takes. ``repository``: one of its repositories, to read runs of.

    Raises GitHubUnavailable and RateLimited, which say nothing about permissions.
    """
    fine, classic = _FINE[scope.kind], _CLASSIC[scope.kind][0]
    answer, refused = await _try(client, f"{prefix}/actions/runners?per_page=1")
    read_name, write_name = f"{fine}: read (classic token: {classic})", f"{fine}: write (classic token: {classic})"
    found = [_by_read(read_name, "list runners", refused)]
    found.append(_writing(write_name, scope.kind, answer, refused))
    if repository is not None:
        _, refused = await _try(client, f"/repos/{repository}/actions/runs?per_page=1")
        name = "repository permission Actions: read (classic token: repo)"
        found.append(_by_read(name, f"see the jobs of {repository}", refused))
    return tuple(found)


def classic_scopes(answer: wire.Answer) -> frozenset[str] | None:
    """The scopes of a classic token (X-OAuth-Scopes); None for other tokens, whose answers lack the header."""
    header = answer.headers.get("x-oauth-scopes")
    return None if header is None else frozenset(word.strip() for word in header.split(",") if word.strip())


async def _try(client: GitHubClient, path: str) -> tuple[wire.Answer | None, str]:
    try:
        return await client.look(path), ""
    except (Forbidden, NotFound) as error:
        return None, str(error)


def _by_read(name: str, purpose: str, refused: str) -> Permission:
    return Permission(name, purpose, Standing.MISSING if refused else Standing.GRANTED, refused)


def _writing(name: str, kind: ScopeKind, answer: wire.Answer | None, refused: str) -> Permission:
    purpose = "register and remove runners"
    if answer is None:
        return Permission(name, purpose, Standing.MISSING, refused)
    scopes = classic_scopes(answer)
    if scopes is None:
        return Permission(
            name, purpose, Standing.UNKNOWN, "a fine-grained or App token does not tell before it is used"
        )
    if scopes.intersection(_CLASSIC[kind]):
        return Permission(name, purpose, Standing.GRANTED)
    has = wire.clean(", ".join(sorted(scopes))) or "none"
    return Permission(name, purpose, Standing.MISSING, f"the token's scopes are: {has}")
