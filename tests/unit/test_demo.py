"""The demo's parts that need no cluster: the repository, pictures, what is shown of them, pages."""

from __future__ import annotations

import io
import signal

import pytest
from rich.console import Console
from starlette.applications import Starlette
from starlette.testclient import TestClient

from slurm_gha.domain.clock import SystemClock
from slurm_gha.observe.status import RunnerStatus, SlurmStatus, Status, WaitingJob
from slurm_gha.testing.demo import docker_jobs, errands, page, picture, project, show, summary
from slurm_gha.testing.demo.errands import ErrandError
from slurm_gha.testing.demo.interruption import Interrupted, Interruption
from slurm_gha.testing.demo.leavings import Check
from slurm_gha.testing.demo.picture import Picture, Row
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Assignment
from slurm_gha.testing.processes import processes_of

HOSTILE = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture
def github() -> GitHub:
    made = GitHub(SystemClock())
    made.add_repository(project.FULL_NAME, project.files())
    return made


def rows(github: GitHub, phase: str | None) -> dict[str, Row]:
    """What is shown of the first jobs, with a runner in that phase counted on for ``plan``."""
    job = next(iter(github.jobs.values()))
    waiting = WaitingJob(
        id=job.id, repository="lab/primes", name=job.name, scope="lab", since=0.0, why="because", runner="r1"
    )
    runner = RunnerStatus(
        name="r1", pool="small", scope="lab", phase=phase or "", since=0.0, slurm_id=7, slurm_reason="full"
    )
    status = Status(
        installation="demo",
        version="1",
        pid=1,
        at=0.0,
        started_at=0.0,
        slurm=SlurmStatus(readable=True),
        jobs=(waiting,),
        runners=(runner,) if phase else (),
    )
    now = job.queued_at + 2.0
    taken = picture.take(github.runs.values(), github.jobs, status, now=now, since=job.queued_at, calls=(1, 2))
    return {row.name: row for row in taken.rows}


def test_the_repository_has_at_least_twelve_jobs_and_its_workflows_where_github_looks() -> None:
    assert len(project.EXPECTED) >= 12
    assert project.SURVEY in project.files()
    assert {"success", "failure", "cancelled", "skipped"} == set(project.EXPECTED.values())


@pytest.mark.parametrize(
    ("phase", "state", "detail", "slurm"),
    [
        (None, "queued", "because", ""),
        ("pending", "pending", "full", "7"),
        ("starting", "starting", "", "7"),
        # A runner that has taken some job may have taken this one, but nobody should say so yet.
        ("busy", "queued", "because", ""),
        ("ended", "queued", "because", ""),
    ],
)
def test_a_queued_job_is_as_far_as_its_runner(
    github: GitHub, phase: str | None, state: str, detail: str, slurm: str
) -> None:
    github.push(project.FULL_NAME)
    row = rows(github, phase)["plan"]
    assert (row.state, row.detail, row.slurm, row.size) == (state, detail, slurm, "small")
    assert row.waited == pytest.approx(2.0)
    assert row.ran is None


def test_jobs_that_need_others_are_shown_before_they_are_queued(github: GitHub) -> None:
    github.push(project.FULL_NAME)
    row = rows(github, None)["package"]
    assert (row.state, row.detail, row.size) == ("needs", "plan, test, benchmark", "large")


def test_a_job_cancelled_while_queued_never_ran(github: GitHub) -> None:
    github.push(project.FULL_NAME)
    survey = github.dispatch(project.FULL_NAME, project.SURVEY)
    github.cancel_run(project.FULL_NAME, survey.id)
    row = rows(github, None)["survey"]
    assert (row.state, row.ran) == ("cancelled", None)
    assert row.waited is not None


def test_only_changes_make_lines_and_nobodys_name_reaches_the_terminal_as_it_is() -> None:
    row = Row(f"job {HOSTILE}", "small", "pending", HOSTILE, slurm="3")
    shown = Picture(1.0, (row,), {}, {}, 0, 0)
    [line] = show.changes(shown, {})
    assert "\x1b" not in line
    assert show.changes(shown, {row.name: "pending"}) == []


def test_on_a_low_screen_jobs_that_are_over_go_first() -> None:
    many = tuple(Row(f"done{number}", "", "success", waited=1.0, ran=1.0) for number in range(30))
    shown = Picture(1.0, (*many, Row("still-here", "", "running")), {}, {}, 0, 0)
    console = Console(file=io.StringIO(), width=100, height=24, force_terminal=False)
    with console.capture() as captured:
        console.print(show.table(shown, 24))
    text = captured.get()
    assert "still-here" in text
    assert "more that are over" in text
    assert len(text.splitlines()) <= 24


