"""The only HTTP to GitHub: one token's conditional reads, paging, retries, time-outs and pace."""

from __future__ import annotations

import json
import platform
from collections.abc import Awaitable, Callable
from functools import partial
from random import SystemRandom
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import httpx2

from slurm_gha import __version__
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.secret import Secret
from slurm_gha.github import wire
from slurm_gha.github.budget import Admission, Budget
from slurm_gha.github.cache import Entry, EtagCache
from slurm_gha.github.errors import Forbidden, GitHubUnavailable, RateLimited
from slurm_gha.github.pace import Call
from slurm_gha.github.parse import Listing
from slurm_gha.github.values import Installed

Value = TypeVar("Value")
TokenProvider = Callable[[], Awaitable[Secret]]
Refused = Callable[[Secret, wire.Answer], bool]
"""Told of a 401 to a request made with that token: whether the provider has, or can get, one that is better."""

MOST_PAGES = 1000
MOST_REDIRECTS = 3
MOST_TARGETS = 20_000
_REDIRECTS = {Call.READ: (301, 302, 303, 307, 308), Call.WRITE: (307, 308), Call.MINT: (307, 308)}
# Not counted by GitHub, whatever it answers.
_FREE_PATHS = ("/rate_limit",)
_TRANSPORT_ERRORS = (
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)


