"""Events are frozen, name their runner alike, and reach everybody, whatever a listener does."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.observe import events
from slurm_gha.observe.correlation import Correlation
from slurm_gha.observe.events import Bus, Event

KINDS = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, Event)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_event_is_frozen_slotted_and_has_a_time(kind: type[Event]) -> None:
    assert is_dataclass(kind)
    assert "at" in {field.name for field in fields(kind)}
    assert kind.__doc__
    required = {field.name: "x" for field in fields(kind)} | {"at": 1.0}
    event = kind(**required)  # type: ignore[arg-type]
    assert not hasattr(event, "__dict__")
    with pytest.raises(FrozenInstanceError):
        event.at = 2.0  # type: ignore[misc]


def test_everybody_hears_everything_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    bus = Bus(first.append)
    bus.subscribe(second.append)
    told = [events.SlurmReadable(at=float(at)) for at in range(3)]
    for event in told:
        bus.emit(event)
    assert first == second == told


def test_a_listener_that_raises_is_survived_counted_and_told_of_without_its_words() -> None:
    heard: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("ghp_not-to-be-told")

    bus = Bus(broken, heard.append)
    event = events.SlurmUnreadable(at=5.0, error="x")
    bus.emit(event)
    assert bus.failures == 1
    where = "listener function at SlurmUnreadable"
    assert heard == [events.UnexpectedError(at=5.0, where=where, error="RuntimeError"), event]


def test_all_listeners_broken_is_survived_too() -> None:
    def broken(event: Event) -> None:
        raise RuntimeError

    bus = Bus(broken, lambda event: broken(event))
    bus.emit(events.SlurmReadable(at=1.0))
    assert bus.failures == 4


def test_a_cancelled_program_is_not_held_up() -> None:
    def interrupted(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Bus(interrupted).emit(events.SlurmReadable(at=1.0))


def test_identifiers_are_completed_from_earlier_events() -> None:
    correlation = Correlation()
    correlation.learn(events.RunnerIntended(at=1, name="r1", pool="small", scope="web", job_id=7, repository="o/r"))
    correlation.learn(events.RunnerSubmitted(at=2, name="r1", pool="small", scope="web", slurm_id=12))
    everything = {
        "runner": "r1",
        "slurm_id": 12,
        "job_id": 7,
        "repository": "o/r",
        "pool": "small",
        "scope": "web",
    }
    assert correlation.learn(events.ClaimGranted(at=3, name="r1")) == everything
    # The runner took another job than the one that caused it.
    taken = events.PhaseChanged(at=4, name="r1", before="idle", after="busy", pool="small", slurm_id=12, job_id=8)
    assert correlation.learn(taken) == {**everything, "job_id": 8}
    gone = events.JobGone(at=5, job_id=8, repository="o/q", scope="web", waited=3.0, runner_name="r1")
    assert correlation.learn(gone) == {**everything, "job_id": 8, "repository": "o/q"}


def test_identifiers_after_a_restart_come_from_the_journal() -> None:
    correlation = Correlation()
    correlation.seed([RunnerRecord("r1", "web", "small", frozenset(), Handover.CLAIM, 1.0, repository="o/r")])
    told = correlation.learn(events.RunnerClosed(at=3, name="r1", outcome="finished"))
    assert told == {"runner": "r1", "repository": "o/r", "pool": "small", "scope": "web"}


def test_names_that_strangers_make_up_are_not_remembered_and_memory_is_bounded() -> None:
    correlation = Correlation(limit=3)
    for number in range(10):
        correlation.learn(events.ClaimDenied(at=1, name=f"made-up-{number}", reason="unknown"))
        correlation.learn(events.RunnerSubmitted(at=2, name=f"r{number}", pool="p", scope="s", slurm_id=number))
    assert [f"r{number}" for number in range(10) if correlation.of(f"r{number}").pool] == ["r7", "r8", "r9"]
    assert correlation.of("made-up-9").pool is None
