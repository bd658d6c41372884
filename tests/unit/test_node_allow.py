"""The runner's job-started hook, run as the runner runs it: who gets past it, and that nobody else has a step run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.node_bench import QUICK, open_bench
from tests.unit.planner_worlds import job

from slurm_gha.domain.allow import EVERYTHING, Allow, Answer
from slurm_gha.domain.job import Origin
from slurm_gha.domain.pool import Handover
from slurm_gha.slurm.script import ScriptValues, head, part

VALUES = ScriptValues(name="sg-a-b-1", handover=Handover.STDIN, runner_dir="/r", node_dir="/tmp", pool="small")


def hook(directory: Path, allow: Allow, environment: tuple[tuple[str, str], ...] = ()) -> Path:
    """The hook that a batch script installs for such a pool."""
    script = head(replace(VALUES, allow=allow, environment=environment)) + part("allow") + '\ninstall_hook "$1"\n'
    subprocess.run(["bash", "-c", script, "x", str(directory)], check=True)
    return directory / "job-started.sh"


@dataclass(frozen=True)
class Said:
    code: int
    output: str


def ask(path: Path, event: str = "push", payload: object = None, **facts: str) -> Said:
    """Run the hook by what stands for the runner's worker, which would go on with a step."""
    worker = path.parent / "Runner.Worker"
    if not worker.exists():
        worker.symlink_to(shutil.which("bash") or "/bin/bash")
    (path.parent / "event.json").write_text(payload if isinstance(payload, str) else json.dumps(payload or {}))
    environment = {
        "PATH": os.environ["PATH"],
        "GITHUB_REPOSITORY": "octo/repo",
        "GITHUB_EVENT_NAME": event,
        "GITHUB_EVENT_PATH": str(path.parent / "event.json"),
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_ACTOR": "Octocat",
        **{f"GITHUB_{name.upper()}": value for name, value in facts.items()},
    }
    steps = f"sleep() {{ :; }}; export -f sleep; bash -e {path}; echo went on, $?"
    done = subprocess.run([worker, "-c", steps], capture_output=True, text=True, env=environment)
    return Said(done.returncode, done.stdout + done.stderr)


def pull(repository: str | None, branch: str = "topic", **more: Any) -> dict[str, Any]:
    """A pull request's event from that repository; None: it is gone."""
    base = {"repo": {"full_name": "octo/repo", "name": "repo"}, "ref": "main"}
    head: dict[str, Any] = {"label": "x", "ref": branch, "repo": None, "user": {"login": "mallory"}}
    if repository is not None:
        head["repo"] = {
            "id": 7,
            "owner": {"login": "octo", "full_name": "no"},
            "full_name": repository,
            "topics": ["a"],
        }
    return {
        "action": "opened",
        "pull_request": {"id": 1, **more, "head": head, "base": base},
        "repository": base["repo"],
    }


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("push", {"ref": "x"}),
        ("workflow_run", {"workflow_run": {"head_repository": {"full_name": "mallory/repo"}}}),
        ("pull_request", pull("octo/repo")),
        ("pull_request", pull("Octo/Repo", body='"}, {"head": {"repo": {"full_name": "mallory/repo"}}} \\" \n ü')),
        ("pull_request_target", pull("octo/repo")),
    ],
)
def test_what_is_of_the_repository_itself_runs(tmp_path: Path, event: str, payload: object) -> None:
    said = ask(hook(tmp_path, Allow()), event, payload)
    assert said.code == 0, said.output
    assert said.output.splitlines() == ["Pool small lets this job run.", "went on, 0"]


