"""Webhooks as GitHub keeps them: which hook points here, what it has delivered, and asking for it once more.

Source: REST reference of repository webhooks, organisation webhooks, and "GitHub App webhooks".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.github import wire
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import Forbidden, GitHubUnavailable, NotFound
from slurm_gha.github.parse import seconds

MOST_PAGES = 20
PER_PAGE = 100


class Caller(Protocol):
    """One call to GitHub, as a token or as an App; raises GitHubError."""

    async def call(self, method: str, path: str, body: Any = None) -> wire.Answer:
        """The answer, its status 2xx."""
        ...


class AppCaller(Caller, Protocol):
    """Calls as an App; :class:`slurm_gha.github.app.App` fits."""

    @property
    def issuer(self) -> str:
        """The App's client id or App id."""
        ...


class TokenCaller:
    """Calls by the scope's own token."""

    def __init__(self, client: GitHubClient) -> None:
        self._client = client

    async def call(self, method: str, path: str, body: Any = None) -> wire.Answer:
        if method == "GET":
            return await self._client.look(path)
        return await self._client.send(method, path, body)


class NoHook(Exception):
    """GitHub has no hook that points here, or none that may be looked at; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook; ``path`` is what its calls begin with. ``events`` and ``url`` are empty where they were not read.

    ``shared``: what it is known by where several scopes may have it, as an App's; empty for a scope's own.
    """

    path: str
    url: str = ""
    events: tuple[str, ...] = ()
    active: bool = True
    content_type: str = ""
    shared: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of GitHub's to deliver. ``guid`` is the same for all tries of a delivery."""

    id: int
    guid: str
    at: float
    event: str
    action: str
    status_code: int
    status: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status_code < 300


class Hooks:
    """The hooks of one scope. ``app`` calls as the GitHub App, where there is one: its own hook then counts too.

    ``hook_id`` is the number of the hook, where it was configured; otherwise it is known by where it points.
    """

    def __init__(
        self, scope: Scope, caller: Caller, *, app: AppCaller | None = None, hook_id: int | None = None
    ) -> None:
        self._scope = scope
        self._caller = caller
        self._app = app
        self._hook_id = hook_id

    @property
    def permission(self) -> str:
        """What a token needs to read and repeat deliveries, by the names of GitHub's settings pages."""
        match self._scope.kind:
            case ScopeKind.REPOSITORY:
                return "repository permission Webhooks: write (classic token: repo)"
            case _:
                return "organisation permission Webhooks: write (classic token: admin:org_hook)"

    async def find(self) -> Hook:
        """The hook that points here; raises NoHook, Forbidden and other GitHubErrors."""
        refused = ""
        if self._scope.kind is not ScopeKind.ENTERPRISE:
            try:
                hook = await self._find_own()
            except (Forbidden, NotFound) as error:
                refused = f"the token lacks the {self.permission}: {error}"
            else:
                if hook is not None:
                    return hook
        if self._app is not None:
            return await self._find_app(self._app)
        if refused:
            raise Forbidden(refused)
        raise NoHook(
            f"GitHub shows no webhook of {self._scope.path} whose URL ends with {path_of(self._scope.name)}"
            "; make one, or name it with webhook_id"
        )

    async def _find_own(self) -> Hook | None:
        prefix = f"{quote(self._scope.api_prefix, safe='/')}/hooks"
        if self._hook_id is not None:
            return _hook(prefix, _object(wire.decode(await self._caller.call("GET", f"{prefix}/{self._hook_id}"))))
        for page in range(1, MOST_PAGES + 1):
            answer = await self._caller.call("GET", f"{prefix}?{urlencode({'per_page': PER_PAGE, 'page': page})}")
            items = wire.decode(answer)
            if not isinstance(items, list):
                raise GitHubUnavailable(f"GET {prefix}: the answer is no list")
            for item in items:
                hook = _hook(prefix, _object(item))
                if points_to(hook.url, self._scope.name):
                    return hook
            if wire.next_page(answer.headers) is None:
                break
        return None

    async def _find_app(self, app: AppCaller) -> Hook:
        config = _object(wire.decode(await app.call("GET", "/app/hook/config")))
        url = str(config.get("url") or "")
        if urlsplit(url).path.rstrip("/").rpartition("/")[0] + "/" != path_of(""):
            raise NoHook(f"the App's webhook URL does not end with {path_of(self._scope.name)}; set it in its settings")
        shared = f"GitHub App {app.issuer} of {self._scope.api_url}"
        return Hook("/app/hook", url, content_type=str(config.get("content_type") or ""), shared=shared)

    def _caller_of(self, hook: Hook) -> Caller:
        return self._app if self._app is not None and hook.path == "/app/hook" else self._caller

    async def attempts(self, hook: Hook, since: float, *, most_pages: int = MOST_PAGES) -> list[Attempt]:
        """GitHub's tries to deliver since a time (seconds since the epoch), newest first."""
        found: list[Attempt] = []
        cursor: str | None = None
        for _ in range(most_pages):
            query = {"per_page": str(PER_PAGE)} | ({} if cursor is None else {"cursor": cursor})
            answer = await self._caller_of(hook).call("GET", f"{hook.path}/deliveries?{urlencode(query)}")
            items = wire.decode(answer)
            page = [attempt for item in (items if isinstance(items, list) else []) if (attempt := _attempt(item))]
            found += [attempt for attempt in page if attempt.at >= since]
            cursor = _cursor(answer.headers)
            if cursor is None or not page or page[-1].at < since:
                break
        return found

    async def repeat(self, hook: Hook, attempt: Attempt) -> None:
        """Ask GitHub to deliver once more."""
        await self._caller_of(hook).call("POST", f"{hook.path}/deliveries/{attempt.id}/attempts")


