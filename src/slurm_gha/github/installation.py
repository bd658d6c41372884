"""An App installed on an account: found by itself, and its tokens, one request for however many that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.github import wire
from slurm_gha.github.app import App, date_of
from slurm_gha.github.errors import (
    GitHubError,
    GitHubUnavailable,
    NotFound,
    NotInstalled,
    RateLimited,
)
from slurm_gha.github.values import Installed

MARGIN = 300.0
"""Seconds before its end at which a token is renewed; a quarter of its life, where that is shorter."""
LONGEST_LIFE = 86_400.0
SETTLING = 10.0
"""Seconds that a new token is kept, though GitHub refuses it."""
# How long a failed renewal is not tried again (seconds): a lost answer, and a refusal that somebody has to see to.
PAUSE = 5.0
PAUSE_REFUSED = 60.0


@dataclass(frozen=True, slots=True)
class _Held:
    """A token with its times by our clock."""

    token: Secret
    since: float
    renew_at: float
    until: float

    def fresh(self, now: float) -> bool:
        return self.since - 60.0 <= now < self.renew_at

    def usable(self, now: float) -> bool:
        return self.since - 60.0 <= now < self.until


class Installation:
    """Tokens of one App on one account.

    ``scopes`` are those that it serves, all of the same account; they tell where to look for it. ``number`` is its id,
    where that is known. :meth:`token` and :meth:`refused` are what a :class:`GitHubClient` takes.
    """

    def __init__(self, app: App, scopes: Sequence[Scope], clock: Clock, *, number: int | None = None) -> None:
        self.app = app
        self._prefixes = tuple(dict.fromkeys(quote(scope.api_prefix, safe="/") for scope in scopes))
        self._clock = clock
        self._given = number
        self._number = number
        self._held: _Held | None = None
        self._failed: tuple[float, float, GitHubError] | None = None  # from, until
        self._lock = anyio.Lock()

    async def token(self) -> Secret:
        """A token that is good for a while yet; an older one only while no new one can be had."""
        held, now = self._held, self._clock.now()
        if held is not None and (held.fresh(now) or (held.usable(now) and self._lock.locked())):
            return held.token
        async with self._lock:
            held, now = self._held, self._clock.now()
            if held is not None and held.fresh(now):
                return held.token
            usable = held is not None and held.usable(now)
            if self._failed is not None and self._failed[0] <= now < self._failed[1]:
                if held is not None and usable:
                    return held.token
                raise self._failed[2]
            try:
                self._held = await self._obtain()
            except GitHubError as error:
                self._failed = (now, self._clock.now() + self._pause(error), error)
                if held is not None and usable and isinstance(error, (GitHubUnavailable, RateLimited)):
                    return held.token
                raise
            self._failed = None
            return self._held.token

    def refused(self, token: Secret, answer: wire.Answer) -> bool:
        """GitHub answered 401 to a token: it has expired or was revoked, and the next one may do."""
        held = self._held
        if held is not None and held.token is token:
            if abs(self._clock.now() - held.since) < SETTLING:
                return False  # another one would fare no better: not one request for a token after each refusal
            self._held = None
        return True

    def retry(self) -> None:
        """Something was changed (a new key): the next call need not wait after a failure."""
        self._failed = None

    async def installed(self, prefix: str) -> Installed:
        """The installation as GitHub shows it for a scope (its REST prefix); raises NotInstalled with the reason."""
        try:
            answer = await self.app.call("GET", f"{prefix}/installation")
        except NotFound:
            raise await self._not_installed(prefix) from None
        found = parse_installation(_value(answer))
        if self._given is not None and found.number != self._given:
            raise NotInstalled(
                f"GitHub App {self.app.issuer}: installation_id is {self._given}, but the installation on "
                f"{found.account} is {found.number}; correct it, or leave it out: it is found by itself"
            )
        return found

    async def _obtain(self) -> _Held:
        known = self._number
        if known is None:
            known = self._number = await self._find()
        try:
            answer = await self._issue(known)
        except NotFound as error:
            if self._given is not None:
                raise NotInstalled(
                    f"GitHub App {self.app.issuer} has no installation {self._given} (any more); correct "
                    "installation_id, or leave it out: it is found by itself"
                ) from error
            self._number = await self._find()  # removed and installed again, perhaps
            answer = await self._issue(self._number)
        return self._hold(answer)

    async def _issue(self, number: int) -> wire.Answer:
        return await self.app.call("POST", f"/app/installations/{number}/access_tokens", again=True)

    def _hold(self, answer: wire.Answer) -> _Held:
        """The token's life is told by GitHub's clock alone, so that ours may be wrong."""
        value, now = _value(answer), self._clock.now()
        token, text = value.get("token"), value.get("expires_at")
        theirs = date_of(answer)
        try:
            expires = datetime.fromisoformat(str(text)).timestamp()
        except (ValueError, OverflowError):
            raise GitHubUnavailable("the answer with the token says no time at which it expires") from None
        life = min(expires - (self.app.github_now() if theirs is None else theirs), LONGEST_LIFE)
        if not isinstance(token, str) or not token or life <= 0:
            raise GitHubUnavailable("the answer holds no token, or one that has expired", request_id=answer.request_id)
        return _Held(Secret(token), now, now + life - min(MARGIN, life / 4), now + life)

    async def _find(self) -> int:
        for prefix in self._prefixes:
            try:
                answer = await self.app.call("GET", f"{prefix}/installation")
            except NotFound:
                continue
            return parse_installation(_value(answer)).number
        raise await self._not_installed(self._prefixes[0])

    async def _not_installed(self, prefix: str) -> NotInstalled:
        """Why there is no installation at a prefix: none on the account, or a repository that was not selected."""
        path = prefix.removeprefix("/repos/").removeprefix("/orgs/").removeprefix("/")
        who = f"GitHub App {self.app.issuer}"
        if prefix.startswith("/repos/"):
            owner = path.partition("/")[0]
            for place in (f"/orgs/{owner}", f"/users/{owner}"):
                try:
                    answer = await self.app.call("GET", f"{place}/installation")
                except NotFound:
                    continue
                found = parse_installation(_value(answer))
                return NotInstalled(
                    f"{who} is installed on {found.account}, but the repository {path} does not exist, or is not among "
                    f"those selected for it: add it at {found.url}"
                )
        return NotInstalled(f"{who} is not installed on {path}: install it from the App's page on GitHub, Install App")

    def _pause(self, error: GitHubError) -> float:
        if isinstance(error, RateLimited):
            return min(max(error.until - self._clock.now(), 1.0), 3600.0)
        return PAUSE if isinstance(error, GitHubUnavailable) else PAUSE_REFUSED


def account_of(scope: Scope) -> str:
    """The account that an App is installed on for a scope; an App has at most one installation on each."""
    path = scope.path.lower()
    return path if scope.kind is ScopeKind.ENTERPRISE else path.partition("/")[0]


def parse_installation(value: dict[str, Any]) -> Installed:
    """An ``installation`` of GitHub's REST; raises GitHubUnavailable where it is malformed."""
    number, permissions, account = value.get("id"), value.get("permissions"), value.get("account")
    if not isinstance(number, int) or isinstance(number, bool) or not isinstance(permissions, dict):
        raise GitHubUnavailable("the answer describes no installation")
    known = account if isinstance(account, dict) else {}
    return Installed(
        number=number,
        account=wire.clean(str(known.get("login") or known.get("slug") or "?"), 100),
        permissions={str(name): str(level) for name, level in permissions.items()},
        every_repository=value.get("repository_selection") != "selected",
        suspended=value.get("suspended_at") is not None,
        url=wire.clean(str(value.get("html_url", "")), 200),
    )


def _value(answer: wire.Answer) -> dict[str, Any]:
    value = wire.decode(answer)
    if not isinstance(value, dict):
        raise GitHubUnavailable("the answer is no JSON object", request_id=answer.request_id)
    return value