class GitHubClient:
    """Requests to one GitHub API with one token.

    ``http`` needs no settings but its transport. ``api_url`` is the REST base, e.g. ``https://api.github.com``.
    ``timeout`` (seconds) bounds a whole request, its answer's body included; ``retries`` further tries are made of
    reads, within that same time. ``jitter`` gives numbers in [0, 1). ``most_bytes`` bounds an answer's body.
    ``on_note`` is told of list items that could not be read. ``refused``: see :data:`Refused`; a 401 has had no
    effect, so that reads and writes alike are then tried once more.
    ``installed`` is there for tokens of an App: its installation, as seen from a REST prefix.

    Every method raises :class:`GitHubError` subclasses only.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        api_url: str,
        token: Secret | TokenProvider,
        clock: Clock,
        *,
        budget: Budget | None = None,
        cache: EtagCache | None = None,
        timeout: float = 20.0,
        retries: int = 2,
        jitter: Callable[[], float] | None = None,
        most_bytes: int = 32 * 1024 * 1024,
        on_note: Callable[[str], None] | None = None,
        refused: Refused | None = None,
        installed: Callable[[str], Awaitable[Installed]] | None = None,
    ) -> None:
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"api_url {wire.clean(api_url)!r} must be http(s)://host[:port][/path]")
        self._http = http
        self._base = api_url.rstrip("/")
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._token = token
        self.clock = clock
        self.budget = budget or Budget(clock)
        self._cache = cache or EtagCache()
        self._timeout = timeout
        self._extensions = {"timeout": httpx2.Timeout(timeout).as_dict()}
        self._retries = retries
        self._jitter = jitter or SystemRandom().random
        self._most_bytes = most_bytes
        self._on_note = on_note or (lambda note: None)
        self.installed = installed
        self._refused = refused or (lambda token, answer: False)
        self._slots = anyio.Semaphore(self.budget.limits.concurrent, fast_acquire=True)
        self._headers_for: Secret | None = None
        self._headers = httpx2.Headers()
        self._targets: dict[str, httpx2.URL] = {}

    async def items(self, path: str, parse: Callable[[Any], Listing[Value]]) -> list[Value]:
        """The items of every page of a listing. ``path`` begins with ``/`` and holds its query already encoded.

        Each page is asked for with its own ETag. A page that fails fails the whole.
        """
        values: list[Value] = []
        seen: set[str] = set()
        url: str | None = self._base + path
        while url is not None:
            seen.add(url)
            if len(seen) > MOST_PAGES:
                raise GitHubUnavailable(f"GET {wire.clean(path)}: more than {MOST_PAGES} pages")
            page, url = await self._persist(partial(self._page, url, parse))
            values.extend(page.items)
            if url in seen:
                raise GitHubUnavailable(f"GET {wire.clean(path)}: the pages go round in a circle")
        return values

    async def first_page(self, path: str, parse: Callable[[Any], Listing[Value]]) -> Listing[Value]:
        """The first page alone, with its total."""
        page, _ = await self._persist(partial(self._page, self._base + path, parse))
        return page

    async def look(self, path: str) -> wire.Answer:
        """One plain GET, not cached: for its headers as much as for its value. Failures are raised."""
        return await self._persist(partial(self._exchange, "GET", self._base + path, Call.READ, None, None))

    async def send(self, method: str, path: str, body: Any = None, *, call: Call = Call.WRITE) -> wire.Answer:
        """One write: never tried again by itself, because an answer that was lost says nothing of the effect."""
        content = None if body is None else json.dumps(body).encode()
        return await self._exchange(method, self._base + path, call, None, content)

    async def ask(self, method: str, path: str, body: Any = None, *, again: bool = False) -> wire.Answer:
        """One request whose refusal (400 to 499, but no rate limit's) is given back, for who can read it.

        ``again``: it does no harm if it has its effect twice, so it may be tried again as reads are.
        """
        call = Call.READ if method == "GET" else Call.WRITE
        content = None if body is None else json.dumps(body).encode()
        once = partial(self._exchange, method, self._base + path, call, None, content, refusals=True)
        return await (self._persist(once) if again else once())

    async def _page(self, url: str, parse: Callable[[Any], Listing[Value]]) -> tuple[Listing[Value], str | None]:
        entry = self._cache.get(url)
        answer = await self._exchange("GET", url, Call.READ, None if entry is None else entry.etag, None)
        if entry is not None and answer.status == 304:
            return entry.value, entry.next_url
        try:
            page = parse(wire.decode(answer))
        except GitHubUnavailable as error:
            self._cache.forget(url)
            raise GitHubUnavailable(f"GET {self._path(url)}: {error}", request_id=answer.request_id) from None
        for note in page.notes:
            self._on_note(f"GET {self._path(url)}: {note}")
        following = self._here(wire.next_page(answer.headers))
        etag = answer.headers.get("etag")
        if etag and etag.isascii() and etag.isprintable():
            self._cache.put(url, Entry(etag, page, following, weight=1 + len(page.items)))
        else:
            self._cache.forget(url)
        return page, following

    async def _persist(self, read: Callable[[], Awaitable[Value]]) -> Value:
        """The read, tried again after a growing, jittered pause while no usable answer comes and time is left."""
        began = self.clock.now()
        attempt = 0
        while True:
            try:
                return await read()
            except GitHubUnavailable:
                attempt += 1
                delay = 0.5 * 2.0**attempt * (0.5 + self._jitter() / 2)
                if attempt > self._retries or self.clock.now() - began + delay >= self._timeout:
                    raise
            await self.clock.sleep(delay)

    async def _exchange(
        self, method: str, url: str, call: Call, etag: str | None, content: bytes | None, *, refusals: bool = False
    ) -> wire.Answer:
        """One request within the budget, redirects on the same host followed; a failing status is raised."""
        redirects = 0
        renewed = False
        while redirects <= MOST_REDIRECTS:
            token = self._token if isinstance(self._token, Secret) else await self._token()
            admission = await self.budget.admit(call)
            try:
                async with self._slots:
                    self.budget.check(call, own=admission)  # things may have changed while waiting for a slot
                    answer = await self._send(method, url, token, etag, content)
                self._settle(method, url, admission, answer)
            finally:
                self.budget.release(admission)
            if answer.status == 401 and not renewed and self._refused(token, answer):
                renewed = True
            elif answer.status in _REDIRECTS[call]:
                url = self._redirected(method, url, answer)
                redirects += 1
            elif refusals and 400 <= answer.status < 500:
                return answer
            else:
                return self._accept(method, url, token, answer, conditional=etag is not None)
        raise GitHubUnavailable(f"{method} {self._path(url)}: more than {MOST_REDIRECTS} redirects")

    def _settle(self, method: str, url: str, admission: Admission, answer: wire.Answer) -> None:
        rate = wire.rate_of(answer.headers)
        refusal = wire.refusal_of(answer, self.clock.now())
        if refusal is not None:
            until = self.budget.refused(admission, rate, refusal)
            words = wire.message_of(answer) or "rate limit"
            text = f"{method} {self._path(url)}: {answer.status} {self._redact(words)}"
            raise RateLimited(text, until=until, request_id=answer.request_id)
        counted = answer.status != 304 and self._path(url) not in _FREE_PATHS
        self.budget.answered(admission, rate, counted=counted, success=answer.status < 400)

    def _accept(self, method: str, url: str, token: Secret, answer: wire.Answer, *, conditional: bool) -> wire.Answer:
        if 200 <= answer.status < 300 or (answer.status == 304 and conditional):
            return answer
        if token.reveal() in answer.body.decode("latin-1"):
            answer = wire.Answer(answer.status, answer.headers)  # an error that quotes our token is not quoted
        raise wire.failure_of(method, self._path(url), answer)

    async def _send(self, method: str, url: str, token: Secret, etag: str | None, content: bytes | None) -> wire.Answer:
        headers = self._request_headers(token)
        if etag is not None:
            headers["if-none-match"] = etag
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            target = self._target(url)
            request = httpx2.Request(method, target, headers=headers, content=content, extensions=self._extensions)
            with anyio.fail_after(self._timeout):
                response = await self._http.send(request, auth=None, stream=True, follow_redirects=False)
                try:
                    return await self._receive(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise GitHubUnavailable(f"{method} {self._path(url)}: no answer within {self._timeout:g} s") from None
        except _TRANSPORT_ERRORS as error:
            what = self._redact(wire.clean(str(error)))
            if "CERTIFICATE_VERIFY_FAILED" in what:
                what += "; if this GitHub has a certificate authority of its own, name it in the scope's ca_file"
            raise GitHubUnavailable(f"{method} {self._path(url)}: {type(error).__name__}: {what}") from None

    async def _receive(self, response: httpx2.Response) -> wire.Answer:
        headers: dict[str, str] = {}
        for name, value in response.headers.raw:
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        announced = wire.whole_number(headers.get("content-length"))
        body = bytearray()
        if announced is None or announced <= self._most_bytes:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._most_bytes:
                    break
        if len(body) > self._most_bytes or (announced is not None and announced > self._most_bytes):
            path = wire.clean(response.request.url.path)
            raise GitHubUnavailable(
                f"{response.request.method} {path}: the answer is larger than {self._most_bytes} bytes"
            )
        return wire.Answer(response.status_code, headers, bytes(body))

    def _target(self, url: str) -> httpx2.URL:
        """The URL taken apart, which costs more than all else that an unchanged page takes of us."""
        target = self._targets.get(url)
        if target is None:
            target = httpx2.URL(url)
            if len(self._targets) >= MOST_TARGETS:
                self._targets.clear()
            self._targets[url] = target
        return target

    def _request_headers(self, token: Secret) -> httpx2.Headers:
        """A copy of the headers that every request has."""
        if token is not self._headers_for:
            text = token.reveal()
            if not text or not text.isascii() or not text.isprintable() or " " in text:
                raise Forbidden("the token is empty or holds characters that no token has (a line break, a space?)")
            self._headers = httpx2.Headers(
                {
                    "host": self._target(self._base).netloc.decode("ascii"),
                    "accept": "application/vnd.github+json",
                    "accept-encoding": "gzip, deflate",
                    "authorization": f"Bearer {text}",
                    "user-agent": f"slurm-gha/{__version__} (Python {platform.python_version()})",
                    "x-github-api-version": wire.API_VERSION,
                },
                encoding="ascii",
            )
            self._headers_for = token
        return self._headers.copy()

    def _here(self, url: str | None) -> str | None:
        """A Link's URL on our own API host, whatever host it names: the token goes nowhere else."""
        if url is None:
            return None
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if not parts.path.startswith(urlsplit(self._base).path + "/"):
            raise GitHubUnavailable(f"the next page {wire.clean(url)!r} is outside {self._base}")
        return f"{self._origin}{parts.path}" + (f"?{parts.query}" if parts.query else "")

    def _redirected(self, method: str, url: str, answer: wire.Answer) -> str:
        location = answer.headers.get("location", "")
        try:
            target = httpx2.URL(url).join(location)
            same = f"{target.scheme}://{target.netloc.decode('ascii')}" == str(httpx2.URL(self._origin))
        except (httpx2.InvalidURL, ValueError):
            same = False
        if not location or not same:
            text = f"{method} {self._path(url)}: redirected to {wire.clean(location)!r}, not followed: not our API host"
            raise GitHubUnavailable(text, request_id=answer.request_id)
        return str(target)

    def _path(self, url: str) -> str:
        return wire.clean(url.removeprefix(self._base).partition("?")[0])

    def _redact(self, text: str) -> str:
        token = self._headers_for
        return text if token is None or len(token.reveal()) < 8 else text.replace(token.reveal(), "***")
