"""Signing in as a GitHub App over hours of virtual time: renewal, faults, wrong clocks, crowds, refusals."""

from __future__ import annotations

import anyio
import pytest
from tests.contract.app_world import TOKENS, URL, AppWorld, in_world, key_pair

from slurm_gha.domain.secret import Secret
from slurm_gha.github.errors import Forbidden, GitHubError, GitHubUnavailable, NotInstalled, RateLimited
from slurm_gha.testing.github.faults import Fault, FaultKind

HOUR = 3600.0


def test_polling_for_hours_renews_the_token_before_it_ends_and_keeps_one_budget() -> None:
    async def test(world: AppWorld) -> None:
        scope = world.clients().scope("one")
        for _ in range(5 * 60):
            await scope.runners()
            await world.clock.sleep(60)
        # Tokens of an hour are renewed five minutes before their end: not once did GitHub refuse one.
        assert world.count(TOKENS) == 6
        assert world.count("GET /orgs/{org}/installation") == 1
        assert world.count("other") == 0
        budget = scope.budget()
        assert budget.uncounted == 299, "a new token does not make every unchanged page cost again"
        assert budget.counted == 1

    in_world(test)


def test_a_crowd_makes_one_request_for_a_token() -> None:
    async def test(world: AppWorld) -> None:
        world.faults.faults = [Fault(FaultKind.LATENCY, route="access_tokens", seconds=2.0)]
        client = world.clients().client("one")

        async def ask() -> None:
            assert (await client.look("/orgs/octo/actions/runners")).status == 200

        for round_ in (1, 2):
            async with anyio.create_task_group() as group:
                for _ in range(50):
                    group.start_soon(ask)
            assert world.count(TOKENS) == round_
            await world.clock.sleep(3500)  # past the margin: the second crowd finds a token that is to be renewed

    in_world(test)


def test_a_crowd_fails_together_and_asks_once() -> None:
    async def test(world: AppWorld) -> None:
        world.github.apps.suspend(world.number)
        client = world.clients([world.table(installation_id=world.number)]).client("one")
        failures: list[GitHubError] = []

        async def ask() -> None:
            try:
                await client.send("DELETE", "/orgs/octo/actions/runners/1")
            except GitHubError as error:
                failures.append(error)

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(ask)
        assert len(failures) == 50
        assert {type(error) for error in failures} == {Forbidden}
        assert "its installation is suspended" in str(failures[0])
        assert world.count(TOKENS) == 1
        world.github.apps.suspend(world.number, suspended=False)
        await world.clock.sleep(61)
        assert (await client.look("/orgs/octo/actions/runners")).status == 200

    in_world(test)


def test_a_caller_that_gives_up_takes_nobody_with_it() -> None:
    async def test(world: AppWorld) -> None:
        world.faults.faults = [Fault(FaultKind.LATENCY, route="access_tokens", seconds=5.0)]
        client = world.clients().client("one")
        answered: list[int] = []

        async def ask() -> None:
            answered.append((await client.look("/orgs/octo/actions/runners")).status)

        async def give_up() -> None:
            with anyio.move_on_after(1):
                await ask()

        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            await world.clock.sleep(0.1)
            for _ in range(5):
                group.start_soon(ask)
        assert answered == [200] * 5

    in_world(test)


@pytest.mark.parametrize("ahead", [-300.0, -59.0, 59.0, 300.0, 3 * HOUR, -3 * HOUR])
def test_a_wrong_clock_of_ours_does_no_harm(ahead: float) -> None:
    async def test(world: AppWorld) -> None:
        scope = world.clients().scope("one")
        for _ in range(3 * 12):
            await scope.runners()
            await world.clock.sleep(300)
        refused = world.requests.count(("GET", "/orgs/octo/installation")) - 1
        assert refused == (0 if -500 < ahead < 60 else 1), "one retry by GitHub's clock, then never again"
        assert world.count(TOKENS) <= 4
        assert world.count("other") == 0

    in_world(test, ahead=ahead)


def test_a_clock_that_is_set_right_meanwhile_is_learned_again() -> None:
    async def test(world: AppWorld) -> None:
        scope = world.clients().scope("one")
        await scope.runners()
        world.clock.ahead = 0.0
        for _ in range(24):
            await world.clock.sleep(300)
            await scope.runners()
        assert world.count(TOKENS) <= 4

    in_world(test, ahead=900.0)


