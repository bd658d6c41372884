"""The repository, organisation or enterprise that pools serve."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Where news of a scope's demand comes from. With another one beside it, the poll is the slow backstop."""

    POLL = "poll"
    WEBHOOK = "webhook"
    SCALESET = "scaleset"


class ScopeKind(StrEnum):
    REPOSITORY = "repository"
    ORGANISATION = "organisation"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where runners are registered.

    ``path`` is what follows the host in the config URL: ``owner/name``, ``org`` or ``enterprises/slug``.
    ``repositories`` (``owner/name``, lower-case) limits an organisation to those; empty means all of them.
    ``sources``: where news of demand comes from; at least one.
    """

    name: str
    url: str
    api_url: str
    kind: ScopeKind
    path: str
    repositories: tuple[str, ...] = ()
    sources: frozenset[Source] = frozenset({Source.POLL})

    @property
    def pushed(self) -> bool:
        """Whether news comes by itself, so that polling is only what catches the losses."""
        return self.sources != {Source.POLL}

    @property
    def api_prefix(self) -> str:
        """The REST prefix of this scope, e.g. ``/repos/o/r`` or ``/orgs/o``."""
        match self.kind:
            case ScopeKind.REPOSITORY:
                return f"/repos/{self.path}"
            case ScopeKind.ORGANISATION:
                return f"/orgs/{self.path}"
            case ScopeKind.ENTERPRISE:
                return f"/{self.path}"
