"""Who and what there is on the simulated GitHub: organisations, enterprises, repositories, tokens."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from slurm_gha.domain.clock import Clock
from slurm_gha.testing.github import workflows
from slurm_gha.testing.github.errors import NotThere, Unprocessable
from slurm_gha.testing.github.values import Organisation, Repository, Token


class Accounts:
    """Accounts by their name in lower case, tokens by their text."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self.clock = clock
        self.organisations: dict[str, Organisation] = {}
        self.repositories: dict[str, Repository] = {}
        self.enterprises: dict[str, Organisation] = {}
        self.tokens: dict[str, Token] = {}
        self._chance = chance
        self._members: dict[str, frozenset[str]] = {}
        self._scopes: dict[int, frozenset[str]] = {}

    def add_organisation(self, login: str, *, kind: str = "Organization") -> Organisation:
        """An organisation, or a user (``kind="User"``). One that exists already is given back."""
        known = self.organisations.get(login.lower())
        if known is None:
            known = Organisation(len(self.organisations) + 1, login, kind)
            self.organisations[login.lower()] = known
        return known

    def add_enterprise(self, slug: str, organisations: Sequence[str]) -> None:
        """An enterprise with the organisations it owns."""
        self.enterprises[slug.lower()] = Organisation(len(self.enterprises) + 1, slug, "Enterprise")
        self._members[slug.lower()] = frozenset(login.lower() for login in organisations)
        self._scopes.clear()

    def add_repository(
        self,
        full_name: str,
        files: Mapping[str, str],
        *,
        private: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> Repository:
        """A repository whose default branch holds ``files``; raises WorkflowError for a bad workflow."""
        login, _, name = full_name.partition("/")
        if full_name.lower() in self.repositories:
            raise Unprocessable(f"{full_name} exists already")
        for path, text in workflow_files(files).items():
            workflows.parse(path, text)
        repository = Repository(
            id=len(self.repositories) + 1,
            owner=self.add_organisation(login),
            name=name,
            files=dict(files),
            created_at=self.clock.now(),
            private=private,
            pushed_at=self.clock.now(),
            sha=self.sha(),
            variables=dict(variables or {}),
        )
        self.repositories[full_name.lower()] = repository
        return repository

    def add_token(
        self,
        text: str,
        *,
        name: str | None = None,
        login: str = "octocat",
        scopes: Sequence[str] | None = None,
        permissions: Mapping[str, str] | None = None,
        repositories: Sequence[str] | None = None,
        organisations: Sequence[str] | None = None,
        limit_per_hour: int = 5000,
    ) -> None:
        """A token with classic ``scopes`` or fine-grained ``permissions``; with neither it may do all."""
        if scopes is None and permissions is None:
            scopes = ("repo", "admin:org", "admin:org_hook", "manage_runners:enterprise", "workflow")
        self.tokens[text] = Token(
            text=text,
            name=name or f"token-{len(self.tokens) + 1}",
            login=login,
            scopes=None if scopes is None else tuple(scopes),
            permissions=dict(permissions or {}),
            repositories=None if repositories is None else frozenset(name.lower() for name in repositories),
            organisations=None if organisations is None else frozenset(login.lower() for login in organisations),
            limit_per_hour=limit_per_hour,
        )

    def repository(self, full_name: str) -> Repository:
        found = self.repositories.get(full_name.lower())
        if found is None:
            raise NotThere(f"no repository {full_name}")
        return found

    def scope_owner(self, scope: str) -> Organisation:
        """The account whose runner groups count in a scope (lower case); NotThere when there is no such scope."""
        kind, _, path = scope.partition("/")
        if kind == "repos" and path in self.repositories:
            return self.repositories[path].owner
        accounts = {"orgs": self.organisations, "enterprises": self.enterprises}.get(kind, {})
        if path not in accounts:
            raise NotThere(f"no {scope}")
        return accounts[path]

    def scopes_of(self, repository: Repository) -> frozenset[str]:
        """Every scope whose runners may take the repository's jobs."""
        found = self._scopes.get(repository.id)
        if found is None:
            login = repository.owner.login.lower()
            enterprises = [f"enterprises/{slug}" for slug, members in self._members.items() if login in members]
            found = frozenset([f"repos/{repository.full_name.lower()}", f"orgs/{login}", *enterprises])
            self._scopes[repository.id] = found
        return found

    def sha(self) -> str:
        """A commit's name, from the seed."""
        return f"{self._chance.getrandbits(160):040x}"


def workflow_files(files: Mapping[str, str]) -> dict[str, str]:
    """The workflow files among a repository's files, in order of their paths."""
    return {
        path: text
        for path, text in sorted(files.items())
        if path.startswith(".github/workflows/") and path.endswith((".yml", ".yaml"))
    }
