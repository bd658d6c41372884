"""GitHub's own client, Octokit, makes the calls of this project against the simulated GitHub, over real HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.contract.app_world import key_pair
from tests.contract.simulated_github import BUILD, WORKFLOW

from slurm_gha.domain.clock import SystemClock
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.sending import SenderThread
from slurm_gha.testing.github.serve import Served, serve_in_thread
from slurm_gha.testing.github.state import GitHub

HERE = Path(__file__).parent / "octokit"
pytestmark = pytest.mark.node


@pytest.fixture
def served() -> Iterator[Served]:
    if shutil.which("node") is None or not (HERE / "node_modules").is_dir():
        pytest.fail("Octokit is not installed: run `make octokit` (npm ci in tests/contract/octokit)")
    with ExitStack() as stack:
        found = stack.enter_context(serve_in_thread(lambda url: create_app(_github(url), in_process=False)))
        stack.enter_context(SenderThread(found.app.state.github.hooks.outbox, SystemClock()))
        yield found


def _github(url: str) -> GitHub:
    github = GitHub(SystemClock(), url=url)
    github.add_repository("octo/app", {BUILD: WORKFLOW})
    github.add_repository("octo/lib", {})
    github.add_token("octokit-token")
    return github


def test_octokit_signs_in_as_an_app(served: Served) -> None:
    github: GitHub = served.app.state.github
    private_key, public_key = key_pair(0)
    permissions = {"administration": "write", "organization_self_hosted_runners": "read"}
    app = github.apps.add("runners", public_key, owner="octo", permissions=permissions)
    github.add_organisation("other")
    github.apps.install(app.id, "octo", repositories=["octo/lib"])
    github.apps.install(app.id, "other")
    hook = f"{served.url}/nobody"
    found = run("app.mjs", served.url, str(app.id), "octo", hook, environment={"PRIVATE_KEY": private_key})
    assert found == {
        "app": "runners",
        "installations": ["octo", "other"],
        "repositories": ["octo/lib"],
        "hook": "********",
        "pointsAt": hook,
        "delivered": ["ping"],
        "redelivered": 202,
        "minted": 201,
        "runners": ["octokit-app"],
        "ofOrganisation": 200,
        "user": 403,
        "revoked": 204,
        "afterwards": 401,
    }


def run(script: str, *arguments: str, environment: dict[str, str]) -> Any:
    """What a script prints."""
    command = ["node", script, *arguments]
    given = {"PATH": os.environ["PATH"], **environment}
    done = subprocess.run(command, cwd=HERE, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_octokit_makes_the_same_calls(served: Served) -> None:
    github: GitHub = served.app.state.github
    runs = [github.dispatch("octo/app", BUILD).id for _ in range(5)]
    environment = {"GITHUB_TOKEN": "octokit-token"}
    hook = f"{served.url}/nobody"
    found = run("calls.mjs", served.url, "octo", "app", str(runs[0]), hook, environment=environment)
    files = [".credentials", ".credentials_rsaparams", ".runner"]
    runners = {
        "status": 201,
        "files": files,
        "taken": {"status": 409, "message": "Already exists - A runner with the name already exists."},
        "listed": ["octokit-1"],
        "one": "offline",
        "registration": True,
        "removal": True,
        "removed": {"status": 204},
    }
    hooks = {
        "status": 201,
        "secret": "********",
        "listed": [hook],
        "delivered": {"event": "ping", "status_code": 401},
        "payload": True,
        "again": {"status": 202},
        "redeliveries": [True, False],
        "oneGuid": True,
        "removed": {"status": 204},
    }
    assert found == {
        "user": "octocat",
        "limit": 5000,
        "repository": "octo/app",
        "repositories": ["lib", "app"],
        "queued": runs[::-1],
        "unchanged": {"status": 304, "message": None},
        "run": "queued",
        "jobs": [{"name": "build", "status": "queued", "labels": ["self-hosted", "Small"]}],
        "job": "build",
        "log": {"status": 404, "message": "Not Found"},
        "ForRepo": runners,
        "ForOrg": runners,
        "hooks of repos": hooks,
        "hooks of orgs": hooks,
        "rerunRunning": {"status": 403, "message": "This workflow is already running"},
        "cancel": {"status": 202},
        "cancelAgain": {"status": 409, "message": "Cannot cancel a workflow run that is completed."},
        "forceCancel": {"status": 409, "message": "Cannot cancel a workflow run that is completed."},
        "rerunFailed": {"status": 201},
        "missing": {"status": 404, "message": "Not Found"},
    }
