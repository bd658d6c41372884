"""A workflow's job becomes the runner's job message, and the message becomes steps again, nothing lost on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.testing.github import messages
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.runner import actlog, workflow
from slurm_gha.testing.runner.template import Writer, plain
from slurm_gha.testing.runner.workflow import StepPlan

WORKFLOW = """
name: Build
on: push
env: {LEVEL: workflow}
defaults: {run: {shell: bash}}
jobs:
  first:
    runs-on: x
    outputs: {version: "${{ steps.v.outputs.version }}"}
    steps:
      - {id: v, run: "echo version=1 >> $GITHUB_OUTPUT"}
  second:
    needs: first
    runs-on: x
    strategy: {matrix: {size: [small], more: [{deep: "it's"}]}}
    env: {LEVEL: "job ${{ matrix.size }}", COUNT: 3, ON: true}
    steps:
      - uses: actions/checkout@v4
        with: {path: src}
      - name: "say ${{ needs.first.outputs.version }}"
        run: |
          echo '{0}' "${{ needs.first.outputs.version }}" ${{ github.sha }}
        if: needs.first.result == 'success'
        env: {WHO: "${{ runner.name }}"}
        continue-on-error: true
        timeout-minutes: 5
        working-directory: src
      - uses: ./local
        if: always()
      - uses: docker://alpine:3
