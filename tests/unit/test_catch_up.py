"""Catching up with deliveries that never arrived, doubts about what is believed, and what `check` says of hooks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import trio.testing

from slurm_gha.cli.hooks import ask_hook, ask_secret
from slurm_gha.cli.inquiry import Verdict
from slurm_gha.controller.doubts import UNNAMED, doubtful, unnamed
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import Runner, RunnerRecord
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.world import World
from slurm_gha.github.errors import Forbidden, GitHubError, GitHubUnavailable
from slurm_gha.github.hooks import Attempt, Hook, NoHook, missed, points_to
from slurm_gha.observe.events import Bus, CatchUpImpossible, DeliveriesMissed, Event
from slurm_gha.sources.doubt import SPACING, DoubtSource
from slurm_gha.sources.first_look import RETRY, FirstLook
from slurm_gha.sources.webhook import MOST_REPEATED, CatchUp, Sharers
from slurm_gha.store.deliveries import DeliveryBook
from slurm_gha.store.journal import Journal

NOW = 1_800_000_000.0
HOOK = Hook("/repos/o/r/hooks/1", "https://proxy.example/v1/webhooks/lab", ("workflow_job",), content_type="json")


def attempt(number: int, *, at: float = NOW, code: int = 502, guid: str = "", event: str = "workflow_job") -> Attempt:
    return Attempt(number, guid or f"g{number}", at, event, "queued", code, "OK" if code == 200 else "failed")


class Desk:
    """A hook with a history that tests write."""

    def __init__(self, *history: Attempt, error: Exception | None = None) -> None:
        self.history = list(history)
        self.error = error
        self.repeated: list[int] = []
        self.since: list[float] = []

    async def find(self) -> Hook:
        if self.error is not None:
            raise self.error
        return HOOK

    async def attempts(self, hook: Hook, since: float) -> list[Attempt]:
        if self.error is not None:
            raise self.error
        self.since.append(since)
        return [each for each in reversed(self.history) if each.at >= since]

    async def repeat(self, hook: Hook, attempt: Attempt) -> None:
        self.repeated.append(attempt.id)


class Bench:
    def __init__(self, journal: Journal, desk: Desk) -> None:
        self.clock = EventLoopClock(NOW)
        self.clock.now()
        self.desk = desk
        self.book = DeliveryBook(journal)
        self.heard: list[Event] = []
        self.hints: list[Hint] = []
        self.catch_up = CatchUp("lab", desk, self.book, self.clock, Bus(self.heard.append), interval=600.0)

    async def turn(self) -> None:
        await self.catch_up.turn(self.hints.append)


def play(tmp_path: Path, desk: Desk, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        with Journal.open(tmp_path / "journal", synchronous="OFF") as journal:
            await story(Bench(journal, desk))

    anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})


def test_what_got_through_in_any_try_or_is_known_is_not_missed(tmp_path: Path) -> None:
    desk = Desk(
        attempt(1, at=NOW - 100),
        attempt(2, at=NOW - 90, guid="twice"),
        attempt(3, at=NOW - 80, guid="twice", code=200),
        attempt(4, at=NOW - 70, guid="taken"),
        attempt(5, at=NOW - 60, event="ping"),
        attempt(6, at=NOW - 50, guid="thrice"),
        attempt(7, at=NOW - 40, guid="thrice", code=500),
        attempt(8, at=NOW - 1),
        attempt(9, at=NOW - 30, code=200),
    )

    async def story(bench: Bench) -> None:
        bench.book.note("taken", "lab", NOW)
        bench.book.set_caught_up("lab", NOW - 1000)
        await bench.turn()
        assert desk.repeated == [1, 7], "the newest try of each, the oldest delivery first; what is under way waits"
        assert bench.heard == [DeliveriesMissed(at=NOW, scope="lab", missed=2, asked=2)]
        assert bench.hints == []
        assert bench.book.caught_up("lab") == NOW - 30

    play(tmp_path, desk, story)


def test_the_history_is_read_on_from_where_the_last_turn_ended(tmp_path: Path) -> None:
    desk = Desk(attempt(1, at=NOW - 100, code=200))

    async def story(bench: Bench) -> None:
        await bench.turn()
        assert desk.since == [NOW - 600], "what was before the first turn, the first look at the scope shows"
        desk.history.append(attempt(2, at=NOW + 300))
        await bench.clock.sleep(600)
        await bench.turn()
        assert desk.since[1] == NOW - 100
        assert desk.repeated == [2]
        desk.history.append(attempt(3, at=NOW + 601, guid="g2"))
        await bench.clock.sleep(600)
        await bench.turn()
        assert desk.repeated == [2, 3], "it got lost again"

    play(tmp_path, desk, story)


def test_where_much_was_missed_the_scope_is_looked_at(tmp_path: Path) -> None:
    desk = Desk(*(attempt(number, at=NOW - 500 + number) for number in range(1, MOST_REPEATED + 21)))

    async def story(bench: Bench) -> None:
        await bench.turn()
        assert desk.repeated == list(range(21, MOST_REPEATED + 21))
        assert bench.hints == [Hint("lab")]
        assert bench.heard == [DeliveriesMissed(at=NOW, scope="lab", missed=MOST_REPEATED + 20, asked=MOST_REPEATED)]

    play(tmp_path, desk, story)


@pytest.mark.parametrize("error", [Forbidden("lacks Webhooks: write"), NoHook("make one")])
def test_what_cannot_be_done_is_said_once(tmp_path: Path, error: Exception) -> None:
    desk = Desk(attempt(1, at=NOW + 2900), error=error)

    async def story(bench: Bench) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bench.catch_up.run, bench.hints.append)
            await bench.clock.sleep(2900)
            assert bench.heard == [CatchUpImpossible(at=NOW, scope="lab", reason=str(error))]
            desk.error = None
            await bench.clock.sleep(500)
            assert desk.repeated == [1]
            group.cancel_scope.cancel()

    play(tmp_path, desk, story)


def test_an_outage_of_github_loses_no_turn(tmp_path: Path) -> None:
    desk = Desk(attempt(1, at=NOW + 700), error=GitHubUnavailable("502"))

    async def story(bench: Bench) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bench.catch_up.run, bench.hints.append)
            await bench.clock.sleep(900)
            assert bench.heard == []
            desk.error = None
            await bench.clock.sleep(600)
            assert desk.repeated == [1]
            group.cancel_scope.cancel()

    play(tmp_path, desk, story)


def test_of_those_that_share_a_hook_the_next_takes_over_from_one_that_may_not_read_it(tmp_path: Path) -> None:
    class Shared(Desk):
        async def find(self) -> Hook:
            return replace(await super().find(), shared="GitHub App 1")

    first, second = Shared(attempt(1, at=NOW - 100)), Shared(attempt(1, at=NOW - 100), attempt(2, at=NOW + 500))

    async def story(bench: Bench) -> None:
        sharers, bus = Sharers(), Bus(bench.heard.append)
        async with anyio.create_task_group() as group:
            for name, desk in (("a", first), ("b", second)):
                catch_up = CatchUp(name, desk, bench.book, bench.clock, bus, interval=600.0, sharers=sharers)
                group.start_soon(catch_up.run, bench.hints.append)
                await bench.clock.sleep(1)
            assert (first.repeated, second.since) == ([1], [])
            first.error = Forbidden("its key was deleted")
            await bench.clock.sleep(1300)
            assert second.repeated[-1] == 2
            assert second.since[0] == NOW - 100, "where the other had got to"
            assert [event.scope for event in bench.heard if isinstance(event, CatchUpImpossible)] == ["a"]
            first.error = None
            await bench.clock.sleep(1300)
            assert len(first.since) == 1, "it joins again, behind the other"
            group.cancel_scope.cancel()

    play(tmp_path, first, story)


def test_missed_needs_no_order() -> None:
    tries = [attempt(3, at=NOW + 9, guid="a"), attempt(2, at=NOW + 5, guid="b"), attempt(1, at=NOW, guid="a")]
    assert [each.id for each in missed(tries)] == [3, 2]
    assert missed([*tries, attempt(4, guid="a", code=204)]) == [tries[1]]


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("https://x.example/v1/webhooks/lab", True),
        ("https://x.example/ci/v1/webhooks/lab/", True),
        ("https://x.example/v1/webhooks/lab2", False),
        ("https://x.example/?v1/webhooks/lab", False),
        ("https://[x/v1/webhooks/lab", False),
        ("", False),
    ],
)
def test_where_a_hook_points(url: str, here: bool) -> None:
    assert points_to(url, "lab") is here


# Doubts


def job(number: int, created: float = NOW, labels: frozenset[str] = frozenset({"small"})) -> Job:
    return Job(number, "lab", "lab/demo", 100 + number, 1, "build", "CI", labels, JobStatus.QUEUED, created)


def runner(busy_at: float | None, taken: int | None = None) -> Runner:
    record = RunnerRecord("sg-1", "lab", "small", frozenset({"small"}), Handover.CLAIM, NOW, busy_at=busy_at)
    return Runner(record, None, None, taken)


def test_a_busy_runner_whose_job_nobody_names_casts_doubt_on_the_jobs_it_may_have() -> None:
    jobs = (job(1), job(2, NOW + 500), job(3, labels=frozenset({"large"})))
    world = World(jobs=jobs, runners=(runner(NOW),))
    assert unnamed(world, ["lab"], NOW + UNNAMED) == [Hint("lab", "lab/demo", 101)]
    assert unnamed(world, ["lab"], NOW + UNNAMED - 1) == []
    assert unnamed(world, [], NOW + UNNAMED) == []
    assert unnamed(replace(world, runners=(runner(NOW, taken=9),)), ["lab"], NOW + UNNAMED) == []
    assert unnamed(replace(world, runners=(runner(None),)), ["lab"], NOW + UNNAMED) == []
    many = replace(world, jobs=tuple(job(number) for number in range(1, 100)))
    assert len(unnamed(many, ["lab"], NOW + UNNAMED)) == 5


def test_a_job_that_goes_on_although_its_runner_has_ended_is_looked_at() -> None:
    running = replace(job(1), status=JobStatus.IN_PROGRESS, runner_name="sg-1")
    ended = replace(runner(NOW - 100, taken=1), record=replace(runner(NOW - 100).record, finished_at=NOW))
    world = World(jobs=(running,), runners=(ended,))
    assert doubtful(world, ["lab"], NOW + UNNAMED) == [Hint("lab", "lab/demo", 101)]
    assert doubtful(world, ["lab"], NOW + UNNAMED - 1) == []
    assert doubtful(world, ["other"], NOW + UNNAMED) == []
    assert doubtful(replace(world, jobs=()), ["lab"], NOW + UNNAMED) == []


def test_the_same_doubt_is_voiced_now_and_then() -> None:
    class Clock:
        at = NOW

        def now(self) -> float:
            return self.at

        async def sleep(self, seconds: float) -> None:
            raise AssertionError(seconds)

    clock, hints = Clock(), list[Hint]()
    source = DoubtSource(lambda now: [Hint("lab", "lab/demo", 1)], clock)
    for seconds in (0.0, 5.0, SPACING - 1, SPACING, SPACING + 5):
        clock.at = NOW + seconds
        source.think(hints.append)
    assert len(hints) == 2


def test_what_is_not_polled_is_read_once_well() -> None:
    async def main() -> None:
        clock, hints = EventLoopClock(NOW), list[tuple[float, str]]()
        read = {"a": NOW, "b": NOW + RETRY + 1}
        source = FirstLook(["a", "b"], lambda scope: clock.now() > read[scope], clock)
        await source.run(lambda hint: hints.append((clock.now() - NOW, hint.scope)))
        assert hints == [(0, "a"), (0, "b"), (RETRY, "b")]

    anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})


# What check says


def ask(desk: Desk, hook: Hook = HOOK) -> list[tuple[Verdict, str]]:
    async def found() -> Hook:
        if desk.error is not None:
            raise desk.error
        return hook

    desk.find = found  # type: ignore[method-assign]
    return [(answer.verdict, answer.text) for answer in anyio.run(ask_hook, "lab", desk, NOW)]


def test_check_tells_of_a_hook_and_its_deliveries() -> None:
    good, bad = attempt(1, at=NOW - 9, code=200), attempt(2, at=NOW - 5)
    assert ask(Desk(bad, good)) == [
        (Verdict.TRUE, "webhook https://proxy.example/v1/webhooks/lab points here"),
        (Verdict.TRUE, "1 of the webhook's 2 deliveries of the last day got through"),
    ]
    assert ask(Desk(good, bad))[1][0] is Verdict.DOUBTFUL
    assert ask(Desk())[1] == (Verdict.DOUBTFUL, "the webhook has delivered nothing for a day")


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (replace(HOOK, active=False), "switched off"),
        (replace(HOOK, events=("push",)), "does not send the event Workflow jobs"),
        (replace(HOOK, content_type="form"), "content type application/json"),
    ],
)
def test_check_tells_what_is_wrong_with_a_hook(hook: Hook, words: str) -> None:
    verdict, text = ask(Desk(), hook)[0]
    assert verdict is Verdict.FALSE
    assert words in text


@pytest.mark.parametrize(
    ("error", "verdict"), [(NoHook("make one"), Verdict.FALSE), (Forbidden("no"), Verdict.DOUBTFUL)]
)
def test_check_tells_where_there_is_none_or_none_to_be_seen(error: GitHubError, verdict: Verdict) -> None:
    assert [answer[0] for answer in ask(Desk(error=error))] == [verdict]


def test_check_wants_a_real_secret() -> None:
    assert ask_secret("lab", Secret("hush")).verdict is Verdict.DOUBTFUL
    assert ask_secret("lab", Secret("0123456789abcdef")).verdict is Verdict.TRUE
    assert "hush" not in str(ask_secret("lab", Secret("hush")))
