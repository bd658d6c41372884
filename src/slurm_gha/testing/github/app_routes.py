"""The REST calls about Apps: those an App makes with its own word, and those about the token it was given."""

from __future__ import annotations

from typing import Any

from slurm_gha.testing.github import render_apps
from slurm_gha.testing.github.apps import SimApp, SimInstallation
from slurm_gha.testing.github.errors import Denied, NotThere, Unprocessable
from slurm_gha.testing.github.routing import Answer, Call, Route, answer, listing, page_of, to_json
from slurm_gha.testing.github.state import GitHub


class AppRoutes:
    """Handlers over one GitHub."""

    def __init__(self, github: GitHub) -> None:
        self._github = github
        self._apps = github.apps
        self._url = github.url

    def routes(self) -> list[Route]:
        """The table of calls."""
        one = "/app/installations/{installation_id}"
        return [
            Route("GET", "/app", self._app, by_app=True),
            Route("GET", "/app/installations", self._installations, by_app=True),
            Route("GET", one, self._installation, by_app=True),
            Route("DELETE", one, self._uninstall, by_app=True),
            Route("PUT", f"{one}/suspended", self._suspend, by_app=True),
            Route("DELETE", f"{one}/suspended", self._unsuspend, by_app=True),
            Route("POST", f"{one}/access_tokens", self._access_token, by_app=True),
            Route("GET", "/repos/{owner}/{repo}/installation", self._on_repository, by_app=True),
            Route("GET", "/orgs/{org}/installation", self._on_organisation, by_app=True),
            Route("GET", "/users/{username}/installation", self._on_user, by_app=True),
            Route("GET", "/enterprises/{enterprise}/installation", self._on_enterprise, by_app=True),
            Route("GET", "/installation/repositories", self._repositories),
            Route("DELETE", "/installation/token", self._revoke),
        ]

    def _caller(self, call: Call) -> SimApp:
        return self._apps.apps[call.token.app or 0]

    def _app(self, call: Call) -> Answer:
        app = self._caller(call)
        return answer(render_apps.app(self._url, app, len(self._apps.of(app.id))))

    def _shown(self, installation: SimInstallation) -> Answer:
        return answer(render_apps.installation(self._url, installation))

    def _installations(self, call: Call) -> Answer:
        found = self._apps.of(self._caller(call).id)
        page, per_page = page_of(call.query)
        kept = found[(page - 1) * per_page : page * per_page]
        texts = [to_json(render_apps.installation(self._url, each)) for each in kept]
        return listing(None, texts, (page, per_page, len(found)))

    def _found(self, call: Call) -> SimInstallation:
        return self._apps.find(self._caller(call).id, call.number("installation_id"))

    def _installation(self, call: Call) -> Answer:
        return self._shown(self._found(call))

    def _uninstall(self, call: Call) -> Answer:
        self._apps.uninstall(self._found(call).id)
        return Answer(204)

    def _suspend(self, call: Call) -> Answer:
        self._apps.suspend(self._found(call).id)
        return Answer(204)

    def _unsuspend(self, call: Call) -> Answer:
        self._apps.suspend(self._found(call).id, suspended=False)
        return Answer(204)

    def _access_token(self, call: Call) -> Answer:
        installation, body = self._found(call), call.json()
        repositories, permissions = self._names(installation, body), body.get("permissions")
        if permissions is not None and not isinstance(permissions, dict):
            raise Unprocessable("Invalid request: permissions must be an object")
        token = self._apps.issue(installation, repositories=repositories, permissions=permissions)
        found = (
            [each for each in self._github.repositories.values() if each.full_name.lower() in token.repositories]
            if (token.repositories is not None)
            else []
        )
        return answer(render_apps.token(self._url, token, found), 201)

    def _names(self, installation: SimInstallation, body: dict[str, Any]) -> list[str] | None:
        names, numbers = body.get("repositories"), body.get("repository_ids")
        if names is None and numbers is None:
            return None
        if not isinstance(names or [], list) or not isinstance(numbers or [], list):
            raise Unprocessable("Invalid request: repositories and repository_ids are lists")
        by_id = {each.id: each.name for each in self._github.repositories.values() if installation.covers(each)}
        return [*map(str, names or []), *(by_id.get(number, "?") for number in numbers or [])]

    def _on_repository(self, call: Call) -> Answer:
        repository = self._github.repositories.get(f"{call.parts['owner']}/{call.parts['repo']}".lower())
        if repository is None:
            raise NotThere("Not Found")
        installation = self._apps.on_account(self._caller(call).id, repository.owner)
        if not installation.covers(repository):
            raise NotThere("Not Found")
        return self._shown(installation)

    def _on_organisation(self, call: Call) -> Answer:
        account = self._github.organisations.get(call.parts["org"].lower())
        if account is not None and account.kind != "Organization":
            raise NotThere("Not Found")
        return self._shown(self._apps.on_account(self._caller(call).id, account))

    def _on_user(self, call: Call) -> Answer:
        account = self._github.organisations.get(call.parts["username"].lower())
        return self._shown(self._apps.on_account(self._caller(call).id, account))

    def _on_enterprise(self, call: Call) -> Answer:
        account = self._github.enterprises.get(call.parts["enterprise"].lower())
        return self._shown(self._apps.on_account(self._caller(call).id, account))

    def _installed(self, call: Call) -> SimInstallation:
        installation = self._apps.installations.get(call.token.installation or 0)
        if installation is None:
            raise Denied("You must authenticate with an installation access token in order to list repositories.")
        return installation

    def _repositories(self, call: Call) -> Answer:
        installation = self._installed(call)
        wanted = call.token.repositories
        found = [
            each
            for each in self._github.repositories.values()
            if installation.covers(each) and (wanted is None or each.full_name.lower() in wanted)
        ]
        page, per_page = page_of(call.query)
        kept = found[(page - 1) * per_page : page * per_page]
        texts = [to_json(render_apps.repository(self._url, each)) for each in kept]
        return listing("repositories", texts, (page, per_page, len(found)))

    def _revoke(self, call: Call) -> Answer:
        self._installed(call)
        del self._github.tokens[call.token.text]
        return Answer(204)
