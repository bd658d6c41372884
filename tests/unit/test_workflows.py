"""Workflow files as the simulated GitHub reads them, and what becomes of their jobs."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.testing.github import workflows
from slurm_gha.testing.github.errors import WorkflowError
from slurm_gha.testing.github.expressions import evaluate, interpolate
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Run, SimJob

PATH = ".github/workflows/ci.yml"


def parse(jobs: str, on: str = "push") -> workflows.Workflow:
    return workflows.parse(PATH, f"on: {on}\njobs:\n{jobs}")


def job(body: str) -> str:
    lines = [*body.strip().splitlines(), "runs-on: self-hosted" if "runs-on" not in body else ""]
    indented = "\n".join(f"    {line}" for line in lines if line)
    return f"{indented}\n    steps: [{{run: 'true'}}]\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 == '1'", True),
        ("'A' == 'a'", True),
        ("null == ''", True),
        ("github.event_name == 'push' && 'yes' || 'no'", "yes"),
        ("!github.missing", True),
        ("needs.build.result", "success"),
        ("needs['build'].outputs.v", "2"),
        ("needs.*.result", ["success"]),
        ("contains(needs.*.result, 'failure')", False),
        ("contains('Hello', 'ELL')", True),
        ("format('{0}-{1}{{x}}', 'a', 2)", "a-2{x}"),
        ("join(fromJSON('[\"a\",\"b\"]'), '+')", "a+b"),
        ("fromJSON('{\"a\": [1, 2]}').a[1]", 2),
        ("startsWith('refs/heads/x', 'refs/') && endsWith('ab', 'B')", True),
        ("(1 < 2) == true", True),
        ("'it''s'", "it's"),
    ],
)
def test_expressions(text: str, value: object) -> None:
    needs = {"build": {"result": "success", "outputs": {"v": "2"}}}
    assert evaluate(text, {"github": {"event_name": "push"}, "needs": needs}) == value


@pytest.mark.parametrize("text", ["", "a ==", "f(1", "nothing()", "'open", "a b"])
def test_bad_expressions_say_so(text: str) -> None:
    with pytest.raises(WorkflowError):
        evaluate(text, {})


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        interpolate("${{ " + text + " }}", {"github": {}})
    except (WorkflowError, TypeError):
        return


def test_a_matrix_with_include_and_exclude() -> None:
    found = parse(
        "  a:\n"
        + job(
            """
strategy:
  matrix:
    os: [linux, mac]
    py: [1, 2]
    exclude: [{os: mac, py: 1}]
    include: [{os: linux, extra: x}, {os: bsd, py: 9}]
"""
        )
    ).jobs["a"]
    combinations = workflows.combinations(found, {})
    assert combinations == [
        {"os": "linux", "py": 1, "extra": "x"},
        {"os": "linux", "py": 2, "extra": "x"},
        {"os": "mac", "py": 2},
        {"os": "bsd", "py": 9},
    ]
    assert workflows.display_name(found, combinations[0], {}) == "a (linux, 1, x)"


def test_a_matrix_made_of_an_output_and_names_and_labels_from_it() -> None:
    found = parse(
        "  a:\n"
        + job(
            """