@pytest.mark.parametrize("variables", [{}, {"DOCKER": "yes"}])
def test_docker_jobs_are_skipped_where_no_runner_has_docker(variables: dict[str, str]) -> None:
    made = GitHub(SystemClock())
    made.add_repository(project.FULL_NAME, project.files(), variables=variables)
    made.push(project.FULL_NAME)
    plan = next(job for job in made.jobs.values() if job.key == "plan")
    runner, _ = made.mint_runner("orgs/lab", "r1", plan.labels)
    offer = made.next_message(made.open_session(runner))
    assert isinstance(offer, Assignment)
    taken = made.acquire(runner, offer.id)
    made.complete(taken.id, "success", {"shards": "[1]"})
    wanted = "queued" if variables else "skipped"
    shown = rows(made, None)
    assert {shown[name].state for name in project.DOCKER_JOBS} == {wanted}
    assert {project.expected(docker=bool(variables))[name] for name in project.DOCKER_JOBS} == {
        "success" if variables else "skipped"
    }


def test_of_a_checked_node_only_what_is_wrong_is_told() -> None:
    answers = "the demo, on node n:\n✓ bash: 5\n! slurm: cannot be told\n✗ tun: is missing\n✗ runc: not found\n"
    assert docker_jobs.faults(answers) == ["tun: is missing", "runc: not found"]


def test_an_errand_is_done_told_of_or_interrupted() -> None:
    with Interruption() as interruption:
        assert errands.run(["sh"], interruption, words="echo one >&2; echo two; exit 3") == (3, "one\ntwo\n")
        with pytest.raises(ErrandError, match=r"^one; two$"):
            errands.succeed(["sh", "-c", "echo one; echo two >&2; exit 1"], interruption)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            errands.run(["sleep", "600.25"], interruption)
    assert not [line for line in processes_of(["sleep"]).values() if line == "sleep 600.25"]


def summed(*found: Row) -> summary.Summary:
    return summary.Summary(Picture(1.0, found, {}, {}, 0, 0), {"a": "success", "b": "cancelled"}, {}, {}, {}, "", "")


def test_the_summary_says_which_job_ended_otherwise() -> None:
    good = summed(Row("a", "", "success", ran=1.0), Row("b", "", "cancelled"))
    assert good.unexpected() == []
    assert summed(Row("a", "", "failure"), Row("b", "", "cancelled")).unexpected() == ["a: failure, and not success"]
    assert summed(Row("a", "", "success")).unexpected() == ["b: never seen, and not cancelled"]
    begun = summed(Row("a", "", "success"), Row("b", "", "cancelled", ran=1.0))
    assert begun.unexpected() == ["b: was to be cancelled while queued, and had begun"]


def test_the_excerpt_ends_with_the_first_error() -> None:
    log = "".join(f"2026-01-01T00:00:00.000Z line {number}\n" for number in range(20))
    lines = summary.excerpt(log + "2026-01-01T00:00:01.000Z ##[error]exit code 1.\nafter\n")
    assert lines[-2:] == ["line 19", "##[error]exit code 1."]
    assert summary.excerpt("") == []


def test_commands_are_counted_from_the_metrics() -> None:
    text = 'slurm_gha_slurm_command_seconds_count{command="squeue"} 12.0\nother 3\n'
    assert summary.commands(text) == {"squeue": 12}


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "✗"), ("ascii", "NO")])
def test_what_is_left_is_named_and_counts(encoding: str, mark: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=80)
    held = summary.print_checks(console, "Checked", [Check("nothing is left", ("a file",)), Check("all well")])
    file.seek(0)
    assert not held
    assert f"  {mark} nothing is left\n      a file\n" in file.read()


def test_an_interruption_is_noticed_at_the_next_question_and_only_then() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        interruption.pause(0.01)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            interruption.check()
        assert interruption.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def browser(github: GitHub) -> TestClient:
    return TestClient(Starlette(routes=list(page.routes(github))), follow_redirects=False)


def test_pages_show_runs_and_logs_and_trust_no_text(github: GitHub, browser: TestClient) -> None:
    [run] = github.push(project.FULL_NAME)
    job = github.jobs[run.jobs[0]]
    job.name = job.log = HOSTILE
    overview = browser.get(f"/{project.FULL_NAME}/actions").text
    log = browser.get(f"/{project.FULL_NAME}/actions/runs/{run.id}/job/{job.id}").text
    for text in (overview, log):
        assert "&lt;script&gt;" in text
        assert "<script" not in text


def test_buttons_push_dispatch_and_cancel(github: GitHub, browser: TestClient) -> None:
    here = f"/{project.FULL_NAME}/actions"
    assert browser.post(here, params={"do": "push"}).status_code == 303
    assert browser.post(here, params={"do": "dispatch", "workflow": project.SURVEY}).status_code == 303
    first, survey = github.runs.values()
    assert browser.post(here, params={"do": "cancel", "run": str(survey.id)}).status_code == 303
    assert (first.status, survey.conclusion) == ("queued", "cancelled")


@pytest.mark.parametrize(
    ("params", "headers", "status"),
    [
        ({"do": "push"}, {"sec-fetch-site": "cross-site"}, 403),
        ({"do": "dance"}, {}, 400),
        ({"do": "cancel", "run": "x"}, {}, 400),
        ({"do": "dispatch", "workflow": "nowhere.yml"}, {}, 404),
    ],
)
def test_what_makes_no_sense_is_refused(
    browser: TestClient, params: dict[str, str], headers: dict[str, str], status: int
) -> None:
    assert browser.post(f"/{project.FULL_NAME}/actions", params=params, headers=headers).status_code == status
