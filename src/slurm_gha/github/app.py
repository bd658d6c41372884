"""A GitHub App as itself: calls signed with its private key, right even where our clock is wrong."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.secret import Secret
from slurm_gha.github import wire
from slurm_gha.github.assertion import Assertion, sign
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import Forbidden, GitHubError

# How GitHub's complaints about the times in a signature begin.
_TIMES = ("'Expiration time'", "'Issued at'")
# Its complaints about a signature or an issuer that it does not know.
_IDENTITY = ("could not be decoded", "Integration not found", "'Issuer'", "public key")


class App:
    """Calls of one App, with a budget of their own.

    ``issuer`` is its client id or App id; ``key`` gives its private key (PEM), which a reload may have changed.
    Every method raises :class:`GitHubError` subclasses only.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        api_url: str,
        issuer: str,
        key: Callable[[], Secret],
        clock: Clock,
        **options: Any,
    ) -> None:
        self.issuer = issuer
        self._key = key
        self._clock = clock
        self._ahead = 0.0  # GitHub's clock less ours, in seconds
        self._signed: tuple[Secret, Assertion] | None = None
        self._client = GitHubClient(http, api_url, self._word, clock, refused=self._refused, **options)

    @property
    def client(self) -> GitHubClient:
        """The client that signs as the App, for listings of pages and its budget; see :meth:`call` for single calls."""
        return self._client

    def github_now(self) -> float:
        """The time by GitHub's clock, as far as it is known."""
        return self._clock.now() + self._ahead

    async def call(self, method: str, path: str, body: Any = None, *, again: bool = False) -> wire.Answer:
        """One REST call as the App; ``path`` begins with ``/``, for example ``/app/hook/deliveries?per_page=100``.

        ``again``: a call that does no harm if it has its effect twice; reads always are tried again.
        """
        answer = await self._client.ask(method, path, body, again=again or method == "GET")
        if answer.status < 400:
            return answer
        raise self._failure(method, path.partition("?")[0], answer)

    async def _word(self) -> Secret:
        key, now = self._key(), self.github_now()
        if self._signed is None or self._signed[0] is not key or not self._signed[1].holds(now):
            self._signed = (key, sign(self.issuer, key, now))
        return self._signed[1].text

    def _refused(self, token: Secret, answer: wire.Answer) -> bool:
        """A 401: if our clock is why, go by GitHub's from now on."""
        theirs = date_of(answer)
        if theirs is None or not _about(answer, _TIMES):
            return False
        ahead = theirs - self._clock.now()
        news = abs(ahead - self._ahead) > 1.0
        self._ahead, self._signed = ahead, None
        return news

    def _failure(self, method: str, path: str, answer: wire.Answer) -> GitHubError:
        said, request_id = wire.message_of(answer), answer.request_id
        who = f"GitHub App {self.issuer}"
        if answer.status == 401 and _about(answer, _TIMES):
            text = f"{who}: GitHub finds the times in its signature wrong ({said}); {self._clock_text(answer)}"
            return Forbidden(text, request_id=request_id)
        if answer.status == 401 or (answer.status == 404 and _about(answer, _IDENTITY)):
            text = (
                f"{who}: GitHub does not accept its signature ({answer.status} {said}): the file private_key_file "
                "holds no key of this App, the key was deleted on GitHub, or app_id is another App's"
            )
            return Forbidden(text, request_id=request_id)
        if answer.status == 403 and "suspended" in said:
            text = (
                f"{who}: its installation is suspended ({said}); who owns the account can end that on GitHub, in "
                "Settings, GitHub Apps, Configure"
            )
            return Forbidden(text, request_id=request_id)
        return wire.failure_of(method, path, answer)

    def _clock_text(self, answer: wire.Answer) -> str:
        theirs = date_of(answer)
        if theirs is None:
            return "set this machine's clock right"
        behind = theirs - self._clock.now()
        where = "behind" if behind > 0 else "ahead of"
        return f"this machine's clock is {abs(behind):.0f} s {where} GitHub's; set it right"


def date_of(answer: wire.Answer) -> float | None:
    """GitHub's clock (seconds since the epoch) when it answered, by the Date header."""
    try:
        return parsedate_to_datetime(answer.headers.get("date", "")[:100]).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _about(answer: wire.Answer, words: tuple[str, ...]) -> bool:
    said = wire.message_of(answer)
    return any(word in said for word in words)