def test_a_token_revoked_in_mid_poll_is_replaced_for_reads_and_writes() -> None:
    async def test(world: AppWorld) -> None:
        scope = world.clients().scope("one")
        await scope.runners()
        await world.clock.sleep(30)
        world.github.apps.revoke(world.number)
        await scope.runners()
        await world.clock.sleep(30)
        world.github.apps.revoke(world.number)
        minted = await scope.mint("sg-1", ["small"], 1)
        assert [runner.id for runner in world.github.runners.values()] == [minted.registration_id]
        await world.clock.sleep(30)
        world.github.apps.revoke(world.number)
        await scope.remove(minted.registration_id)
        assert world.github.runners == {}
        assert world.count(TOKENS) == 4

    in_world(test)


def test_a_token_that_is_refused_however_new_is_not_asked_for_without_end() -> None:
    async def test(world: AppWorld) -> None:
        world.faults.faults = [Fault(FaultKind.ERROR, status=401, route="actions/runners")]
        scope = world.clients().scope("one")
        for _ in range(20):
            with pytest.raises(Forbidden):
                await scope.runners()
            await world.clock.sleep(1)
        assert world.count(TOKENS) <= 3

    in_world(test)


def test_trouble_with_renewal_is_waited_out_with_the_old_token() -> None:
    async def test(world: AppWorld) -> None:
        scope = world.clients().scope("one")
        await scope.runners()
        start = world.true_clock.now()
        fault = Fault(FaultKind.ERROR, status=502, route="access_tokens", start=start + 3200, end=start + 3500)
        world.faults.faults = [fault]
        for _ in range(80):
            await scope.runners()
            await world.clock.sleep(60)
        assert world.count(TOKENS) == 2
        assert world.faults.happened[FaultKind.ERROR] <= 3 * 4, (
            "a failed renewal is tried a few times a minute, not more"
        )

    in_world(test)


def test_lost_answers_and_outages_of_the_token_call_end_in_a_token() -> None:
    async def test(world: AppWorld) -> None:
        start = world.true_clock.now()
        route = r"access_tokens|/installation$"
        world.faults.faults = [
            Fault(FaultKind.LOSE, 0.5, route=route),
            Fault(FaultKind.ERROR, 0.3, route=route),
            Fault(FaultKind.DROP, 1.0, route=route, end=start + 120),
        ]
        scope = world.clients().scope("one")
        answered = 0
        for _ in range(6 * 60):
            try:
                await scope.runners()
                answered += 1
            except GitHubUnavailable:
                assert world.true_clock.now() < start + 600
            await world.clock.sleep(60)
        assert answered > 350

    in_world(test)


def test_a_rate_limit_on_the_token_call_is_obeyed() -> None:
    async def test(world: AppWorld) -> None:
        start = world.true_clock.now()
        throttle = Fault(FaultKind.THROTTLE, status=429, retry_after=300, route="access_tokens", end=start + 200)
        world.faults.faults = [throttle]
        scope = world.clients().scope("one")
        with pytest.raises(RateLimited) as caught:
            await scope.runners()
        assert caught.value.until == pytest.approx(start + 300, abs=1)
        for _ in range(28):
            await world.clock.sleep(10)
            with pytest.raises(RateLimited):
                await scope.runners()
        assert world.faults.happened[FaultKind.THROTTLE] == 1
        await world.clock.sleep(30)
        await scope.runners()

    in_world(test)


def test_an_app_that_is_installed_anew_is_found_again() -> None:
    async def test(world: AppWorld) -> None:
        scope = world.clients().scope("one")
        await scope.runners()
        world.github.apps.uninstall(world.number)
        await world.clock.sleep(30)
        with pytest.raises(NotInstalled, match="GitHub App Iv23li00000000001001 is not installed on octo"):
            await scope.runners()
        anew = world.github.apps.install(world.app.id, "octo")
        assert anew.id == world.number, "ids may come again; what counts is that the old tokens are gone"
        await world.clock.sleep(61)
        await scope.runners()

    in_world(test)


def test_refusals_say_what_to_do() -> None:
    async def test(world: AppWorld) -> None:
        apps = world.github.apps
        apps.add("other", key_pair(1)[1], owner="octo", permissions={})

        async def refusal(path: str = "octo", key: int = 0, **keys: object) -> str:
            table = world.table(path=path, **keys)
            clients = world.clients([table], secrets={"one": Secret(key_pair(key)[0])})
            with pytest.raises(Forbidden) as caught:
                await clients.scope("one").runners()
            assert "BEGIN" not in str(caught.value)
            return str(caught.value)

        assert "private_key_file holds no key of this App" in await refusal(key=1)
        assert "app_id is another App's" in await refusal(app_id="4711")
        assert "is not installed on octo: install it" in await refusal(app_id=1002, key=1)
        assert "has no installation 7 (any more); correct installation_id" in await refusal(installation_id=7)
        apps.uninstall(world.number)
        apps.install(world.app.id, "octo", repositories=["octo/lib"])
        text = await refusal(path="octo/app")
        assert (
            "is installed on octo, but the repository octo/app does not exist, or is not among those selected" in text
        )
        assert "/settings/installations/" in text

    in_world(test)