"""


class Frozen(EventLoopClock):
    def now(self) -> float:
        return 1_700_000_000.0


@pytest.fixture
def second() -> dict[str, Any]:
    github = GitHub(Frozen(0), url="http://sim")
    github.add_repository("octo/app", {".github/workflows/b.yml": WORKFLOW}, variables={"SITE": "here"})
    github.push("octo/app")
    (first,) = github.jobs.values()
    runner, _ = github.mint_runner("repos/octo/app", "r1", ["x"])
    session = github.open_session(runner)
    offer = github.next_message(session)
    assert offer is not None
    assert hasattr(offer, "id")
    github.acquire(runner, offer.id)
    github.complete(first.id, "success", {"version": "1.2"})
    job = next(job for job in github.jobs.values() if job.key == "second")
    return messages.job_request(job, github.addresses, "access", "token-of-job", 1_700_000_600.0)


def plan(message: dict[str, Any], **places: Any) -> workflow.Plan:
    where = {"workspace": "/w", "files": "/f", "archives": {"octo/app": "/a.tgz"}, "hold": "/f/hold.sh", **places}
    return workflow.plan(message, workflow.Places(**where), {"runner": {"name": "r9"}})


def test_the_message_has_what_a_runner_needs(second: dict[str, Any]) -> None:
    assert json.loads(json.dumps(second)) == second
    (endpoint,) = second["resources"]["endpoints"]
    assert endpoint["name"] == "SystemVssConnection"
    assert endpoint["authorization"]["parameters"]["AccessToken"] == "access"
    assert second["lockedUntil"] == "2023-11-14T22:23:20.000000Z"
    assert second["variables"]["system.github.token"] == {"value": "token-of-job", "isSecret": True}
    assert {hint["value"] for hint in second["mask"]} == {"token\\-of\\-job", "access"}
    references = [step["reference"] for step in second["steps"]]
    assert references == [
        {"type": "repository", "repositoryType": "GitHub", "name": "actions/checkout", "ref": "v4", "path": ""},
        {"type": "script"},
        {"type": "repository", "repositoryType": "self", "path": "./local"},
        {"type": "containerRegistry", "image": "alpine:3"},
    ]
    assert [step["condition"] for step in second["steps"]] == [
        "success()",
        "success() && (needs.first.result == 'success')",
        "always()",
        "success()",
    ]
    assert len({step["id"] for step in second["steps"]}) == 4
    assert plain(second["contextData"]["needs"]) == {"first": {"result": "success", "outputs": {"version": "1.2"}}}
    assert plain(second["contextData"]["vars"]) == {"SITE": "here"}
    assert plain(second["contextData"]["matrix"]) == {"size": "small", "more": {"deep": "it's"}}


def test_the_message_becomes_a_workflow_of_one_job(second: dict[str, Any]) -> None:
    made = plan(second)
    job = made.document["jobs"]["job"]
    assert job["strategy"] == {"matrix": {"size": ["small"], "more": [{"deep": "it's"}]}}
    assert job["env"] == {"LEVEL": "job ${{ matrix.size }}", "COUNT": 3, "ON": True}
    assert job["defaults"] == {"run": {"shell": "bash"}}
    setup, checkout, say, local, image, collect = job["steps"]
    assert (setup["id"], collect["id"], collect["if"]) == ("__setup", "__collect", "always()")
    assert checkout["env"]["STAND_IN_TARGET"] == "src"
    assert checkout["env"]["STAND_IN_ARCHIVE"] == "/a.tgz"
    assert "needs" not in say["run"].replace("fromJSON", "")
    assert "'{0}'" in say["run"]
    assert '"version": "1.2"' in say["run"]
    assert say["working-directory"] == "src"
    assert say["env"] == {"WHO": "${{ fromJSON('\"r9\"') }}"}
    assert say["continue-on-error"] is True
    assert say["timeout-minutes"] == 5
    assert local["uses"] == "./local"
    assert (image["name"], image["env"]["STAND_IN_IMAGE"]) == ("Run docker://alpine:3", "alpine:3")
    assert made.event_name == "push"
    assert [step.key for step in made.steps] == ["1", "2", "3", "4"]


def test_hooks_become_the_first_and_the_last_step(second: dict[str, Any]) -> None:
    made = plan(second, hook_started="/h/it's.sh", hook_completed="/h/end.sh")
    names = [step.get("name") for step in made.document["jobs"]["job"]["steps"]]
    assert names[1] == "Set up runner"
    assert names[-2] == "Complete runner"
    assert made.document["jobs"]["job"]["steps"][1]["run"] == "bash -e '/h/it'\\''s.sh'\n"


def test_an_event_name_that_is_no_word_does_not_become_an_argument(second: dict[str, Any]) -> None:
    github = next(pair for pair in second["contextData"]["github"]["d"] if pair["k"] == "event_name")
    github["v"] = "--help"
    assert plan(second).event_name == "push"


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("plain", None),
        ("${{ a.b }}", "a.b"),
        ("${{ 'x}}y' }}", "'x}}y'"),
        ("it's {x} ${{ a }} and ${{ b }}", "format('it''s {{x}} {0} and {1}', a, b)"),
    ],
)
def test_embedded_expressions_become_one(text: str, expression: str | None) -> None:
    assert messages.as_expression(text) == expression


words = st.text(st.characters(codec="utf-8", exclude_characters="$\x00"), max_size=12)
pieces = st.lists(
    st.one_of(words, st.sampled_from(["${{ env.A }}", "${{ fn('a,b', x.needs) }}", "${{ '}' }}"])), max_size=6
)


@given(pieces)
def test_texts_survive_the_way_to_the_runner_and_back(parts: list[str]) -> None:
    text = "".join(parts)
    writer = Writer({}, {})
    assert writer.value(json.loads(json.dumps(messages.token(text)))) == text


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words.filter(str.strip), inner, max_size=3)),
    max_leaves=8,
)


@given(values)
def test_values_survive_as_tokens_and_as_context_data(value: Any) -> None:
    assert plain(json.loads(json.dumps(messages.context_data(value)))) == value
    assert Writer({}, {}).value(json.loads(json.dumps(messages.token(value)))) == value


@given(values)
def test_a_context_as_a_literal_ends_no_expression(value: Any) -> None:
    written = Writer({"needs": {"a": value}}, {}).expression("needs.a")
    assert "}}" not in written
    assert "${{" not in written
    quoted = written.removeprefix("fromJSON('").removesuffix("').a").replace("''", "'")
    assert json.loads(quoted) == {"a": value}


def test_only_whole_contexts_are_replaced() -> None:
    writer = Writer({"needs": {}, "github": {"ref": "r", "token": "t"}}, {})
    expression = "x.needs.y && 'needs' && github.token && github.event.ref && needsx && github.REF"
    assert writer.expression(expression) == expression.removesuffix("github.REF") + "fromJSON('\"r\"')"


def test_the_log_masks_and_names_what_act_says() -> None:
    plans = [StepPlan("1", "guid", None, "echo a", False), StepPlan("x", "guid2", "named", "exit 3", False)]
    log = actlog.JobLog(plans, ("hidden",))
    said = [
        {"msg": "⭐ Run Main echo a", "step": "echo a", "stage": "Main", "stepID": ["1"], "job": "j"},
        {"msg": "hidden and shown\n", "raw_output": True, "stage": "Main", "stepID": ["1"], "job": "j"},
        {"msg": "  x", "command": "add-mask", "arg": "later", "stage": "Main", "stepID": ["1"]},
        {"msg": "later\n", "raw_output": True, "stage": "Main", "stepID": ["1"]},
        {"msg": "ok", "stepResult": "success", "stage": "Main", "stepID": ["1"]},
        {"msg": "⭐ Run Main named", "step": "named", "stage": "Main", "stepID": ["x"]},
        {"msg": "exit status 3", "level": "error", "stage": "Main", "stepID": ["x"]},
        {"msg": "no", "stepResult": "failure", "stage": "Main", "stepID": ["x"]},
        {"msg": "over", "jobResult": "failure"},
    ]
    for each in said:
        log.feed(0.0, json.dumps(each))
    log.settle(1.0, {}, cancelled=False)
    assert [line.split(" ", 1)[1] for line in log.lines] == [
        "##[group]Run echo a",
        "echo a",
        "##[endgroup]",
        "*** and shown",
        "***",
        "##[group]named",
        "exit 3",
        "##[endgroup]",
        "##[error]Process completed with exit code 3.",
    ]
    assert log.result == "failed"
    assert [(step.name, step.result) for step in log.steps] == [("Run echo a", "succeeded"), ("named", "failed")]
