"""GitHub Apps: their keys and installations, the word they sign (a JSON web token), the tokens they are given."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from slurm_gha.testing.github.accounts import Accounts
from slurm_gha.testing.github.errors import Denied, NotThere, Unauthorised, Unprocessable
from slurm_gha.testing.github.values import Organisation, Repository, Token

TOKEN_LIFETIME = 3600.0
LONGEST_ASSERTION = 600.0
"""Seconds from now that an App's word may hold (docs.github.com, "Generating a JSON web token for a GitHub App")."""

UNDECODABLE = "A JSON web token could not be decoded"
ISSUED_LATER = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
EXPIRED = (
    "'Expiration time' claim ('exp') must be a numeric value representing "
    "the future time at which the assertion expires"
)
TOO_LONG = "'Expiration time' claim ('exp') is too far in the future"
SUSPENDED = "This installation has been suspended"
_LEVELS = ("read", "write", "admin")


@dataclass(slots=True, eq=False)
class SimApp:
    """An App. ``keys`` are the public halves of its private keys; ``principal`` stands for it in limits."""

    id: int
    client_id: str
    slug: str
    owner: Organisation
    permissions: dict[str, str]
    created_at: float
    principal: Token
    keys: list[Any] = field(default_factory=list, repr=False)


@dataclass(slots=True, eq=False)
class SimInstallation:
    """An App on an account. ``selected``: the repositories (lower case) it may see; None: all of the account's."""

    id: int
    app: SimApp
    account: Organisation
    permissions: dict[str, str]
    selected: frozenset[str] | None
    created_at: float
    suspended_at: float | None = None
    limit_per_hour: int = 5000

    def covers(self, repository: Repository) -> bool:
        """Whether the repository is the account's, and selected."""
        if repository.owner is not self.account:
            return False
        return self.selected is None or repository.full_name.lower() in self.selected


