"""``slurm-gha check`` against a real Slurm and the simulated GitHub, as a command of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from slurm_gha.domain.clock import SystemClock
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.private_slurm import PrivateSlurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

GOOD, SCOPELESS, UNKNOWN = ("ghp_" + letter * 36 for letter in "ABC")


@pytest.fixture(scope="module")
def slurm() -> Iterator[PrivateSlurm]:
    with PrivateSlurm(nodes=1, cpus=4) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    github = GitHub(SystemClock(), url=url)
    github.add_repository("octo/app", {})
    github.add_token(GOOD, name="good")
    github.add_token(SCOPELESS, name="scopeless", scopes=())
    server = uvicorn.Server(uvicorn.Config(create_app(github), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield url
    server.should_exit = True
    thread.join()


@pytest.fixture
def config(tmp_path: Path, slurm: PrivateSlurm, api_url: str) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "out").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(
        f"""
[service]
installation = "lab1"
state_dir = "{tmp_path}/state"
node_url = "https://head:8480"
[slurm]
output_dir = "{tmp_path}/out"
bin_dir = "{slurm.bin_dir}"
conf = "{slurm.conf}"
[[scope]]
name = "one"
url = "https://github.com/octo/app"
api_url = "{api_url}"
token_env = "SG_TEST_TOKEN"
[[pool]]
name = "small"
labels = ["small"]
runner_dir = "/nowhere/runner"
slurm = {{ cpus = 1, time = "30m", mem_per_cpu = "1G", gres = "tmpdisk:100", extra = ["--nice=100"] }}
"""
    )
    return path


def check(config: Path, token: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from slurm_gha.cli import main; main()", "check", "--config", str(config)],
        env={"PATH": "/usr/bin:/bin", "SG_TEST_TOKEN": token},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert token not in done.stdout + done.stderr
    return done.returncode, done.stdout


def test_what_is_true(config: Path) -> None:
    code, output = check(config, GOOD)
    assert code == 0, output
    assert "✓ slurm: version 2" in output
    assert "✓ pool small: Slurm accepts its jobs" in output
    assert "✓ scope one: GitHub accepts the token; " in output
    assert "✓ scope one: the token may register and remove runners" in output
    assert output.endswith("config.toml: all is well\n")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("cpus = 1", "cpus = 64", "Requested node configuration is not available"),
        ("cpus = 1", 'partition = "nope", cpus = 1', "invalid partition specified"),
        ("tmpdisk:100", "gpu:1", "Invalid generic resource (gres) specification"),
        ("--nice=100", "--reservation=nope", "reservation"),
    ],
)
def test_what_slurm_refuses(config: Path, old: str, new: str, says: str) -> None:
    config.write_text(config.read_text().replace(old, new))
    code, output = check(config, GOOD)
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("✗")]
    assert line.startswith("✗ pool small: Slurm refuses its jobs: ")
    assert says.lower() in line.lower()


def test_the_bounds_of_what_jobs_may_ask_for_are_tried_too(config: Path) -> None:
    text = config.read_text()
    config.write_text(text + '[pool.dynamic]\nmax_cpus = 4\nmax_mem = "8G"\nmax_tmpdisk = "90M"\n')
    code, output = check(config, GOOD)
    assert (code, "max_tmpdisk: must not be below gres" in output) == (1, True)
    config.write_text(text + '[pool.dynamic]\nmax_cpus = 4\nmax_mem = "8G"\nmax_time = "2h"\n')
    code, output = check(config, GOOD)
    assert code == 0, output
    assert "✓ pool small: Slurm accepts its largest jobs, 4 CPUs, 8G of memory, 2h (" in output
    config.write_text(text + "[pool.dynamic]\nmax_cpus = 5\nmax_nodes = 1\n")
    code, output = check(config, GOOD)
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("✗")]
    assert line == (
        "✗ pool small: Slurm refuses its largest jobs, 5 CPUs, 1 node: Requested node configuration is not available"
    )


def test_what_github_refuses(config: Path) -> None:
    code, output = check(config, UNKNOWN)
    assert code == 1
    assert "✗ scope one: GitHub: " in output
    code, output = check(config, SCOPELESS)
    assert code == 1
    assert "✗ scope one: " in output
    config.write_text(config.read_text().replace("octo/app", "octo/none"))
    code, output = check(config, GOOD)
    assert code == 1
    assert "✗ scope one: " in output


def test_services_that_are_away(config: Path) -> None:
    text = config.read_text()
    config.write_text(text.replace("api_url = ", 'api_url = "http://127.0.0.1:9"\n#'))
    code, output = check(config, GOOD)
    assert code == 1
    assert "✗ scope one: GitHub: GET /rate_limit" in output
    config.write_text(text.replace("slurm.conf", "slurm.conf.none"))
    code, output = check(config, GOOD)
    assert code == 1
    assert "✗ conf: " in output


def test_a_slurm_that_is_down(config: Path, slurm: PrivateSlurm) -> None:
    slurm.stop_controller()
    try:
        code, output = check(config, GOOD)
    finally:
        slurm.start_controller()
    assert code == 1
    (line,) = [line for line in output.splitlines() if line.startswith("✗")]
    assert line.startswith("✗ pool small: Slurm could not be asked: ")
    assert "✓ scope one: GitHub accepts the token" in output
