"""What the tests need is there. These never skip: a test run that lacks something must fail, and say what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINS = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE))
INSTALLER = (ROOT / "tools/install_system.sh").read_text()
COMMANDS = re.findall(r"^([a-z-]+) [a-z-]+$", INSTALLER, re.MULTILINE)
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


@pytest.mark.parametrize("command", COMMANDS)
def test_system_commands(command: str) -> None:
    assert shutil.which(command, path=PATH), f"{command} is missing: run tools/install_system.sh"


@pytest.mark.parametrize("package", PINS)
def test_python_packages(package: str) -> None:
    try:
        installed = version(package)
    except PackageNotFoundError:
        pytest.fail(f"{package} is missing: run make install")
    assert installed, package


@pytest.mark.parametrize("tool", ["act", "ruff", "mypy", "lint-imports", "shellcheck", "shfmt", "slurm-gha"])
def test_tools_beside_the_interpreter(tool: str) -> None:
    assert (Path(sys.executable).parent / tool).exists(), f"{tool} is missing: run make install"


def test_node_packages_of_the_foreign_client() -> None:
    folder = ROOT / "tests/contract/octokit"
    assert (folder / "package-lock.json").is_file()
    assert (folder / "node_modules/@octokit").is_dir(), "Octokit is missing: run make install"


def test_the_package_comes_from_this_tree() -> None:
    spec = importlib.util.find_spec("slurm_gha")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT / "src")


def test_the_lock_names_versions_alone() -> None:
    """No registry, no address, no path: those are the business of the machine that installs."""
    for line in (ROOT / "requirements-dev.txt").read_text().splitlines():
        assert line.startswith("# ") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line), line


def test_ci_runs_what_the_readme_calls_test_and_that_is_everything() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text().rstrip().endswith("exec make test test-slow")
    assert "\n$ make test test-slow\n" in (ROOT / "README.md").read_text()
    argv = ["make", "-n", "test", "test-slow"]
    shown = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for part in ("ruff check", "ruff format --check", "mypy", "lint-imports", "shellcheck", "shfmt", "pytest"):
        assert part in shown
    assert "not slow" not in shown
    assert '-m "not engines"' in shown
    assert "-m engines" in shown


def test_make_alone_lists_the_commands() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "check", "lint", "bench", "install", "help"):
        assert f"make {target} " in shown
