"""What a token may see and do. Pure.

Classic tokens carry scopes, fine-grained ones permissions by name; the names needed are those GitHub's documentation
gives for each call.
"""

from __future__ import annotations

from dataclasses import dataclass

from slurm_gha.testing.github.errors import Denied, NotThere
from slurm_gha.testing.github.values import Repository, Token

_LEVELS = {"read": 1, "write": 2, "admin": 3}


@dataclass(frozen=True, slots=True)
class Need:
    """What a call asks of a token: a classic scope, or a permission and its level."""

    scopes: tuple[str, ...]
    permission: str
    level: str

    @property
    def accepted(self) -> str:
        """The text of X-Accepted-GitHub-Permissions."""
        return f"{self.permission}={self.level}"


SEE_REPOSITORY = Need(("repo",), "metadata", "read")
READ_RUNS = Need(("repo",), "actions", "read")
CHANGE_RUNS = Need(("repo",), "actions", "write")
READ_REPOSITORY_RUNNERS = Need(("repo",), "administration", "read")
CHANGE_REPOSITORY_RUNNERS = Need(("repo",), "administration", "write")
READ_ORGANISATION_RUNNERS = Need(("admin:org", "manage_runners:org"), "organization_self_hosted_runners", "read")
CHANGE_ORGANISATION_RUNNERS = Need(("admin:org", "manage_runners:org"), "organization_self_hosted_runners", "write")
ENTERPRISE_RUNNERS = Need(("manage_runners:enterprise", "admin:enterprise"), "enterprise_self_hosted_runners", "write")


def has(token: Token, need: Need) -> bool:
    """Whether the token has what is needed, whatever it may see."""
    if token.scopes is not None:
        return any(scope in token.scopes for scope in need.scopes)
    held = "read" if need.permission == "metadata" else token.permissions.get(need.permission, "")
    return _LEVELS.get(held, 0) >= _LEVELS[need.level]


def sees(token: Token, repository: Repository) -> bool:
    """Whether the repository exists for the token."""
    if not repository.private:
        return True
    if token.repositories is not None and repository.full_name.lower() not in token.repositories:
        return False
    if token.repositories is None and token.organisations is not None:
        return repository.owner.login.lower() in token.organisations
    return token.scopes is None or "repo" in token.scopes


def check_repository(token: Token, repository: Repository, need: Need) -> None:
    """Raises NotThere for what is hidden, Denied for what is seen but not allowed."""
    if not sees(token, repository):
        raise NotThere("Not Found")
    if repository.private or need not in (SEE_REPOSITORY, READ_RUNS):  # anybody may read those of a public one
        if not _covers(token, repository):
            raise _denied(token, need)
        _check(token, need)


def check_organisation(token: Token, login: str, need: Need) -> None:
    """The same for an organisation: one that the token was not made for is hidden."""
    if token.organisations is not None and login.lower() not in token.organisations:
        raise NotThere("Not Found")
    _check(token, need)


def check_enterprise(token: Token) -> None:
    """Enterprises take classic tokens alone (docs.github.com, REST reference of self-hosted runners)."""
    if token.scopes is None:
        raise _denied(token, ENTERPRISE_RUNNERS)
    if not has(token, ENTERPRISE_RUNNERS):
        raise NotThere("Not Found")


def _check(token: Token, need: Need) -> None:
    if has(token, need):
        return
    if token.scopes is None:
        raise _denied(token, need)
    raise Denied(f"Must have admin rights: needs one of the scopes {', '.join(need.scopes)}")


def _covers(token: Token, repository: Repository) -> bool:
    """Whether a token that names repositories or organisations means this one: public ones are seen by all."""
    if token.repositories is not None:
        return repository.full_name.lower() in token.repositories
    return token.organisations is None or repository.owner.login.lower() in token.organisations


def _denied(token: Token, need: Need) -> Denied:
    kind = "personal access token" if token.installation is None else "integration"
    return Denied(f"Resource not accessible by {kind}", needs=need.accepted if need is not ENTERPRISE_RUNNERS else None)