def test_a_clock_that_github_will_not_have_is_named() -> None:
    async def test(world: AppWorld) -> None:
        words = b"{\"message\":\"'Issued at' claim ('iat') must be an Integer representing the time that ...\"}"

        async def stubborn(scope: object, receive: object, send: object) -> None:
            headers = [(b"content-type", b"application/json"), (b"date", b"Fri, 15 Jan 2027 08:00:00 GMT")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": words})  # type: ignore[operator]

        world.asgi = stubborn  # type: ignore[assignment]
        with pytest.raises(Forbidden, match="this machine's clock is 400 s ahead of GitHub's; set it right"):
            await world.clients().scope("one").runners()
        assert len(world.requests) == 2

    in_world(test, ahead=400.0)


def test_scopes_of_one_installation_share_client_budget_and_token() -> None:
    async def test(world: AppWorld) -> None:
        tables = [world.table("a", "octo/app"), world.table("b", "octo/lib")]
        clients = world.clients(tables)
        assert clients.client("a") is clients.client("b")
        assert clients.app("a") is clients.app("b") is not None
        for name in ("a", "b"):
            await clients.scope(name).runners()
        assert world.count(TOKENS) == 1
        assert clients.scope("a").budget().counted == 2

    in_world(test)


def test_calls_of_the_app_itself_have_their_own_budget() -> None:
    async def test(world: AppWorld) -> None:
        clients = world.clients()
        app = clients.app("one")
        assert app is not None
        answer = await app.call("GET", "/app/installations?per_page=100")
        assert str(world.number).encode() in answer.body
        await app.call("PUT", f"/app/installations/{world.number}/suspended")
        with pytest.raises(Forbidden, match="suspended"):
            await clients.scope("one").runners()
        await app.call("DELETE", f"/app/installations/{world.number}/suspended")
        assert app.client.budget is not clients.client("one").budget
        assert clients.client("one").budget.snapshot().counted == 0
        plain = world.clients([world.table("plain", app_id=None, private_key_file=None, token_env="T")])
        assert plain.app("plain") is None

    in_world(test)


def test_a_new_key_is_taken_over_and_a_changed_app_waits_for_a_restart() -> None:
    async def test(world: AppWorld) -> None:
        table = world.table()
        clients = world.clients([table])
        world.github.apps.remove_key(world.app.id)
        world.github.apps.add_key(world.app.id, key_pair(1)[1])
        scope = clients.scope("one")
        with pytest.raises(Forbidden):
            await scope.runners()
        new = Secret(key_pair(1)[0])
        assert clients.take([world.table(app_id="4711")], {"one": new}) == {"one"}
        assert clients.take([world.table(app_id=None, private_key_file=None, token_env="T")], {"one": Secret("t")}) == {
            "one"
        }
        with pytest.raises(Forbidden):
            await scope.runners()
        assert clients.take([table], {"one": new}) == frozenset()
        await scope.runners()

    in_world(test)


def test_scopes_whose_tokens_part_are_named() -> None:
    async def test(world: AppWorld) -> None:
        tables = [
            world.table(n, f"octo/{n}", app_id=None, private_key_file=None, token_env="T") for n in ("app", "lib")
        ]
        clients = world.clients(tables, secrets={name: Secret("old") for name in ("app", "lib")})
        world.github.add_token("new")
        assert clients.take(tables, {"app": Secret("new"), "lib": Secret("old")}) == {"lib"}
        await clients.scope("lib").runners()
        assert clients.take(tables, {"app": Secret("new"), "lib": Secret("new")}) == frozenset()

    in_world(test)


def test_neither_keys_nor_tokens_are_told() -> None:
    async def test(world: AppWorld) -> None:
        clients = world.clients()
        await clients.scope("one").runners()
        shown = repr(vars(clients)) + repr(vars(clients.client("one"))["_headers_for"])
        assert "PRIVATE KEY" not in shown
        assert "ghs_" not in shown
        assert URL in repr(vars(clients))

    in_world(test)
