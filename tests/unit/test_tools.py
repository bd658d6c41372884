"""Scripts for nodes beside the batch script, as texts: clean, quoted, and of one piece."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from slurm_gha.cli import main
from slurm_gha.domain.pool import Container, Handover, Launcher
from slurm_gha.slurm.script import NodeSite, ScriptValues
from slurm_gha.slurm.tools import Checked, check_script, epilog_script, stores_script

HOSTILE = 'it\'s $(touch /tmp/slurm-gha-hostile) `id` \\ "x"'
SITE = NodeSite(path=(HOSTILE,), images_dir=HOSTILE, stores_dir=HOSTILE, mirrors=(("docker.io", HOSTILE),))
CONFIG = """
[service]
installation = "lab1"
node_url = "https://head.example:8480"
state_dir = "{state}"
[slurm]
output_dir = "/out"
node_dir = "/scratch"
[images]
dir = "/shared/images"
[images.mirrors]
"ghcr.io" = "http://mirror.example:5001"
[[scope]]
name = "a"
url = "https://github.example/a"
token_env = "TOKEN"
[[pool]]
name = "plain"
labels = ["x"]
runner_dir = "/opt/runner"
slurm = {{ cpus = 1, time = "5m" }}
[[pool]]
name = "boxed"
labels = ["y"]
launcher = "docker"
image = "quay.example/owner/image:1"
slurm = {{ cpus = 1, time = "5m" }}
"""


def _checked(launcher: Launcher, text: str = "x") -> Checked:
    container = None if launcher is Launcher.HOST else Container(image=text)
    values = ScriptValues(
        name="check",
        handover=Handover.STDIN,
        runner_dir=text,
        node_dir=text,
        launcher=launcher,
        container=container,
        site=SITE,
    )
    return Checked(text, values, node_url=text, ca_file=text, hosts=(text,), start=True)


NAMES = ("epilog", "stores", *(f"check-{launcher.value}" for launcher in Launcher))


def _text(name: str) -> str:
    if name == "epilog":
        return epilog_script(HOSTILE, [HOSTILE, "other"], SITE)
    if name == "stores":
        return stores_script(HOSTILE, SITE)
    return check_script([_checked(Launcher(name.removeprefix("check-")), HOSTILE)])


@pytest.mark.parametrize("name", NAMES)
def test_each_is_clean_as_a_whole(name: str, tmp_path: Path) -> None:
    text = _text(name)
    path = tmp_path / "script.sh"
    path.write_text(re.sub(r"(?m)^# shellcheck shell=.*$", "", text))
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or "shellcheck"
    # What is defined for the batch script only is not used here.
    argv = [shellcheck, "--shell=bash", "--severity=warning", "--exclude=SC2034", str(path)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", NAMES)
def test_no_value_is_run(name: str) -> None:
    """Each script ends early here: there is no such directory, and no such user."""
    done = subprocess.run(
        ["/bin/bash", "-p"],
        input=_text(name).encode(),
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "1", "SLURM_JOB_UID": "4000000001"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"syntax error" not in done.stderr
    assert not Path("/tmp/slurm-gha-hostile").exists()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(state=tmp_path))
    return path


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_the_epilog_knows_directory_and_user(config: Path) -> None:
    code, text = _run("node", "epilog", "-c", str(config), "--user", "ci", "--user", "ci2")
    assert code == 0
    assert "SG_NODE_DIR='/scratch'\n" in text
    assert "SG_USERS=('ci' 'ci2')\n" in text
    assert text.splitlines()[1].startswith("# slurm-gha epilog")


def test_the_epilog_is_not_written_for_nobody(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(state="/root"))
    code, text = _run("node", "epilog", "-c", str(path))
    assert code == 2
    assert "/root does not tell who runs the service: name the user with --user" in text


def test_the_stores_need_a_catalogue(config: Path) -> None:
    code, text = _run("node", "stores", "-c", str(config))
    assert code == 0
    assert "SG_IMAGES_DIR='/shared/images'\nSG_STORES_DIR='/run/slurm-gha/stores'\nSG_NODE_DIR='/scratch'" in text
    config.write_text(config.read_text().replace('dir = "/shared/images"', ""))
    code, text = _run("node", "stores", "-c", str(config))
    assert code == 2
    assert "names no catalogue of images: dir in [images]" in text


def test_the_check_is_for_all_pools_or_for_some(config: Path) -> None:
    _, both = _run("node", "check", "-c", str(config), "--print")
    assert "SG_TITLE='pool plain'" in both
    assert "SG_TITLE='pool boxed'" in both
    code, one = _run("node", "check", "-c", str(config), "--print", "--pool", "boxed")
    assert code == 0
    assert "SG_TITLE='pool plain'" not in one
    assert "SG_NODE_URL='https://head.example:8480'" in one
    assert "SG_HOSTS=('head.example' 'github.example' 'mirror.example' 'quay.example')" in one
    assert "SG_MIRRORS=('ghcr.io=http://mirror.example:5001')" in one


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pool", "smal"), "there is no pool smal; the pools are plain, boxed"),
        (("--launcher", "docker", "--pool", "plain"), "--launcher and --pool do not go together"),
        (("--launcher", "docker", "--node-dir", "tmp"), "--node-dir must be an absolute path"),
    ],
)
def test_what_cannot_be_checked_is_refused(config: Path, arguments: tuple[str, ...], says: str) -> None:
    code, text = _run("node", "check", "-c", str(config), *arguments)
    assert code == 2
    assert says in " ".join(text.split())
