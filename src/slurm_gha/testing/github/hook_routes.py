"""The REST calls about webhooks: of repositories, of organisations, and of an App, which signs for itself."""

from __future__ import annotations

import json
from typing import Any

from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github import permissions, render
from slurm_gha.testing.github.errors import NotThere, Unprocessable
from slurm_gha.testing.github.hooks import Delivery, Hook
from slurm_gha.testing.github.permissions import Need
from slurm_gha.testing.github.routing import PER_PAGE, PER_PAGE_LIMIT, Answer, Call, Route, answer, page_of, to_json
from slurm_gha.testing.github.state import GitHub

_REPOSITORY_SCOPES = ("repo", "admin:repo_hook", "write:repo_hook")
READ_REPOSITORY = Need((*_REPOSITORY_SCOPES, "read:repo_hook"), "repository_hooks", "read")
CHANGE_REPOSITORY = Need(_REPOSITORY_SCOPES, "repository_hooks", "write")
READ_ORGANISATION = Need(("admin:org_hook",), "organization_hooks", "read")
CHANGE_ORGANISATION = Need(("admin:org_hook",), "organization_hooks", "write")


class HookRest:
    """Handlers over one GitHub."""

    def __init__(self, github: GitHub) -> None:
        self._github = github
        self._url = github.url

    def routes(self) -> list[Route]:
        """The table of calls."""
        found = [
            Route("GET", "/app/hook/config", self._app_config, by_app=True),
            Route("PATCH", "/app/hook/config", self._change_app_config, by_app=True),
            *self._delivery_routes("/app/hook", by_app=True),
        ]
        for prefix in ("/repos/{owner}/{repo}/hooks", "/orgs/{org}/hooks"):
            found += [
                Route("GET", prefix, self._list),
                Route("POST", prefix, self._create),
                Route("GET", f"{prefix}/{{hook_id}}", self._get),
                Route("DELETE", f"{prefix}/{{hook_id}}", self._delete),
                Route("POST", f"{prefix}/{{hook_id}}/pings", self._ping),
                *self._delivery_routes(f"{prefix}/{{hook_id}}"),
            ]
        return found

    def _delivery_routes(self, prefix: str, *, by_app: bool = False) -> list[Route]:
        one = f"{prefix}/deliveries/{{delivery_id}}"
        return [
            Route("GET", f"{prefix}/deliveries", self._deliveries, by_app=by_app),
            Route("GET", one, self._delivery, by_app=by_app),
            Route("POST", f"{one}/attempts", self._repeat, by_app=by_app),
        ]

    # Whose hooks

    def _owner(self, call: Call, *, change: bool) -> str:
        """Whose hooks a call is about, once the token is known to be allowed."""
        if "repo" in call.parts:
            repository = self._github.repositories.get(f"{call.parts['owner']}/{call.parts['repo']}".lower())
            if repository is None:
                raise NotThere("Not Found")
            permissions.check_repository(call.token, repository, CHANGE_REPOSITORY if change else READ_REPOSITORY)
            return f"repos/{repository.full_name.lower()}"
        if "org" in call.parts:
            login = call.parts["org"].lower()
            if login not in self._github.organisations:
                raise NotThere("Not Found")
            permissions.check_organisation(call.token, login, CHANGE_ORGANISATION if change else READ_ORGANISATION)
            return f"orgs/{login}"
        return f"app/{call.token.app}"  # the route is for Apps alone

    def _hook(self, call: Call, *, change: bool) -> Hook:
        owner = self._owner(call, change=change)
        if "hook_id" in call.parts:
            return self._github.hooks.find(owner, call.number("hook_id"))
        for hook in self._github.hooks.of(owner):
            return hook
        raise NotThere("Not Found")

    # Hooks

    def _list(self, call: Call) -> Answer:
        hooks = self._github.hooks.of(self._owner(call, change=False))
        page, per_page = page_of(call.query)
        kept = hooks[(page - 1) * per_page : page * per_page]
        body = to_json([render_hook(self._url, hook) for hook in kept])
        return Answer(200, body, paged=(page, per_page, len(hooks)))

    def _create(self, call: Call) -> Answer:
        owner, body = self._owner(call, change=True), call.json()
        config = body.get("config")
        url = config.get("url") if isinstance(config, dict) else None
        events = body.get("events", ["push"])
        if not isinstance(config, dict) or not isinstance(url, str) or not isinstance(events, list):
            raise Unprocessable("Validation Failed")
        hook = self._github.hooks.add(owner, url, secret=config.get("secret"), events=[str(each) for each in events])
        hook.active = body.get("active") is not False
        hook.content_type = str(config.get("content_type", "form"))
        shown = render_hook(self._url, hook)
        return Answer(201, to_json(shown), headers=((b"location", str(shown["url"]).encode()),))

    def _get(self, call: Call) -> Answer:
        return answer(render_hook(self._url, self._hook(call, change=False)))

    def _delete(self, call: Call) -> Answer:
        self._github.hooks.remove(self._hook(call, change=True))
        return Answer(204)

    def _ping(self, call: Call) -> Answer:
        self._github.hooks.ping(self._hook(call, change=True))
        return Answer(204)

    def _app_config(self, call: Call) -> Answer:
        return answer(_config(self._hook(call, change=False)))

    def _change_app_config(self, call: Call) -> Answer:
        owner, body = self._owner(call, change=True), call.json()
        hooks, secret = self._github.hooks, body.get("secret")
        hook = next(iter(hooks.of(owner)), None)
        if hook is None:
            hook = hooks.add(owner, str(body.get("url", "")), secret=secret)
        hook.url = str(body.get("url", hook.url))
        hook.content_type = str(body.get("content_type", hook.content_type))
        if secret is not None:
            hook.secret = Secret(str(secret))
        return answer(_config(hook))

    # Deliveries

    def _deliveries(self, call: Call) -> Answer:
        found = self._github.hooks.deliveries(self._hook(call, change=False))
        cursor = call.query.get("cursor", "").removeprefix("v1_")
        if cursor.isdigit():
            found = [each for each in found if each.id <= int(cursor)]
        text = call.query.get("per_page", "")
        per_page = min(max(int(text), 1), PER_PAGE_LIMIT) if text.isdigit() else PER_PAGE
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if len(found) > per_page:
            where = "/".join(part for part in (self._path(call), "deliveries") if part)
            link = f'<{self._url}{where}?per_page={per_page}&cursor=v1_{found[per_page].id}>; rel="next"'
            headers = ((b"link", link.encode()),)
        return Answer(200, to_json([render_delivery(each) for each in found[:per_page]]), headers=headers)

    def _path(self, call: Call) -> str:
        parts = call.parts
        if "repo" in parts:
            return f"/repos/{parts['owner']}/{parts['repo']}/hooks/{parts['hook_id']}"
        return f"/orgs/{parts['org']}/hooks/{parts['hook_id']}" if "org" in parts else "/app/hook"

    def _delivery(self, call: Call) -> Answer:
        found = self._github.hooks.delivery(self._hook(call, change=False), call.number("delivery_id"))
        sent = found.sending
        full = {
            **render_delivery(found),
            "url": sent.url,
            "request": {"headers": {**sent.headers, "x-github-delivery": sent.guid}, "payload": json.loads(sent.body)},
            "response": {"headers": dict(found.attempted.headers), "payload": found.attempted.payload},
        }
        return answer(full)

    def _repeat(self, call: Call) -> Answer:
        hook = self._hook(call, change=True)
        self._github.hooks.repeat(hook, call.number("delivery_id"))
        return answer({}, 202)


