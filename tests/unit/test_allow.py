"""Which jobs a pool lets run, and that patterns mean the same to the planner and to the nodes."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.planner_worlds import NOW, SCOPE, job, policy, pool, runner, world

from slurm_gha.domain.allow import EVERYTHING, Allow, Answer, Ground, expression, matches
from slurm_gha.domain.job import Origin
from slurm_gha.planner.actions import Cause, Submit
from slurm_gha.planner.plan import plan

PUSH = Origin(event="push", branch="main", actor="Octocat", fork=False)
FORKED = Origin(event="pull_request", branch="main", actor="mallory", fork=True)
NOBODY = Origin(event="", branch="", actor="", fork=True)

ALPHABET = st.sampled_from("ab/*.[]^$\\ü-")
SHORT = st.text(ALPHABET, max_size=6)


@pytest.mark.parametrize(
    ("allow", "origin", "ground"),
    [
        (Allow(), PUSH, None),
        (Allow(), FORKED, Ground.FORK),
        (Allow(), NOBODY, Ground.FORK),
        (Allow(forks=True), FORKED, None),
        (EVERYTHING, None, None),
        (Allow(events=("push", "schedule")), PUSH, None),
        (Allow(events=("schedule",)), PUSH, Ground.EVENT),
        (Allow(branches=("main", "release/*")), replace(PUSH, branch="release/1"), None),
        (Allow(branches=("release/*",)), replace(PUSH, branch="release/1/x"), Ground.BRANCH),
        (Allow(branches=("main",), forks=True), FORKED, Ground.BRANCH),
        (Allow(branches=("**",)), replace(PUSH, branch=""), None),
        (Allow(actors=("octocat",)), PUSH, None),
        (Allow(actors=("OCTOCAT",)), PUSH, None),
        (Allow(actors=("octocat[bot]",)), PUSH, Ground.ACTOR),
        (Allow(actors=("octocat",)), replace(PUSH, actor=""), Ground.ACTOR),
        (Allow(repositories=("octo/repo",)), PUSH, None),
        (Allow(repositories=("OCTO/r*",)), PUSH, None),
        (Allow(repositories=("octo/other", "octo")), PUSH, Ground.REPOSITORY),
    ],
)
def test_a_ruling(allow: Allow, origin: Origin | None, ground: Ground | None) -> None:
    ruling = allow.rule(job(origin=origin))
    assert (ruling.answer, ruling.ground) == (Answer.REFUSED if ground else Answer.ALLOWED, ground)
    assert bool(ruling.reason) == (ground is not None)


@pytest.mark.parametrize(
    ("allow", "origin"),
    [
        (Allow(), None),
        (Allow(), replace(PUSH, fork=None)),
        (Allow(forks=True, events=("push",)), None),
        (Allow(branches=("main",)), replace(PUSH, branch=None)),
        (Allow(actors=("octocat",)), replace(PUSH, actor=None)),
    ],
)
def test_what_is_not_known_yet_is_waited_for_unless_it_can_never_be(allow: Allow, origin: Origin | None) -> None:
    assert allow.rule(job(origin=origin)).answer is Answer.UNKNOWN
    never = allow.rule(replace(job(origin=origin), run_id=0))
    assert (never.answer, never.ground) == (Answer.REFUSED, Ground.ORIGIN)


def test_what_is_known_to_be_refused_does_not_wait_for_the_rest() -> None:
    assert Allow(events=("schedule",)).rule(job(origin=Origin(event="push"))).ground is Ground.EVENT


@given(
    st.builds(
        Allow,
        repositories=st.sampled_from([(), ("octo/*",), ("lab/*",)]),
        branches=st.sampled_from([(), ("main",), ("**",)]),
        events=st.sampled_from([(), ("push",)]),
        actors=st.sampled_from([(), ("octocat",)]),
        forks=st.booleans(),
    ),
    st.builds(
        Origin,
        event=st.sampled_from(["push", "pull_request", ""]),
        branch=st.sampled_from(["main", "x", ""]),
        actor=st.sampled_from(["octocat", "mallory", ""]),
        fork=st.booleans(),
    ),
    st.sets(st.sampled_from(["event", "branch", "actor", "fork"])),
)
def test_to_learn_more_never_turns_a_ruling_that_was_made(allow: Allow, origin: Origin, hidden: set[str]) -> None:
    early = allow.rule(job(origin=replace(origin, **dict.fromkeys(hidden))))  # type: ignore[arg-type]
    late = allow.rule(job(origin=origin))
    assert late.answer is not Answer.UNKNOWN
    assert early.answer in (late.answer, Answer.UNKNOWN)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(SHORT.filter(bool), SHORT), min_size=10, max_size=30))
def test_patterns_mean_on_nodes_what_they_mean_here(pairs: list[tuple[str, str]]) -> None:
    pairs += [(pattern, pattern.replace("*", "a")) for pattern, _ in pairs]
    script = "while [ $# -gt 0 ]; do [[ $2 =~ $1 ]] && printf 1 || printf 0; shift 2; done"
    arguments = [part for pattern, text in pairs for part in (expression(pattern), text)]
    said = subprocess.run(
        ["bash", "-c", script, "x", *arguments], check=True, capture_output=True, text=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert said.stdout == "".join("1" if matches(pattern, text) else "0" for pattern, text in pairs)


def test_many_stars_take_no_time() -> None:
    assert not matches("**a" * 80 + "b", "a" * 250)


# In the plan


def test_a_refused_job_gets_no_runner_and_is_told_why() -> None:
    refused = job(origin=FORKED)
    decided = plan(world(refused), policy(pool("small", allow=Allow())), NOW)
    assert decided.actions == ()
    (entry,) = decided.waiting
    assert entry.reason == "pool small does not let it run: it comes from a fork"
    assert (entry.cause, entry.unservable) == (Cause.REFUSED, False)


def test_a_job_of_unknown_origin_waits() -> None:
    (entry,) = plan(world(job()), policy(pool("small", allow=Allow())), NOW).waiting
    assert entry.cause is Cause.ORIGIN
    assert "not known yet" in entry.reason


def test_a_pool_that_lets_it_run_is_taken_though_another_refuses() -> None:
    under = policy(pool("own", allow=Allow()), pool("public"))
    assert plan(world(job(origin=FORKED)), under, NOW).actions == (Submit("public", SCOPE, job(origin=FORKED)),)


def test_no_runner_of_a_refusing_pool_is_counted_on() -> None:
    under = policy(pool("small", allow=Allow()), pool("public"))
    decided = plan(world(job(origin=FORKED), runner(online=True, state="RUNNING")), under, NOW)
    assert Submit("public", SCOPE, job(origin=FORKED)) in decided.actions


def test_labels_nobody_has_are_no_refusal() -> None:
    (entry,) = plan(world(job(1, "gpu", origin=FORKED)), policy(pool("small", allow=Allow())), NOW).waiting
    assert (entry.unservable, entry.cause) == (True, Cause.LABELS)


def test_a_scale_set_s_job_is_refused_all_the_same() -> None:
    (entry,) = plan(world(job(origin=FORKED, scale_set="small")), policy(pool("small", allow=Allow())), NOW).waiting
    assert entry.cause is Cause.REFUSED
