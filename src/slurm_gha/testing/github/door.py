"""The REST door: one ASGI application that knows tokens, limits, ETags, Link headers, and who may lag behind."""

from __future__ import annotations

import email.utils
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from slurm_gha.testing.github import render
from slurm_gha.testing.github.app_routes import AppRoutes
from slurm_gha.testing.github.apps import UNDECODABLE
from slurm_gha.testing.github.errors import Denied, RefusedError, Unauthorised
from slurm_gha.testing.github.faults import Faults, Receive, Scope, Send
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.rest import Rest
from slurm_gha.testing.github.routing import Answer, Call, Route, Table, links, read_query, to_json
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Token

Headers = list[tuple[bytes, bytes]]
CACHE_LIMIT = 20_000
PREFIX = "/api/v3"
"""Where a GitHub Enterprise Server has its API; answered besides the root."""


@dataclass(slots=True)
class _Entry:
    """An answer to a GET as last made, and the question that tells whether it still holds."""

    route: Route
    ask: Callable[[], object]
    version: object
    answer: Answer
    digest: bytes
    link: bytes
    made_at: float


class Door:
    """The REST API as an ASGI application."""

    def __init__(self, github: GitHub, limits: Limits, faults: Faults) -> None:
        self._github, self._limits, self._faults = github, limits, faults
        self.rest = Rest(github, limits)
        self._table = Table([*AppRoutes(github).routes(), *self.rest.routes()])
        self._entries: dict[tuple[Token, str, bytes, bytes], _Entry] = {}
        self._requests = 0
        self._date = (0, b"")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"])
        method: str = scope["method"]
        try:
            token = self._authenticate(given.get(b"authorization", b""))
        except RefusedError as refusal:
            await self._refuse(send, refusal.status, str(refusal))
            return
        if b"user-agent" not in given:
            await self._refuse(send, 403, "Request forbidden by administrative rules.", token)
            return
        if token is None:
            await self._refuse(send, 401, "Bad credentials" if b"authorization" in given else "Requires authentication")
            return
        refused = self._limits.enter(token, write=method not in ("GET", "HEAD"))
        if refused is not None:
            extra = [(name.encode(), value.encode()) for name, value in refused.headers.items()]
            await self._refuse(send, refused.status, refused.message, token, extra)
            return
        name, counted = "other", True
        try:
            self._github.tick()
            if method == "GET":
                entry = self._read(scope, given, token)
                name, counted = entry.route.name, entry.route.counted
                answer, extra = self._conditional(entry, given)
                counted = counted and answer.status != 304
            else:
                extra = []
                name, answer = await self._write(scope, receive, token)
        except RefusedError as refusal:
            answer = Answer(refusal.status, to_json(render.error(refusal.status, str(refusal))))
            extra = [] if refusal.needs is None else [(b"x-accepted-github-permissions", refusal.needs.encode())]
            name = self._name(method, scope["path"])
        finally:
            self._limits.leave(token, name, counted=counted)
        await self._send(send, answer, extra, token)

    def _authenticate(self, header: bytes) -> Token | None:
        scheme, _, text = header.partition(b" ")
        if scheme.lower() not in (b"bearer", b"token"):
            return None
        known = self._github.tokens.get(text.strip().decode("latin-1"))
        if known is not None:
            self._github.apps.check(known)
            return known
        if text.count(b".") != 2 or not text.startswith(b"eyJ"):
            return None
        return self._github.apps.signed_by(text.strip().decode("latin-1")).principal

    def _read(self, scope: Scope, given: dict[bytes, bytes], token: Token) -> _Entry:
        path: str = scope["path"]
        query: bytes = scope["query_string"]
        key = (token, path, query, given.get(b"host", b""))
        entry = self._entries.get(key)
        if entry is not None:
            lags = entry.route.listing and self._github.clock.now() - entry.made_at < self._faults.stale
            if lags or (entry.route.version is not None and entry.ask() == entry.version):
                return entry
        route, call, base = self._resolve("GET", path, token)
        call.query = read_query(query)
        ask = _never if route.version is None else route.version(call)
        version = ask()
        answer = route.handler(call)
        entry = _Entry(
            route=route,
            ask=ask,
            version=version,
            answer=answer,
            digest=hashlib.blake2b(answer.body + token.name.encode(), digest_size=32).hexdigest().encode(),
            link=self._link(scope, key[3], base, call, answer),
            made_at=self._github.clock.now(),
        )
        if len(self._entries) >= CACHE_LIMIT:
            self._entries.clear()
        self._entries[key] = entry
        return entry

    async def _write(self, scope: Scope, receive: Receive, token: Token) -> tuple[str, Answer]:
        route, call, _ = self._resolve(scope["method"], scope["path"], token)
        more = True
        while more:
            message = await receive()
            call.body += message.get("body", b"")
            more = message.get("more_body", False)
        return route.name, route.handler(call)

    def _resolve(self, method: str, path: str, token: Token) -> tuple[Route, Call, str]:
        """The route, the call, and the path as links in answers have it: by the repository's or account's id."""
        path = path.removeprefix(PREFIX)
        found = self._table.find(method, self._by_name(path))
        if found is None:
            raise _NoRoute("Not Found")
        route, parts = found
        if route.by_app and token.app is None:
            raise Unauthorised(UNDECODABLE)
        if token.app is not None and not route.by_app and route.counted:
            raise Denied("Resource not accessible by integration")
        return route, Call(token, parts), self._by_id(path, parts)

    def _by_name(self, path: str) -> str:
        first, _, rest = path.lstrip("/").partition("/")
        number, _, tail = rest.partition("/")
        if first == "repositories":
            name = next(
                (each.full_name for each in self._github.repositories.values() if str(each.id) == number), "?/?"
            )
            return f"/repos/{name}/{tail}"
        if first == "organizations":
            login = next((each.login for each in self._github.organisations.values() if str(each.id) == number), "?")
            return f"/orgs/{login}/{tail}"
        return path

    def _by_id(self, path: str, parts: dict[str, str]) -> str:
        if "repo" in parts and path.startswith("/repos/"):
            repository = self._github.repositories.get(f"{parts['owner']}/{parts['repo']}".lower())
            if repository is not None:
                return f"/repositories/{repository.id}/" + path.split("/", 4)[-1]
        if "org" in parts and path.startswith("/orgs/"):
            organisation = self._github.organisations.get(parts["org"].lower())
            if organisation is not None:
                return f"/organizations/{organisation.id}/" + path.split("/", 3)[-1]
        return path

    def _link(self, scope: Scope, host: bytes, base: str, call: Call, answer: Answer) -> bytes:
        if answer.paged is None:
            return b""
        prefix = PREFIX if scope["path"].startswith(PREFIX) else ""
        return links(f"{scope['scheme']}://{host.decode('latin-1')}{prefix}{base}", call.query, answer.paged).encode()

    def _conditional(self, entry: _Entry, given: dict[bytes, bytes]) -> tuple[Answer, Headers]:
        """The entry's answer or a 304; the ETag is weak for a client that takes compressed answers, as GitHub's is."""
        if entry.answer.status != 200:
            return entry.answer, []
        quoted = b'"' + entry.digest + b'"'
        weak = b"gzip" in given.get(b"accept-encoding", b"")
        extra = [
            (b"etag", b"W/" + quoted if weak else quoted),
            (b"cache-control", b"private, max-age=60, s-maxage=60"),
            (b"vary", b"Accept, Authorization, Cookie, X-GitHub-OTP, Accept-Encoding"),
        ]
        if entry.link:
            extra.append((b"link", entry.link))
        return (_UNCHANGED if _matches(given.get(b"if-none-match"), entry.digest) else entry.answer), extra

    def _name(self, method: str, path: str) -> str:
        found = self._table.find(method, self._by_name(path.removeprefix(PREFIX)))
        return "other" if found is None else found[0].name

    async def _refuse(
        self, send: Send, status: int, message: str, token: Token | None = None, extra: Headers | None = None
    ) -> None:
        await self._send(send, Answer(status, to_json(render.error(status, message))), extra or [], token)

    async def _send(self, send: Send, answer: Answer, extra: Headers, token: Token | None) -> None:
        self._requests += 1
        headers: Headers = [
            (b"date", self._now()),
            (b"x-github-request-id", b"%04X:51A0:%08X" % (self._requests & 0xFFFF, self._requests)),
            (b"x-github-api-version-selected", b"2022-11-28"),
        ]
        if answer.status not in (204, 304):
            headers.append((b"content-type", answer.kind))
            headers.append((b"content-length", b"%d" % len(answer.body)))
        headers += answer.headers
        if token is not None:
            stated = {name for name, _ in extra}
            headers += [pair for pair in self._limits.headers(token) if pair[0] not in stated]
            if token.scopes is not None:
                headers.append((b"x-oauth-scopes", ", ".join(token.scopes).encode()))
        headers += extra
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _now(self) -> bytes:
        second = int(self._github.clock.now())
        if self._date[0] != second:
            self._date = (second, email.utils.formatdate(second, usegmt=True).encode())
        return self._date[1]


_UNCHANGED = Answer(304)


class _NoRoute(RefusedError):
    status = 404


def _never() -> object:
    return object()


def _matches(header: bytes | None, digest: bytes) -> bool:
    """If-None-Match: any of several, weak or strong alike."""
    if header is None:
        return False
    return header.strip() == b"*" or any(
        each.strip().removeprefix(b"W/") == b'"' + digest + b'"' for each in header.split(b",")
    )
