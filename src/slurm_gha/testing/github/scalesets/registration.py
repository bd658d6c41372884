"""Who may use the scale-set service: registration tokens become its URL and an admin token; sessions have their own.

Source: actions/scaleset, ``client.go`` (getActionsServiceAdminConnection). Tokens are signed; nothing is stored.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt
from jwt.types import Options
from starlette.requests import Request

from slurm_gha.testing.github.errors import Denied, NotThere
from slurm_gha.testing.github.oauth import UnauthorisedError
from slurm_gha.testing.github.scalesets.values import QueueSession
from slurm_gha.testing.github.state import GitHub

SERVICE = "/_services/pipelines"
SCHEME = "remoteauth"


class Registration:
    """Gives out the service's tokens and knows them again."""

    def __init__(self, github: GitHub) -> None:
        self._github = github
        self._key = hashlib.sha256(f"scale sets {github.url} {github.clock.now()}".encode()).digest()
        self._made = 0

    def service(self, tenant: str) -> str:
        """The service's URL, with a slash at its end."""
        return f"{self._github.url}{SERVICE}/{tenant}/"

    def register(self, authorisation: str, config_url: str) -> dict[str, str]:
        """What ``POST /actions/runner-registration`` answers to a registration token of the scope at ``config_url``."""
        scheme, _, text = authorisation.partition(" ")
        known = self._github.registration_tokens.get(text.strip())
        if scheme.lower() != SCHEME or known is None:
            raise UnauthorisedError("Bad credentials: a registration token is needed, as RemoteAuth.")
        scope, until = known
        if until <= self._github.clock.now():
            raise Denied("The registration token has expired.")
        if scope_at(config_url) != scope:
            raise Denied(f"The registration token is not one of {config_url}.")
        tenant = self._github.scale_sets.tenant
        lifetime = self._github.scale_sets.behaviour.admin_token_lifetime
        return {"url": self.service(tenant), "token": self._sign("admin", scope, tenant, lifetime)}

    def queue_token(self, session: QueueSession) -> str:
        """A new token for the session's queue."""
        lifetime = self._github.scale_sets.behaviour.queue_token_lifetime
        return self._sign("queue", session.id, session.tenant, lifetime)

    def admin(self, request: Request) -> str:
        """The scope that the caller's admin token is for."""
        return self._subject(request, "admin")

    def session_id(self, request: Request) -> str:
        """The session that the caller's queue token is for."""
        return self._subject(request, "queue")

    def _sign(self, use: str, subject: str, tenant: str, lifetime: float) -> str:
        now = self._github.clock.now()
        self._made += 1
        claims = {
            "use": use,
            "sub": subject,
            "tenant": tenant,
            "jti": str(self._made),
            "iat": int(now),
            "exp": int(now + lifetime),
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def _subject(self, request: Request, use: str) -> str:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise UnauthorisedError("A bearer token is needed.")
        # Times are checked below: the library would compare them with the machine's clock.
        options: Options = {"verify_exp": False, "verify_iat": False}
        try:
            claims: dict[str, Any] = jwt.decode(text, self._key, algorithms=["HS256"], options=options)
        except jwt.InvalidTokenError as error:
            raise UnauthorisedError(f"The token is not one of this service: {error}") from error
        if claims["use"] != use or claims["tenant"] != request.path_params["tenant"]:
            raise UnauthorisedError("Invalid claims: the token is for another use, or another tenant.")
        if claims["exp"] <= self._github.clock.now():
            raise UnauthorisedError("The token has expired.")
        return str(claims["sub"])


def scope_at(config_url: str) -> str:
    """The scope at a configuration URL, as GitHub tells them apart; NotThere for any other URL."""
    parts = [unquote(part) for part in urlsplit(config_url.lower()).path.strip("/").split("/")]
    match parts:
        case [organisation] if organisation:
            return f"orgs/{organisation}"
        case ["enterprises", enterprise]:
            return f"enterprises/{enterprise}"
        case [owner, name]:
            return f"repos/{owner}/{name}"
    raise NotThere(f"{config_url} is no repository, organisation or enterprise")