def path_of(scope: str) -> str:
    """Where a scope's hook points: the path on the service, or what its URL ends with behind a proxy."""
    return f"/v1/webhooks/{scope}"


def points_to(url: str, scope: str) -> bool:
    """Whether a hook's URL is the scope's. Of hosts and prefixes, a proxy in front of the service knows more."""
    try:
        return urlsplit(url).path.rstrip("/").endswith(path_of(scope))
    except ValueError:
        return False


def missed(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Of each ``workflow_job`` delivery that never got through, the newest try; the oldest delivery first."""
    by_guid: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_guid.setdefault(attempt.guid, []).append(attempt)
    lost = [tries for tries in by_guid.values() if not any(each.ok for each in tries)]
    newest = [max(tries, key=lambda each: (each.at, each.id)) for tries in lost if tries[0].event == "workflow_job"]
    first = {tries[0].guid: min(each.at for each in tries) for tries in lost}
    return sorted(newest, key=lambda each: (first[each.guid], each.id))


def _hook(prefix: str, item: Mapping[str, Any]) -> Hook:
    number, config, events = item.get("id"), item.get("config"), item.get("events")
    if type(number) is not int:
        raise GitHubUnavailable("a hook of the answer has no id")
    config = config if isinstance(config, dict) else {}
    return Hook(
        f"{prefix}/{number}",
        str(config.get("url") or ""),
        tuple(str(event) for event in events) if isinstance(events, list) else (),
        item.get("active") is not False,
        str(config.get("content_type") or ""),
    )


def _attempt(item: Any) -> Attempt | None:
    """One item of a list of deliveries; None where it cannot be read."""
    if not isinstance(item, dict):
        return None
    number, guid, code = item.get("id"), item.get("guid"), item.get("status_code")
    at = seconds(item.get("delivered_at"))
    if type(number) is not int or not isinstance(guid, str) or at is None:
        return None
    return Attempt(
        number,
        guid,
        at,
        str(item.get("event") or ""),
        str(item.get("action") or ""),
        code if type(code) is int else 0,
        wire.clean(str(item.get("status") or ""), 100),
    )


def _cursor(headers: Mapping[str, str]) -> str | None:
    following = wire.next_page(headers)
    if following is None:
        return None
    try:
        return next(iter(parse_qs(urlsplit(following).query).get("cursor", [])), None)
    except ValueError:
        return None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GitHubUnavailable("the answer is no object where a hook should be")
    return value
