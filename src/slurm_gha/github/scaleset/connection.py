"""Requests to the Actions service: who we are there, for how long, and tries again where the moment was wrong."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import httpx2

from slurm_gha import __version__
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.scope import Scope
from slurm_gha.domain.secret import Secret
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import GitHubError, GitHubUnavailable
from slurm_gha.github.scaleset import parse, wire
from slurm_gha.github.scaleset.values import Admin
from slurm_gha.github.wire import Answer, clean
from slurm_gha.github.wire import decode as decode_rest

MOST_BYTES = 32 * 1024 * 1024
TIMEOUT = 30.0
_TRANSPORT_ERRORS = (
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
USER_AGENT = f"slurm-gha/{__version__} (Python {platform.python_version()})"


class Connection:
    """One scope's way to the Actions service, whose address and token are asked for when they are needed.

    ``rest`` gives registration tokens; ``http`` is the client whose settings (authorities, proxy) are the scope's.
    ``api_url`` is the REST base. Every method raises GitHubError subclasses only.
    """

    def __init__(
        self, http: httpx2.AsyncClient, rest: GitHubClient, scope: Scope, clock: Clock, *, timeout: float = TIMEOUT
    ) -> None:
        self._http = http
        self._rest = rest
        self._scope = scope
        self._clock = clock
        self._timeout = timeout
        self._admin: Admin | None = None
        self._renewing = anyio.Lock()
        self.renewals = 0

    async def admin(self, method: str, path: str, body: Any = None, *, ok: int = 200, **query: str | int) -> Answer:
        """A request with the admin token; one that is refused it is tried once more with a new one."""
        for last in (False, True):
            admin = await self._current()
            url = wire.service_url(admin.url, path, **query)
            answer = await self.exchange(method, url, admin.token, body)
            if answer.status == 401 and not last:
                self._admin = None if self._admin is admin else self._admin
                continue
            break
        return self.accept(method, url, answer, (ok,), admin.token)

    async def service_url(self, path: str) -> str:
        """A URL of the service for a request that has a token of its own."""
        return wire.service_url((await self._current()).url, path)

    def accept(self, method: str, url: str, answer: Answer, ok: Collection[int], *hidden: Secret) -> Answer:
        """The answer, if its status is one of ``ok``; raises what it stands for otherwise."""
        if answer.status in ok:
            return answer
        raise wire.failure_of(method, url, answer, hidden)

    async def exchange(
        self,
        method: str,
        url: str,
        token: Secret,
        body: Any = None,
        *,
        scheme: str = "Bearer",
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        repeat: Callable[[int], bool] = wire.worth_repeating,
    ) -> Answer:
        """One request, tried again after growing pauses while no usable answer comes; the last answer, whatever it is.

        Every call of the protocol may be repeated: one whose answer got lost is refused, or does the same again.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._send(method, url, token, body, scheme, headers or {}, timeout or self._timeout)
            except GitHubUnavailable:
                if attempt > wire.RETRIES:
                    raise
            else:
                if not repeat(answer.status) or attempt > wire.RETRIES:
                    return answer
            await self._clock.sleep(wire.pause(attempt))

    async def _current(self) -> Admin:
        """The admin token, renewed before its end; those who need it at the same time wait for one renewal."""
        async with self._renewing:
            admin = self._admin
            if admin is None or (
                admin.expires_at is not None and self._clock.now() + wire.RENEWED_BEFORE > admin.expires_at
            ):
                admin = self._admin = await self._renew()
            return admin

    async def _renew(self) -> Admin:
        path = f"{quote(self._scope.api_prefix, safe='/')}/actions/runners/registration-token"
        token = parse.registration_token(decode_rest(await self._rest.send("POST", path)))
        url = self._scope.api_url.rstrip("/") + wire.REGISTRATION
        body = {"url": self._scope.url, "runner_event": "register"}
        # A token this fresh may not be known everywhere yet.
        answer = await self.exchange(
            "POST",
            url,
            token,
            body,
            scheme="RemoteAuth",
            repeat=lambda status: status in (401, 403) or wire.worth_repeating(status),
        )
        self.accept("POST", url, answer, range(200, 300), token)
        self.renewals += 1
        try:
            return parse.admin(wire.decode(answer))
        except GitHubError as error:
            raise GitHubUnavailable(f"POST {wire.REGISTRATION}: {error}") from None

    async def _send(
        self, method: str, url: str, token: Secret, body: Any, scheme: str, headers: dict[str, str], timeout: float
    ) -> Answer:
        sent = {
            "accept": "application/json",
            "authorization": f"{scheme} {token.reveal()}",
            "user-agent": USER_AGENT,
            **headers,
        }
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            sent["content-type"] = "application/json"
        where = f"{method} {clean(urlsplit(url).path)}"
        try:
            extensions = {"timeout": httpx2.Timeout(timeout).as_dict()}
            request = httpx2.Request(method, url, headers=sent, content=content, extensions=extensions)
            with anyio.fail_after(timeout):
                response = await self._http.send(request, auth=None, stream=True, follow_redirects=False)
                try:
                    return await _receive(response, where)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise GitHubUnavailable(f"{where}: no answer within {timeout:g} s") from None
        except _TRANSPORT_ERRORS as error:
            what = clean(str(error)).replace(token.reveal(), "***")
            raise GitHubUnavailable(f"{where}: {type(error).__name__}: {what}") from None


async def _receive(response: httpx2.Response, where: str) -> Answer:
    headers: dict[str, str] = {}
    for name, value in response.headers.raw:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST_BYTES:
            raise GitHubUnavailable(f"{where}: the answer is larger than {MOST_BYTES} bytes")
    return Answer(response.status_code, headers, bytes(body))