def _config(hook: Hook) -> dict[str, Any]:
    config = {"url": hook.url, "content_type": hook.content_type, "insecure_ssl": "0"}
    return config | ({"secret": "********"} if hook.secret is not None else {})


def render_hook(url: str, hook: Hook) -> dict[str, Any]:
    """A hook as REST shows it; its secret never."""
    here = f"{url}/{hook.owner}/hooks/{hook.id}"
    shown: dict[str, Any] = {
        "type": "Organization" if hook.owner.startswith("orgs/") else "Repository",
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": list(hook.events),
        "config": _config(hook),
        "updated_at": render.time(hook.created_at),
        "created_at": render.time(hook.created_at),
        "url": here,
        "ping_url": f"{here}/pings",
        "deliveries_url": f"{here}/deliveries",
    }
    if hook.owner.startswith("repos/"):
        last = hook.last
        unused = {"code": None, "status": "unused", "message": None}
        code = None if last is None else last.attempted.status_code
        ok = code is not None and 200 <= code < 300
        known = {"code": code, "status": "active" if ok else "misconfigured", "message": None if ok else "failed"}
        shown["test_url"] = f"{here}/test"
        shown["last_response"] = unused if last is None else known
    return shown


def render_delivery(found: Delivery) -> dict[str, Any]:
    """One try to deliver, in short."""
    attempted, sent = found.attempted, found.sending
    return {
        "id": found.id,
        "guid": found.guid,
        "delivered_at": render.time(attempted.at),
        "redelivery": sent.redelivery,
        "duration": round(attempted.duration, 3),
        "status": attempted.status,
        "status_code": attempted.status_code,
        "event": sent.event,
        "action": sent.action,
        "installation_id": sent.installation_id,
        "repository_id": sent.repository_id,
        "throttled_at": None,
    }
