"""From the scopes of a configuration to clients: one for each account at GitHub that is asked on somebody's behalf."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2

from slurm_gha.config.schema import ScopeSettings
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.scope import Scope
from slurm_gha.domain.secret import Secret
from slurm_gha.github.app import App
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import GitHubUnavailable
from slurm_gha.github.installation import Installation, account_of
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.github.scaleset.connection import Connection
from slurm_gha.github.scope import ScopeClient


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all scopes of a group use: those with the same token, or the same installation of an App."""

    names: tuple[str, ...]
    http: httpx2.AsyncClient
    client: GitHubClient
    installation: Installation | None = None


class GitHubClients:
    """The clients of all scopes; made by :func:`github_clients`. Names are the scopes' names in the configuration."""

    def __init__(self, tables: Sequence[ScopeSettings], secrets: Mapping[str, Secret], clock: Clock) -> None:
        self._tables = {table.name: table for table in tables}
        self._scopes = {table.name: table.scope() for table in tables}
        self._secrets = dict(secrets)
        self._clock = clock
        self._groups: list[_Shared] = []
        self._apps: dict[Hashable, App] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The scopes in the configuration's order."""
        return tuple(self._scopes)

    def scope(self, name: str, *, repositories_max_age: float = 300.0) -> ScopeClient:
        """A client of one scope, for :class:`~slurm_gha.github.scope.ScopeClient`'s purposes."""
        return ScopeClient(self.client(name), self._scopes[name], repositories_max_age=repositories_max_age)

    def client(self, name: str) -> GitHubClient:
        """Plain REST with the scope's token."""
        return self._group(name).client

    def app(self, name: str) -> App | None:
        """The App that a scope signs in as, for calls that only the App itself may make; None with a token."""
        installation = self._group(name).installation
        return None if installation is None else installation.app

    def scale_sets(self, name: str) -> ScaleSetClient:
        """The scope's scale sets, over the same connections: the service that keeps them has a host of its own."""
        group = self._group(name)
        return ScaleSetClient(Connection(group.http, group.client, self._scopes[name], self._clock))

    def take(self, tables: Sequence[ScopeSettings], secrets: Mapping[str, Secret]) -> frozenset[str]:
        """Use changed tokens and keys from now on, of the scopes that are known.

        Gives the scopes that go on as before until a restart: those whose address, App or proxy changed, and those
        that shared a token with others and do not any longer.
        """
        known = {table.name: table for table in tables if table.name in self._scopes}
        held_back = {name for name, table in known.items() if _entrance(table) != _entrance(self._tables[name])}
        changed = {name for name in known if name not in held_back and secrets[name] != self._secrets[name]}
        self._secrets.update({name: secrets[name] for name in changed})
        for group in self._groups:
            if group.installation is not None and changed.intersection(group.names):
                group.installation.retry()
            first = self._secrets[group.names[0]]
            held_back.update(name for name in group.names[1:] if self._secrets[name] != first)
        return frozenset(held_back)

    def add(self, http: httpx2.AsyncClient, tables: Sequence[ScopeSettings]) -> None:
        """Scopes that share a token or an installation."""
        scopes = [self._scopes[table.name] for table in tables]
        names = tuple(scope.name for scope in scopes)
        self._groups.append(self._shared(http, tables, scopes, names))

    def _shared(
        self, http: httpx2.AsyncClient, tables: Sequence[ScopeSettings], scopes: Sequence[Scope], names: tuple[str, ...]
    ) -> _Shared:
        api_url, secret = scopes[0].api_url, self._current(names[0])
        issuer = tables[0].app_id
        if issuer is None:

            async def token() -> Secret:
                return secret()

            return _Shared(names, http, GitHubClient(http, api_url, token, self._clock))
        key = (_way(tables[0]), api_url, issuer, secret().digest())
        if key not in self._apps:
            self._apps[key] = App(http, api_url, issuer, secret, self._clock)
        number = next((table.installation_id for table in tables if table.installation_id is not None), None)
        installation = Installation(self._apps[key], scopes, self._clock, number=number)
        client = GitHubClient(
            http,
            api_url,
            installation.token,
            self._clock,
            refused=installation.refused,
            installed=installation.installed,
        )
        return _Shared(names, http, client, installation)

    def _current(self, name: str) -> Callable[[], Secret]:
        return lambda: self._secrets[name]

    def _group(self, name: str) -> _Shared:
        return next(group for group in self._groups if name in group.names)


@asynccontextmanager
async def github_clients(
    tables: Sequence[ScopeSettings], secrets: Mapping[str, Secret], clock: Clock
) -> AsyncIterator[GitHubClients]:
    """Clients for the scopes of a configuration, closed at the end. ``secrets``: the token or private key of each.

    Raises GitHubUnavailable if a certificate authority cannot be read.
    """
    groups: dict[Hashable, list[ScopeSettings]] = {}
    for table in tables:
        groups.setdefault(_identity(table, secrets[table.name]), []).append(table)
    clients = GitHubClients(tables, secrets, clock)
    ways: dict[Hashable, httpx2.AsyncClient] = {}
    async with AsyncExitStack() as stack:
        for group in groups.values():
            way = _way(group[0])
            if way not in ways:
                ways[way] = await stack.enter_async_context(_http(group[0]))
            clients.add(ways[way], group)
        yield clients


def _identity(table: ScopeSettings, secret: Secret) -> Hashable:
    """The same for scopes that share a budget."""
    scope = table.scope()
    account = None if table.app_id is None else account_of(scope)
    return (_way(table), scope.api_url, secret.digest(), table.app_id, account)


def _entrance(table: ScopeSettings) -> Hashable:
    """What of a scope cannot change while its client lives."""
    return (table.scope(), _way(table), table.app_id, table.installation_id)


def _way(table: ScopeSettings) -> Hashable:
    """The same for scopes that reach GitHub by the same connections."""
    return (table.ca_file, table.proxy)


def _http(table: ScopeSettings) -> httpx2.AsyncClient:
    """Connections; without a proxy of its own, HTTPS_PROXY and NO_PROXY in the environment count."""
    try:
        verify = ssl.create_default_context(cafile=table.ca_file) if table.ca_file is not None else True
    except OSError as error:
        raise GitHubUnavailable(f"not asked, since {table.ca_file} holds no certificate: {error}") from None
    return httpx2.AsyncClient(verify=verify, proxy=table.proxy)