@pytest.mark.parametrize(
    "payload",
    [
        pull("mallory/repo"),
        pull("mallory/octo/repo"),
        pull(None),
        pull(None, title='"head": {"repo": {"full_name": "octo/repo"}}'),
        pull("mallory/repo", body='\\"}],"head":{"repo":{"full_name":"octo/repo"}}'),
        {"pull_request": {"head": {"repo": [{"full_name": "octo/repo"}]}}},
        {"pull_request": [{"head": {"repo": {"full_name": "octo/repo"}}}]},
        {"wrapped": pull("octo/repo")},
        '{"pull_request":{"head":{"repo":{"full_name":"octo/repo","full_name":"octo/repo"}}}}',
        '{"pull_request":{"head":{"repo":{"full_name":"octo\\/repo"}}}}',
        "",
        "null",
    ],
)
@pytest.mark.parametrize("event", ["pull_request", "pull_request_target", "pull_request_review", ""])
def test_a_pull_request_that_is_not_clearly_of_the_repository_is_a_fork_s(
    tmp_path: Path, event: str, payload: object
) -> None:
    said = ask(hook(tmp_path, Allow()), event, payload)
    assert said.code == -9, "the worker goes, so that no step of the job can run"
    assert (
        "::error title=Refused::The cluster's pool small does not let this job run: it comes from a fork."
        in said.output
    )
    assert "went on" not in said.output


def test_without_a_worker_to_end_it_fails_all_the_same(tmp_path: Path) -> None:
    path = hook(tmp_path, Allow(events=("schedule",)))
    done = subprocess.run(["bash", "-e", path], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 1


EVENTS = st.sampled_from(["push", "schedule", "pull_request"])
LISTS: Mapping[str, st.SearchStrategy[tuple[str, ...]]] = {
    "repositories": st.sampled_from([(), ("octo/*",), ("Octo/Repo", "a/b"), ("lab/*",)]),
    "branches": st.sampled_from([(), ("main",), ("v*",), ("topic/**", "a b")]),
    "events": st.sampled_from([(), ("push",), ("pull_request", "schedule")]),
    "actors": st.sampled_from([(), ("octocat",), ("Mallory", "renovate[bot]")]),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(Allow, **LISTS, forks=st.booleans()),
    EVENTS,
    st.sampled_from(["main", "v1.2", "topic/a", "%$(x)`y`'"]),
    st.sampled_from(["octocat", "mallory", "renovate[bot]"]),
    st.booleans(),
)
def test_the_hook_and_the_plan_agree(
    tmp_path: Path, allow: Allow, event: str, branch: str, actor: str, fork: bool
) -> None:
    forked = fork and event == "pull_request"
    ruling = allow.rule(job(origin=Origin(event, branch, actor, forked)))
    path = tmp_path / "job-started.sh"
    path.unlink(missing_ok=True)
    hook(tmp_path, allow)
    if not allow.limits:
        assert not path.exists()
        return
    payload = pull("mallory/repo" if forked else "octo/repo", branch) if event == "pull_request" else {}
    ref = f"refs/tags/{branch}" if branch == "v1.2" else f"refs/heads/{branch}"
    said = ask(path, event, payload, ref="refs/pull/7/merge" if event == "pull_request" else ref, actor=actor)
    assert (said.code == 0) == (ruling.answer is Answer.ALLOWED), said.output
    assert ruling.reason.replace("%", "%25") in said.output


def test_an_administrator_s_own_hook_comes_after(tmp_path: Path) -> None:
    own = tmp_path / "it's own.sh"
    own.write_text("echo own; exit 3")
    path = hook(tmp_path, Allow(), (("ACTIONS_RUNNER_HOOK_JOB_STARTED", str(own)),))
    assert ask(path).output.splitlines() == ["Pool small lets this job run.", "own", "went on, 3"]
    assert "own" not in ask(path, "pull_request").output.replace("its own", "")


def test_the_runner_finds_it_in_its_environment(tmp_path: Path) -> None:
    look = 'cp "${ACTIONS_RUNNER_HOOK_JOB_STARTED:-/dev/null}" "$HOME/hook"' + QUICK
    with open_bench(tmp_path) as bench:
        bench.install_runner(look)
        for allow, there in ((Allow(), True), (EVERYTHING, False)):
            started = bench.run(bench.values(allow=allow, pool="small"))
            assert started.code == 0, started.output
            assert ("judge_job" in (bench.home / "hook").read_text()) == there
