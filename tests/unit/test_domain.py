"""Phases, Slurm stages, labels, names, and secrets that stay secret."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
import traceback
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.planner_worlds import NOW, runner

from slurm_gha.domain.job import JobStatus
from slurm_gha.domain.labels import normalise, satisfies
from slurm_gha.domain.runner import Phase, Runner, name_prefix, phase, runner_name
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.slurm import SlurmStage, stage_of

TEXT = "ghp_0123456789abcdef"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (runner(state=None), Phase.SUBMITTED),
        (runner(state="PENDING"), Phase.PENDING),
        (runner(state="TELEPORTING"), Phase.PENDING),
        (runner(state="RUNNING"), Phase.STARTING),
        (runner(state=None, claimed_at=NOW), Phase.STARTING),
        (runner(state="RUNNING", online=False), Phase.STARTING),
        (runner(state="RUNNING", online=True), Phase.IDLE),
        (runner(state="RUNNING", online=True, busy=True), Phase.BUSY),
        (runner(state="RUNNING", online=True, taken_job=7), Phase.BUSY),
        (runner(state="RUNNING", online=True, busy_at=NOW), Phase.BUSY),
        (runner(state="COMPLETING", taken_job=7), Phase.BUSY),
        (runner(state="COMPLETING"), Phase.ENDED),
        (runner(state="RUNNING", busy_at=NOW, finished_at=NOW), Phase.ENDED),
        (runner(state="NODE_FAIL", online=True, busy=True, taken_job=7), Phase.ENDED),
    ],
)
def test_the_phase_follows_from_three_observations(seen: Runner, expected: Phase) -> None:
    assert phase(seen) is seen.phase is expected


@pytest.mark.parametrize(
    ("state", "reason", "stage"),
    [
        ("PENDING", "Priority", SlurmStage.PENDING),
        ("CONFIGURING", "None", SlurmStage.PENDING),
        ("PENDING", "JobHeldAdmin", SlurmStage.HELD),
        ("PENDING", "JobHeldUser", SlurmStage.HELD),
        ("PENDING", "launch failed requeued held", SlurmStage.HELD),
        ("PENDING", "BadConstraints", SlurmStage.HELD),
        ("SPECIAL_EXIT", "", SlurmStage.HELD),
        ("RUNNING", "", SlurmStage.RUNNING),
        ("RUNNING", "JobHeldAdmin", SlurmStage.RUNNING),
        ("SUSPENDED", "", SlurmStage.RUNNING),
        ("COMPLETING", "", SlurmStage.ENDING),
        ("COMPLETED", "", SlurmStage.ENDED),
        ("CANCELLED by 1000", "", SlurmStage.ENDED),
        ("CANCELLED+", "", SlurmStage.ENDED),
        (" node_fail ", "", SlurmStage.ENDED),
        ("GONE", "", SlurmStage.ENDED),
        ("TELEPORTING", "", SlurmStage.UNKNOWN),
        ("", "", SlurmStage.UNKNOWN),
    ],
)
def test_the_stage_of_a_slurm_state(state: str, reason: str, stage: SlurmStage) -> None:
    assert stage_of(state, reason) is stage


@given(st.text(), st.text())
def test_no_state_word_crashes(state: str, reason: str) -> None:
    assert isinstance(stage_of(state, reason), SlurmStage)


def test_a_job_status_github_invents_later_is_unknown() -> None:
    assert JobStatus("levitating") is JobStatus.UNKNOWN
    assert JobStatus("queued") is JobStatus.QUEUED


def test_labels_are_compared_without_regard_to_case() -> None:
    assert normalise(["Linux", " GPU ", "linux"]) == {"linux", "gpu"}
    assert satisfies(normalise(["Linux", "GPU"]), normalise(["gpu"]))
    assert not satisfies(frozenset(), frozenset())
    assert not satisfies(normalise(["linux"]), normalise(["linux", "gpu"]))


def test_a_runner_s_name_tells_whose_it_is() -> None:
    assert runner_name("abc", "small", "x1") == "sg-abc-small-x1"
    assert not runner_name("abcd", "small", "x1").startswith(name_prefix("abc"))


@dataclass(frozen=True, slots=True)
class Holder:
    secret: Secret


def _fails(secret: Secret) -> str:
    try:
        raise ValueError(f"refused: {secret}", secret)
    except ValueError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()) + repr(error)


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        lambda secret: f"{secret} {secret!r} {secret!s} {secret!a}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the old way has to be safe, too
        lambda secret: "{0}".format(secret),  # noqa: UP030, UP032 - likewise
        lambda secret: repr([secret, {secret: secret}, Holder(secret)]),
        lambda secret: repr(asdict(Holder(secret))),
        lambda secret: json.dumps({"secret": secret}, default=str),
        lambda secret: logging.Formatter().format(logging.LogRecord("x", 20, "x", 1, "with %s", (secret,), None)),
        _fails,
    ],
)
def test_a_secret_does_not_show(shown: object) -> None:
    said = shown(Secret(TEXT))  # type: ignore[operator]
    assert TEXT not in said
    assert "***" in said


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_cannot_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="Secret"):
        pickle.dumps(Holder(Secret(TEXT)), protocol)


def test_a_secret_can_be_copied_and_compared() -> None:
    secret = Secret(TEXT)
    assert copy.copy(secret) == copy.deepcopy(secret) == secret == Secret(TEXT)
    assert secret != Secret("other")
    assert secret != TEXT
    assert hash(secret) == hash(Secret(TEXT))
    assert secret.reveal() == TEXT


@given(st.text(st.characters()))
def test_a_digest_recognises_its_secret(text: str) -> None:
    """Whatever a node may send: halves of surrogate pairs, too, come out of JSON."""
    digest = Secret(text).digest()
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert Secret(text).matches(digest)
    assert not Secret(text + "x").matches(digest)
    assert Secret(text) == Secret(text)


def test_half_a_surrogate_pair_is_no_crash() -> None:
    assert not Secret("\ud800").matches(Secret(TEXT).digest())
    assert Secret("\ud800") != Secret(TEXT)
