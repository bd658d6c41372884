"""Containers and services of a job, as the stand-in runner writes them for act."""

from __future__ import annotations

from typing import Any

import pytest

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.testing.github import messages
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.runner import containers, workflow
from slurm_gha.testing.runner.containers import ContainerError


def plan(job: str) -> workflow.Plan:
    """What becomes of a job, given as YAML in one line."""

    class Frozen(EventLoopClock):
        def now(self) -> float:
            return 1_700_000_000.0

    github = GitHub(Frozen(0), url="http://sim")
    text = f"name: {'long ' * 20}\non: push\njobs: {{a: {{runs-on: x, {job}}}}}"
    github.add_repository("octo/app", {".github/workflows/b.yml": text})
    github.push("octo/app")
    (made,) = github.jobs.values()
    message = messages.job_request(made, github.addresses, "access", "token", 1_700_000_600.0)
    places = workflow.Places(
        "/w", "/f", {}, "/f/hold.sh", services="/f/services.sh", docker_step="/f/step", mark="m4rk"
    )
    return workflow.plan(message, places, {"runner": {}})


def only_job(made: workflow.Plan) -> dict[str, Any]:
    job: dict[str, Any] = made.document["jobs"]["job"]
    return job


STEPS = "steps: [{run: echo 1}]"


@pytest.mark.parametrize(
    ("given", "container"),
    [
        ("debian:12", {"image": "debian:12", "volumes": ["/f:/f"]}),
        ("{image: debian:12, volumes: /a:/b}", {"image": "debian:12", "volumes": ["/a:/b", "/f:/f"]}),
        (
            "{image: debian:12, volumes: ['/a:/b'], options: --init, env: {A: '${{ github.repository }}'}}",
            {
                "image": "debian:12",
                "volumes": ["/a:/b", "/f:/f"],
                "options": "--init",
                "env": {"A": "${{ fromJSON('\"octo/app\"') }}"},
            },
        ),
        ("'${{ matrix.image }}', strategy: {matrix: {image: [i]}}", {"image": "i", "volumes": ["/f:/f"]}),
    ],
)
def test_a_container_keeps_what_was_given_and_sees_the_runners_files(given: str, container: dict[str, Any]) -> None:
    made = plan(f"container: {given}, services: {{db: db:1}}, {STEPS}")
    assert only_job(made)["container"] == container
    assert only_job(made)["services"] == {"db": "db:1"}
    assert (made.boxed, made.docker) == (True, True)
    assert len(made.document["name"]) <= containers.WORKFLOW_NAME_LIMIT
    assert only_job(made)["name"] == "job m4rk"
    assert [step.get("shell") for step in only_job(made)["steps"]] == ["sh -e {0}", None, "sh -e {0}"]


@pytest.mark.parametrize("given", ["container: '${{ matrix.image }}', strategy: {matrix: {image: ['']}},", ""])
def test_a_job_whose_container_is_nothing_runs_on_the_machine(given: str) -> None:
    made = plan(f"{given} {STEPS}")
    assert "container" not in only_job(made)
    assert (made.boxed, made.docker) == (False, False)


def test_services_of_a_job_on_the_machine_are_a_step_and_its_output_their_context() -> None:
    made = plan(
        "services: {db: {image: 'db:${{ github.ref_name }}', env: {A: 1, B: true}, ports: [1, '2:3'], options: -i},"
        " c: c:1}, steps: [{run: 'echo ${{ job.services.db.ports[1] }} ${{ job.status }}'}]"
    )
    setup, services, step, _ = only_job(made)["steps"]
    assert setup["id"] == workflow.SETUP
    assert services["env"] == {
        "STAND_IN_MARK": "m4rk",
        "STAND_IN_COUNT": "2",
        "STAND_IN_0_ID": "db",
        "STAND_IN_0_IMAGE": "db:${{ fromJSON('\"main\"') }}",
        "STAND_IN_0_OPTIONS": "-i",
        "STAND_IN_0_PORTS": "1\n2:3",
        "STAND_IN_0_VOLUMES": "",
        "STAND_IN_0_ENV": "A\nB",
        "STAND_IN_0_ENV_A": "1",
        "STAND_IN_0_ENV_B": "true",
        "STAND_IN_1_ID": "c",
        "STAND_IN_1_IMAGE": "c:1",
        "STAND_IN_1_OPTIONS": "",
        "STAND_IN_1_PORTS": "",
        "STAND_IN_1_VOLUMES": "",
        "STAND_IN_1_ENV": "",
    }
    assert services["run"] == "bash '/f/services.sh'\n"
    assert step["run"] == f"echo ${{{{ {containers.CONTEXT}.db.ports['1'] }}}} ${{{{ job.status }}}}"
    assert (made.boxed, made.docker) == (False, True)
    assert made.steps[0].name == "Initialize containers"


def test_a_step_that_is_an_image_becomes_a_call_of_docker() -> None:
    made = plan("steps: [{uses: 'docker://tool:1', env: {A: b}, with: {args: '-x y', some input: z}}]")
    step = only_job(made)["steps"][1]
    assert "uses" not in step
    assert step["run"] == "bash '/f/step'\n"
    assert step["env"].items() >= {"A": "b", "STAND_IN_IMAGE": "tool:1", "INPUT_SOME_INPUT": "z"}.items()
    assert step["env"]["STAND_IN_ARGUMENTS"] == "-x y"
    assert made.docker
    assert only_job(plan("container: c, steps: [{uses: 'docker://tool:1'}]"))["steps"][1]["uses"] == "docker://tool:1"


@pytest.mark.parametrize(
    ("services", "words"),
    [
        ("{db: {image: i, credentials: {username: u, password: p}}}", "service db: .* credentials"),
        ("{db: {image: i, env: {'not a name': x}}}", "service db: 'not a name'"),
    ],
)
def test_what_cannot_be_done_is_said(services: str, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        plan(f"services: {services}, {STEPS}")