def new_key() -> tuple[str, str]:
    """A fresh pair of PEM texts: the private key as GitHub hands it out, and the public one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


class Apps:
    """All Apps and installations of one GitHub; their tokens are among its tokens."""

    def __init__(self, accounts: Accounts, chance: random.Random) -> None:
        self._accounts = accounts
        self._clock = accounts.clock
        self._chance = chance
        self.apps: dict[int, SimApp] = {}
        self.installations: dict[int, SimInstallation] = {}

    # What owners do on GitHub's pages

    def add(self, slug: str, public_key: str, *, owner: str, permissions: Mapping[str, str]) -> SimApp:
        """An App of an organisation, with its first key."""
        number = 1001 + len(self.apps)
        principal = Token(
            text=f"app {number}",
            name=f"app {slug}",
            login=f"{slug}[bot]",
            scopes=None,
            permissions={},
            repositories=frozenset(),
            organisations=frozenset(),
            limit_per_hour=5000,
            app=number,
        )
        app = SimApp(
            id=number,
            client_id=f"Iv23li{number:014d}",
            slug=slug,
            owner=self._accounts.add_organisation(owner),
            permissions={"metadata": "read", **permissions},
            created_at=self._clock.now(),
            principal=principal,
        )
        self.apps[number] = app
        self.add_key(number, public_key)
        return app

    def add_key(self, app: int, public_key: str) -> None:
        self.apps[app].keys.append(serialization.load_pem_public_key(public_key.encode()))

    def remove_key(self, app: int, index: int = 0) -> None:
        """A private key is deleted on the App's page: what it signs is worth nothing."""
        del self.apps[app].keys[index]

    def install(
        self,
        app: int,
        account: str,
        *,
        repositories: Sequence[str] | None = None,
        permissions: Mapping[str, str] | None = None,
        limit_per_hour: int = 5000,
    ) -> SimInstallation:
        """Install an App on an organisation or user (``octo``) or on an enterprise (``enterprises/firm``).

        ``permissions``: what was granted, where that is not (or no longer) what the App asks for.
        """
        kind, _, slug = account.lower().rpartition("/")
        owner = (self._accounts.enterprises if kind == "enterprises" else self._accounts.organisations).get(slug)
        if owner is None:
            raise NotThere(f"no account {account}")
        if self._on(app, owner) is not None:
            raise Unprocessable(f"the App is installed on {account} already")
        granted = self.apps[app].permissions if permissions is None else {"metadata": "read", **permissions}
        selected = None if repositories is None else frozenset(name.lower() for name in repositories)
        number = 50_001 + max((number - 50_000 for number in self.installations), default=0)
        installation = SimInstallation(
            id=number,
            app=self.apps[app],
            account=owner,
            permissions=dict(granted),
            selected=frozenset() if kind == "enterprises" else selected,
            created_at=self._clock.now(),
            limit_per_hour=limit_per_hour,
        )
        self.installations[number] = installation
        return installation

    def suspend(self, installation: int, *, suspended: bool = True) -> None:
        """Suspend an installation, or let it go on."""
        self.installations[installation].suspended_at = self._clock.now() if suspended else None

    def uninstall(self, installation: int) -> None:
        """Remove an installation; its tokens go with it."""
        del self.installations[installation]
        self.revoke(installation)

    def revoke(self, installation: int) -> None:
        """Every token of an installation stops working."""
        tokens = self._accounts.tokens
        for text in [text for text, token in tokens.items() if token.installation == installation]:
            del tokens[text]

    # What Apps do

    def signed_by(self, text: str) -> SimApp:
        """The App that signed the word; Unauthorised, in GitHub's words, where it proves nothing."""
        try:
            claimed = jwt.decode(text, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            raise Unauthorised(UNDECODABLE) from None
        issuer = str(claimed.get("iss", ""))
        app = next((each for each in self.apps.values() if issuer in (str(each.id), each.client_id)), None)
        if app is None or not any(_signed(text, key) for key in app.keys):
            raise Unauthorised(UNDECODABLE)
        now, issued, expires = self._clock.now(), claimed.get("iat"), claimed.get("exp")
        if not isinstance(issued, int) or issued > now:
            raise Unauthorised(ISSUED_LATER)
        if not isinstance(expires, int | float) or expires <= now:
            raise Unauthorised(EXPIRED)
        if expires > now + LONGEST_ASSERTION:
            raise Unauthorised(TOO_LONG)
        return app

    def of(self, app: int) -> list[SimInstallation]:
        """The App's installations, oldest first."""
        return [each for each in self.installations.values() if each.app.id == app]

    def told_of(self, repository: Repository) -> list[SimInstallation]:
        """The installations whose Apps' hooks hear of the repository's jobs.

        Source: docs.github.com, "Webhook events and payloads" (``workflow_job``: Actions, read), "Suspending a GitHub
        App installation".
        """
        return [
            each
            for each in self.installations.values()
            if each.suspended_at is None and "actions" in each.permissions and each.covers(repository)
        ]

    def find(self, app: int, installation: int) -> SimInstallation:
        """An installation of the App itself; others' do not exist for it."""
        found = self.installations.get(installation)
        if found is None or found.app.id != app:
            raise NotThere("Not Found")
        return found

    def on_account(self, app: int, account: Organisation | None) -> SimInstallation:
        """The App's installation on an account."""
        found = None if account is None else self._on(app, account)
        if found is None:
            raise NotThere("Not Found")
        return found

    def issue(
        self,
        installation: SimInstallation,
        *,
        repositories: Sequence[str] | None = None,
        permissions: Mapping[str, str] | None = None,
    ) -> Token:
        """A token for an hour; narrowed to some repositories (names without the owner) and permissions on wish."""
        if installation.suspended_at is not None:
            raise Denied(SUSPENDED)
        now, tokens = self._clock.now(), self._accounts.tokens
        for text in [text for text, token in tokens.items() if token.expires_at is not None and token.expires_at < now]:
            del tokens[text]
        selected = installation.selected
        if repositories is not None:
            selected = frozenset(f"{installation.account.login}/{name}".lower() for name in repositories)
            known = self._accounts.repositories
            if not all(name in known and installation.covers(known[name]) for name in selected):
                raise Unprocessable(
                    "There is at least one repository that does not exist or is not accessible to the parent "
                    "installation."
                )
        granted = dict(installation.permissions)
        if permissions is not None:
            for name, level in permissions.items():
                if level not in _LEVELS or _LEVELS.index(level) > _LEVELS.index(granted.get(name, "read")):
                    raise Unprocessable("The permissions requested are not granted to this installation.")
                if name not in granted:
                    raise Unprocessable("The permissions requested are not granted to this installation.")
            granted = {"metadata": "read", **permissions}
        token = Token(
            text=f"ghs_{installation.app.id}_{self._chance.getrandbits(320):080x}.{self._chance.getrandbits(160):040x}",
            name=f"installation {installation.id}",
            login=f"{installation.app.slug}[bot]",
            scopes=None,
            permissions=granted,
            repositories=selected,
            organisations=frozenset({installation.account.login.lower()}),
            limit_per_hour=installation.limit_per_hour,
            installation=installation.id,
            expires_at=now + TOKEN_LIFETIME,
        )
        tokens[token.text] = token
        return token

    def check(self, token: Token) -> None:
        """Raises Unauthorised for a token that has expired, Denied for one of a suspended installation."""
        if token.expires_at is not None and token.expires_at <= self._clock.now():
            raise Unauthorised("Bad credentials")
        installation = self.installations.get(token.installation or 0)
        if installation is not None and installation.suspended_at is not None:
            raise Denied(SUSPENDED)

    def _on(self, app: int, account: Organisation) -> SimInstallation | None:
        return next((each for each in self.of(app) if each.account is account), None)


def _signed(text: str, key: Any) -> bool:
    options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_iss": False, "verify_aud": False}
    try:
        jwt.decode(text, key, algorithms=["RS256"], options=options)  # type: ignore[arg-type]
    except jwt.InvalidTokenError:
        return False
    return True
