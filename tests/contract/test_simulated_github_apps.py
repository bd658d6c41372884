"""GitHub Apps on the simulated GitHub: every request and answer is held against GitHub's OpenAPI description."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import jwt
import pytest
from tests.contract.app_world import key_pair
from tests.contract.simulated_github import Service, simulate

PERMISSIONS = {"administration": "write", "actions": "read", "organization_self_hosted_runners": "read"}
WISH = {"name": "sg-1", "runner_group_id": 1, "labels": ["small"], "work_folder": "_work"}


class Apps(Service):
    """The service with an App, installed on ``octo`` for one of its two repositories."""

    def __init__(self) -> None:
        super().__init__()
        self.github.add_repository("octo/lib", {})
        self.github.add_repository("octo/open", {}, private=False)
        self.github.add_enterprise("firm", ["octo"])
        self.app_ = self.github.apps.add("runners", key_pair(0)[1], owner="octo", permissions=PERMISSIONS)
        self.on_octo = self.github.apps.install(self.app_.id, "octo", repositories=["octo/app"])

    def word(self, *, key: int = 0, **claims: Any) -> str:
        now = int(self.clock.now())
        whole = {"iss": self.app_.client_id, "iat": now - 60, "exp": now + 540, **claims}
        kept = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(kept, key_pair(key)[0], algorithm="RS256")

    async def as_app(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return await self.call(method, path, token=self.word(), **more)

    async def token(self, **body: Any) -> str:
        answer = await self.as_app("POST", f"/app/installations/{self.on_octo.id}/access_tokens", json=body or None)
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return token


def test_an_app_sees_itself_and_its_installations() -> None:
    async def scenario() -> None:
        service = Apps()
        service.github.apps.install(service.app_.id, "enterprises/firm")
        service.github.apps.add("other", key_pair(1)[1], owner="octo", permissions={})
        foreign = service.github.apps.install(1002, "octo").id
        assert (await service.as_app("GET", "/app")).json()["installations_count"] == 2
        listed = (await service.as_app("GET", "/app/installations?per_page=1")).json()
        assert [each["account"]["login"] for each in listed] == ["octo"]
        one = f"/app/installations/{service.on_octo.id}"
        found = (await service.as_app("GET", one)).json()
        assert (found["repository_selection"], found["permissions"]["administration"]) == ("selected", "write")
        assert (await service.as_app("GET", f"/app/installations/{foreign}")).status_code == 404
        places = {
            "/repos/octo/app": 200,
            "/repos/octo/lib": 404,
            "/repos/octo/none": 404,
            "/orgs/octo": 200,
            "/orgs/none": 404,
            "/users/octo": 200,
            "/enterprises/firm": 200,
            "/enterprises/none": 404,
        }
        seen = {place: (await service.as_app("GET", f"{place}/installation")).status_code for place in places}
        assert seen == places
        assert (await service.as_app("PUT", f"{one}/suspended")).status_code == 204
        refused = await service.as_app("POST", f"{one}/access_tokens")
        assert (refused.status_code, refused.json()["message"]) == (403, "This installation has been suspended")
        assert (await service.as_app("GET", one)).json()["suspended_at"] is not None
        assert (await service.as_app("DELETE", f"{one}/suspended")).status_code == 204
        assert (await service.as_app("DELETE", one)).status_code == 204
        assert (await service.as_app("GET", one)).status_code == 404

    simulate(scenario)


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"iat": "now"}, "'Issued at' claim ('iat') must be an Integer"),
        ({"iat": None}, "'Issued at' claim ('iat') must be an Integer"),
        ({"iat": 30}, "'Issued at' claim ('iat') must be an Integer"),
        ({"exp": None}, "'Expiration time' claim ('exp') must be a numeric value"),
        ({"exp": -1}, "'Expiration time' claim ('exp') must be a numeric value"),
        ({"exp": 660}, "'Expiration time' claim ('exp') is too far in the future"),
        ({"iss": "4711"}, "A JSON web token could not be decoded"),
        ({"iss": None}, "A JSON web token could not be decoded"),
        ({"key": 1}, "A JSON web token could not be decoded"),
    ],
)
def test_a_word_that_proves_nothing_is_refused(claims: dict[str, Any], says: str) -> None:
    async def scenario() -> None:
        service = Apps()
        now = int(service.clock.now())
        given = {
            name: now + value if name in ("iat", "exp") and type(value) is int else value
            for name, value in claims.items()
        }
        answer = await service.get("/app", token=service.word(**given))
        assert answer.status_code == 401
        assert answer.json()["message"].startswith(says)

    simulate(scenario)


def test_words_of_both_names_and_keys_count() -> None:
    async def scenario() -> None:
        service = Apps()
        assert (await service.get("/app", token=service.word(iss=str(service.app_.id)))).status_code == 200
        service.github.apps.add_key(service.app_.id, key_pair(1)[1])
        assert (await service.get("/app", token=service.word(key=1))).status_code == 200
        service.github.apps.remove_key(service.app_.id, 0)
        assert (await service.get("/app", token=service.word())).status_code == 401
        forged = jwt.encode({"iss": service.app_.client_id, "iat": 0, "exp": 2**31}, "x" * 32, algorithm="HS256")
        assert (await service.get("/app", token=forged)).status_code == 401
        assert (await service.get("/app", token="all")).json()["message"] == "A JSON web token could not be decoded"
        assert (await service.get("/repos/octo/app", token=service.word(key=1))).status_code == 403

    simulate(scenario)


def test_a_token_lives_an_hour_and_does_what_was_granted() -> None:
    async def scenario() -> None:
        service = Apps()
        token = await service.token()
        listed = (await service.get("/installation/repositories", token=token)).json()
        assert [each["full_name"] for each in listed["repositories"]] == ["octo/app"]
        runners = "/actions/runners/generate-jitconfig"
        assert (await service.post(f"/repos/octo/app{runners}", token=token, json=WISH)).status_code == 201
        assert (await service.post(f"/repos/octo/lib{runners}", token=token, json=WISH)).status_code == 404
        assert (await service.post(f"/repos/octo/open{runners}", token=token, json=WISH)).status_code == 403
        assert (await service.get("/repos/octo/open/actions/runs", token=token)).status_code == 200
        assert (await service.get("/orgs/octo/actions/runners", token=token)).status_code == 200
        refused = await service.post(f"/orgs/octo{runners}", token=token, json=WISH)
        assert (refused.status_code, refused.json()["message"]) == (403, "Resource not accessible by integration")
        assert refused.headers["x-accepted-github-permissions"] == "organization_self_hosted_runners=write"
        assert (await service.get("/enterprises/firm/actions/runners", token=token)).status_code == 403
        assert (await service.get("/user", token=token)).status_code == 403
        await anyio.sleep(3599)
        assert (await service.get("/rate_limit", token=token)).status_code == 200
        await anyio.sleep(1)
        assert (await service.get("/rate_limit", token=token)).json()["message"] == "Bad credentials"

    simulate(scenario)


def test_tokens_of_an_installation_share_a_budget_and_can_be_revoked() -> None:
    async def scenario() -> None:
        service = Apps()
        first, second = await service.token(), await service.token()
        assert first != second
        for token in (first, second):
            left = (await service.get("/repos/octo/app", token=token)).headers["x-ratelimit-remaining"]
        assert left == "4998"
        assert (await service.get("/app", token=service.word())).headers["x-ratelimit-remaining"] == "4997"
        assert (await service.call("DELETE", "/installation/token", token=first)).status_code == 204
        assert (await service.get("/repos/octo/app", token=first)).status_code == 401
        assert (await service.get("/repos/octo/app", token=second)).status_code == 200
        service.github.apps.suspend(service.on_octo.id)
        assert (await service.get("/repos/octo/app", token=second)).status_code == 403
        service.github.apps.uninstall(service.on_octo.id)
        assert (await service.get("/repos/octo/app", token=second)).status_code == 401

    simulate(scenario)


def test_a_token_can_be_asked_for_less() -> None:
    async def scenario() -> None:
        service = Apps()
        narrow = await service.token(repositories=["app"], permissions={"actions": "read"})
        assert (await service.get("/repos/octo/app/actions/runs", token=narrow)).status_code == 200
        assert (await service.get("/repos/octo/app/actions/runners", token=narrow)).status_code == 403
        by_id = await service.token(repository_ids=[1])
        assert (await service.get("/repos/octo/app/actions/runners", token=by_id)).status_code == 200
        tokens = f"/app/installations/{service.on_octo.id}/access_tokens"
        for wish in (
            {"repositories": ["lib"]},
            {"repository_ids": [2]},
            {"permissions": {"contents": "read"}},
            {"permissions": {"actions": "write"}},
        ):
            assert (await service.as_app("POST", tokens, json=wish)).status_code == 422

    simulate(scenario)
