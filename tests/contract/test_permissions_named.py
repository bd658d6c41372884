"""What ``slurm-gha check`` says of tokens and Apps: the missing permission, by GitHub's name for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.contract.app_world import PERMISSIONS, AppWorld, in_world

from slurm_gha.cli.inquiry import GitHubDesk, ask_github
from slurm_gha.domain.scope import ScopeKind
from slurm_gha.domain.secret import Secret

PATHS = {ScopeKind.REPOSITORY: "octo/app", ScopeKind.ORGANISATION: "octo", ScopeKind.ENTERPRISE: "enterprises/firm"}


async def told(world: AppWorld, kind: ScopeKind, *, token: str = "", **keys: Any) -> str:
    """What check says of one scope."""
    if token:
        keys |= {"app_id": None, "private_key_file": None, "token_env": "T"}
    if kind is ScopeKind.ENTERPRISE:
        keys.setdefault("repositories", ["octo/app"])
    table = world.table(path=PATHS[kind], **keys)

    @asynccontextmanager
    async def desk() -> AsyncIterator[GitHubDesk]:
        yield world.clients([table], secrets={"one": Secret(token)} if token else None).scope("one")

    return "\n".join(map(str, await ask_github({"one": desk()})))


@pytest.mark.parametrize(
    ("kind", "scopes", "missing"),
    [
        (ScopeKind.REPOSITORY, ["repo"], None),
        (ScopeKind.REPOSITORY, ["read:org"], "scope repo"),
        (ScopeKind.ORGANISATION, ["repo", "manage_runners:org"], None),
        (ScopeKind.ORGANISATION, ["repo"], "scope admin:org"),
        (ScopeKind.ENTERPRISE, ["repo", "manage_runners:enterprise"], None),
        (ScopeKind.ENTERPRISE, ["repo", "admin:org"], "scope manage_runners:enterprise"),
    ],
)
def test_classic_tokens(kind: ScopeKind, scopes: list[str], missing: str | None) -> None:
    async def test(world: AppWorld) -> None:
        world.github.add_enterprise("firm", ["octo"])
        world.github.add_token("classic", scopes=scopes)
        text = await told(world, kind, token="classic")
        if missing is None:
            assert "✗" not in text
            assert "✓ scope one: the token may register and remove runners" in text
        else:
            assert f"✗ scope one: the token lacks the permission to register and remove runners: {missing} (" in text
            assert "the token's scopes are: " in text

    in_world(test)


@pytest.mark.parametrize(
    ("kind", "permissions", "says"),
    [
        (
            ScopeKind.REPOSITORY,
            {"administration": "write", "actions": "read"},
            "! scope one: make sure that the token has ",
        ),
        (
            ScopeKind.REPOSITORY,
            {"actions": "read"},
            "lacks the permission to register and remove runners: repository permission Administration: write",
        ),
        (
            ScopeKind.REPOSITORY,
            {"administration": "write"},
            "lacks the permission to see the jobs of octo/app: repository permission Actions: read",
        ),
        (
            ScopeKind.ORGANISATION,
            {"administration": "write", "actions": "read"},
            "register and remove runners: organisation permission Self-hosted runners: write",
        ),
        (
            ScopeKind.ENTERPRISE,
            PERMISSIONS,
            "register and remove runners: scope manage_runners:enterprise of a classic token",
        ),
    ],
)
def test_fine_grained_tokens(kind: ScopeKind, permissions: dict[str, str], says: str) -> None:
    async def test(world: AppWorld) -> None:
        world.github.add_enterprise("firm", ["octo"])
        world.github.add_token("fine", permissions=permissions)
        text = await told(world, kind, token="fine")
        assert says in text
        assert ("✗" in text) == ("lacks" in text)

    in_world(test)


@pytest.mark.parametrize(
    ("kind", "granted", "says"),
    [
        (ScopeKind.REPOSITORY, PERMISSIONS, None),
        (ScopeKind.ORGANISATION, PERMISSIONS, None),
        (
            ScopeKind.REPOSITORY,
            {"administration": "read", "actions": "read"},
            "repository permission Administration: write",
        ),
        (ScopeKind.REPOSITORY, {"administration": "write"}, "repository permission Actions: read"),
        (
            ScopeKind.ORGANISATION,
            {"administration": "write", "actions": "write"},
            "organisation permission Self-hosted runners: write",
        ),
    ],
)
def test_apps(kind: ScopeKind, granted: dict[str, str], says: str | None) -> None:
    async def test(world: AppWorld) -> None:
        world.github.apps.installations[world.number].permissions = {"metadata": "read", **granted}
        text = await told(world, kind)
        if says is None:
            assert "✗" not in text
            assert "!" not in text
            assert "✓ scope one: the App may register and remove runners" in text
        else:
            assert (
                f": {says} (add it on the App's page, Permissions & events, then accept it at {world.github.url}"
                in text
            )
            assert "granted on octo: " in text

    in_world(test)


def test_an_app_on_an_enterprise_is_told_what_github_takes() -> None:
    async def test(world: AppWorld) -> None:
        world.github.add_enterprise("firm", ["octo"])
        assert (
            "✗ scope one: GitHub: GitHub App Iv23li00000000001001 is not installed on enterprises/firm"
            in await told(world, ScopeKind.ENTERPRISE)
        )
        world.github.apps.install(world.app.id, "enterprises/firm")
        text = await told(world, ScopeKind.ENTERPRISE)
        assert "✗ scope one: the App lacks the permission" in text
        assert "take neither GitHub Apps nor fine-grained tokens" in text

    in_world(test)


def test_suspended_unselected_and_mistaken_installations_are_named() -> None:
    async def test(world: AppWorld) -> None:
        apps = world.github.apps
        apps.uninstall(world.number)
        number = apps.install(world.app.id, "octo", repositories=["octo/lib"]).id
        text = await told(world, ScopeKind.REPOSITORY, installation_id=number)
        assert (
            "is installed on octo, but the repository octo/app does not exist, or is not among those selected" in text
        )
        text = await told(world, ScopeKind.ORGANISATION, repositories=["octo/lib", "octo/app"])
        assert "✗ scope one: the App lacks the permission to see the jobs of octo/app: access to the repository" in text
        assert "jobs of octo/lib" not in text
        world.github.add_organisation("elsewhere")
        other = apps.install(world.app.id, "elsewhere").id
        text = await told(world, ScopeKind.ORGANISATION, installation_id=other)
        assert f"installation_id is {other}, but the installation on octo is {number}; correct it" in text
        apps.suspend(number)
        text = await told(world, ScopeKind.ORGANISATION)
        assert "its installation is suspended (This installation has been suspended)" in text
        assert len(text.splitlines()) == 1

    in_world(test)


def test_an_unknown_token_is_an_error_of_its_own() -> None:
    async def test(world: AppWorld) -> None:
        text = await told(world, ScopeKind.REPOSITORY, token="nobody")
        assert "✗ scope one: GitHub: GET /rate_limit: 401 Bad credentials" in text

    in_world(test)