name: Build ${{ matrix.size }}
runs-on: ["self-hosted", "${{ matrix.size }}"]
strategy: {matrix: {size: "${{ fromJSON(needs.plan.outputs.sizes) }}"}}
"""
        )
    ).jobs["a"]
    context = {"needs": {"plan": {"outputs": {"sizes": '["small", "large"]'}}}}
    combinations = workflows.combinations(found, context)
    assert [workflows.labels(found, {"matrix": each}) for each in combinations] == [
        ("self-hosted", "small"),
        ("self-hosted", "large"),
    ]
    assert workflows.display_name(found, combinations[0], {"matrix": combinations[0]}) == "Build small"


def test_a_matrix_has_at_most_256_combinations() -> None:
    axis = f"[{', '.join(map(str, range(17)))}]"
    found = parse("  a:\n" + job(f"strategy: {{matrix: {{x: {axis}, y: {axis}}}}}")).jobs["a"]
    with pytest.raises(WorkflowError, match="289 combinations; at most 256"):
        workflows.combinations(found, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "a workflow is a mapping"),
        ("on: push", "at least one job"),
        ("on: push\njobs: {a: {runs-on: x, needs: b, steps: [{run: x}]}}", "no job 'b'; there are a"),
        ("on: push\njobs: {a: {runs-on: x, needs: a, steps: [{run: x}]}}", "circle"),
        ("on: push\njobs: {a: {steps: [{run: x}]}}", "runs-on: is missing"),
        ("on: push\njobs: {a: {runs-on: x}}", "at least one step"),
        ("on: push\njobs: {'1': {runs-on: x, steps: [{run: x}]}}", "begins with a letter"),
        ("on: [\njobs", "not YAML"),
        ("jobs: {a: {runs-on: x, steps: [{run: x}]}}", "on: an event"),
    ],
)
def test_bad_workflows_say_where_and_what(text: str, said: str) -> None:
    with pytest.raises(WorkflowError, match=said) as caught:
        workflows.parse(PATH, text)
    assert PATH in str(caught.value)


@pytest.mark.parametrize(
    ("on", "event", "branch", "starts"),
    [
        ("push", "push", "any", True),
        ("[push, pull_request]", "pull_request", "main", True),
        ("workflow_dispatch", "push", "main", False),
        ("{push: {branches: [main, 'release/**']}}", "push", "release/1/2", True),
        ("{push: {branches: ['release/*']}}", "push", "release/1/2", False),
        ("{push: {branches: ['**', '!main']}}", "push", "main", False),
        ("{push: {branches-ignore: [main]}}", "push", "main", False),
        ("{push: {tags: ['v*']}}", "push", "main", False),
        ("{push: }", "push", "main", True),
    ],
)
def test_triggers(on: str, event: str, branch: str, starts: bool) -> None:
    assert workflows.triggered(parse("  a:\n" + job(""), on), event, branch) is starts


def test_paths_decide_too() -> None:
    workflow = parse("  a:\n" + job(""), "{push: {paths: ['src/**']}}")
    assert workflows.triggered(workflow, "push", "main", ["src/x/y.py"])
    assert not workflows.triggered(workflow, "push", "main", ["README.md"])


# Runs: each job is finished at once with the conclusion that ``decide`` gives it.


def run(jobs: str, decide: Callable[[SimJob], str] = lambda _: "success", on: str = "push") -> tuple[Run, list[str]]:
    """The run, and its jobs as ``name conclusion`` in the order in which they ended."""
    ended: list[str] = []

    async def scenario() -> Run:
        github = GitHub(EventLoopClock(0))
        github.add_repository("o/r", {PATH: f"on: {on}\njobs:\n{jobs}"})
        github.listeners.append(
            lambda event: (
                ended.append(f"{event.name} {github.jobs[event.id].conclusion}")
                if event.kind == "job.completed"
                else None
            )
        )
        [started] = github.push("o/r")
        number = 0
        while queued := [job for job in github.jobs.values() if job.status == "queued"]:
            number += 1
            runner, _ = github.mint_runner("repos/o/r", f"r{number}", queued[0].labels)
            message = github.next_message(github.open_session(runner))
            assert message is not None
            taken = github.acquire(runner, message.id)  # type: ignore[union-attr]
            github.complete(taken.id, decide(taken), {"v": f"{taken.key}-out"})
        return started

    return anyio.run(scenario), ended


def fails(*keys: str) -> Callable[[SimJob], str]:
    return lambda job: "failure" if job.key in keys else "success"


CHAIN = "  a:\n" + job("") + "  b:\n" + job("needs: a") + "  c:\n" + job("needs: b")


def test_jobs_follow_their_needs() -> None:
    found, ended = run(CHAIN)
    assert ended == ["a success", "b success", "c success"]
    assert (found.status, found.conclusion) == ("completed", "success")


def test_a_failure_skips_what_needs_it() -> None:
    found, ended = run(CHAIN, fails("a"))
    assert ended == ["a failure", "b skipped", "c skipped"]
    assert found.conclusion == "failure"


@pytest.mark.parametrize(
    ("condition", "last"),
    [
        ("always()", "last success"),
        ("failure()", "last success"),
        ("${{ failure() && needs.a.result == 'success' }}", "last success"),
        ("needs.a.outputs.v == 'a-out'", "last skipped"),
        ("always() && needs.a.outputs.v == 'a-out'", "last success"),
        ("success()", "last skipped"),
        ("cancelled()", "last skipped"),
        ("${{ !cancelled() }}", "last success"),
        ("github.event_name == 'pull_request'", "last skipped"),
    ],
)
def test_conditions_see_all_before_them(condition: str, last: str) -> None:
    jobs = (
        "  a:\n"
        + job("")
        + "  b:\n"
        + job("needs: a")
        + "  last:\n"
        + job(
            f"needs: [a, b]\nif: {condition!r}".replace('"', "'")
            if "'" not in condition
            else f'needs: [a, b]\nif: "{condition}"'
        )
    )
    _, ended = run(jobs, fails("b"))
    assert ended[-1] == last


def test_fail_fast_cancels_the_rest_of_a_matrix() -> None:
    jobs = (
        "  m:\n"
        + job("strategy: {matrix: {n: [1, 2, 3]}, max-parallel: 2}")
        + "  after:\n"
        + job("needs: m\nif: always()")
    )
    found, ended = run(jobs, fails("m"))
    assert ended == ["m (1) failure", "m (2) cancelled", "after success"]
    assert found.conclusion == "failure"


def test_without_fail_fast_all_of_a_matrix_runs() -> None:
    jobs = "  m:\n" + job("strategy: {fail-fast: false, matrix: {n: [1, 2, 3]}, max-parallel: 1}")
    found, ended = run(jobs, lambda job: "failure" if job.matrix["n"] == 1 else "success")
    assert ended == ["m (1) failure", "m (2) success", "m (3) success"]
    assert found.conclusion == "failure"


def test_continue_on_error_lets_a_failure_pass() -> None:
    found, ended = run("  a:\n" + job("continue-on-error: true") + "  b:\n" + job("needs: a"), fails("a"))
    assert ended == ["a failure", "b success"]
    assert found.conclusion == "success"


def test_needs_carry_results_and_outputs() -> None:
    seen: list[object] = []

    def decide(job: SimJob) -> str:
        seen.append(job.needs)
        return "success"

    run("  a:\n" + job("") + "  b:\n" + job("needs: a"), decide)
    assert seen[1] == {"a": {"result": "success", "outputs": {"v": "a-out"}}}


def test_a_bad_matrix_fails_its_job_alone() -> None:
    jobs = (
        "  a:\n" + job("") + "  b:\n" + job('needs: a\nstrategy: {matrix: {x: "${{ fromJSON(needs.a.outputs.v) }}"}}')
    )
    found, ended = run(jobs)
    assert ended == ["a success", "b failure"]
    assert found.conclusion == "failure"


def test_runs_of_one_concurrency_group_wait_for_each_other() -> None:
    async def scenario() -> None:
        github = GitHub(EventLoopClock(0))
        text = "on: push\nconcurrency: deploy\njobs:\n  a:\n" + job("")
        github.add_repository("o/r", {PATH: text})
        first, second, third = (github.push("o/r")[0] for _ in range(3))
        assert [each.status for each in (first, second, third)] == ["queued", "completed", "pending"]
        assert second.conclusion == "cancelled"
        github.cancel_run("o/r", first.id)
        assert third.status == "queued"
        assert [job.run_id for job in github.jobs.values() if job.status == "queued"] == [third.id]

    anyio.run(scenario)
