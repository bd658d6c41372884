"""`slurm-gha check` on a scope with a webhook, against the simulated GitHub over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from slurm_gha.cli import main
from slurm_gha.domain.clock import SystemClock
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.serve import Served, serve_in_thread
from slurm_gha.testing.github.state import GitHub

SECRET = "0123456789abcdef0123"
CONFIG = """
[service]
installation = "lab1"
node_url = "http://head:8480"
state_dir = "{here}/state"
[slurm]
output_dir = "{here}"
bin_dir = "{here}/no-slurm"
[[scope]]
name = "lab"
url = "https://github.com/octo/app"
api_url = "{url}"
token_env = "TOKEN"
sources = ["poll", "webhook"]
webhook_secret_env = "HOOK"
[[pool]]
name = "small"
labels = ["small"]
runner_dir = "/opt/runner"
slurm = {{ cpus = 1, time = "10m" }}
"""


@pytest.fixture
def served() -> Iterator[Served]:
    def make(url: str) -> GitHub:
        github = GitHub(SystemClock(), url=url)
        github.add_repository("octo/app", {})
        github.add_token("good-token")
        github.add_token("poor-token", permissions={"administration": "write", "actions": "read"})
        return github

    with serve_in_thread(lambda url: create_app(make(url), in_process=False)) as found:
        yield found


def check(served: Served, directory: Path, token: str = "good-token") -> list[str]:
    config = directory / "config.toml"
    config.write_text(CONFIG.format(here=directory, url=served.url))
    result = CliRunner().invoke(main, ["check", "--config", str(config)], env={"TOKEN": token, "HOOK": SECRET})
    assert SECRET not in result.output
    return [line for line in result.output.splitlines() if "webhook" in line.lower()]


def test_it_says_whether_there_is_a_hook(served: Served, tmp_path: Path) -> None:
    assert check(served, tmp_path) == [
        "✓ scope lab: the webhook's secret can be read",
        "✗ scope lab: GitHub shows no webhook of octo/app whose URL ends with /v1/webhooks/lab; make one, or name it "
        "with webhook_id",
    ]
    served.app.state.github.hooks.add("repos/octo/app", "https://ci.example/v1/webhooks/lab", secret=SECRET)
    assert check(served, tmp_path) == [
        "✓ scope lab: the webhook's secret can be read",
        "✓ scope lab: webhook https://ci.example/v1/webhooks/lab points here",
        "! scope lab: the webhook has delivered nothing for a day",
    ]


def test_a_token_that_may_not_look_is_no_failure(served: Served, tmp_path: Path) -> None:
    lines = check(served, tmp_path, "poor-token")
    assert lines[1].startswith("! scope lab: GitHub does not tell about the webhook: the token lacks the repository")
