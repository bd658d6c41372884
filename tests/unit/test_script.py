"""The batch script as a text: golden, quoted without a gap, and clean bash."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gha.domain.pool import Container, Handover, Launcher, Pool, SlurmRequest
from slurm_gha.domain.secret import Secret
from slurm_gha.slurm.script import ScriptValues, batch_script, head, part, parts, quote, script_values
from slurm_gha.slurm.tools import TOOLS, check_parts

GOLDEN = Path(__file__).parent / "golden" / "batch_script_head.sh"
NODE = Path(__file__).parents[2] / "src/slurm_gha/node"
CLAIM = ScriptValues(
    name="sg-uni1-small-k3x9",
    handover=Handover.CLAIM,
    runner_dir="/opt/actions-runner",
    node_dir="/tmp",
    node_url="https://head.cluster.example:8480",
    secret=Secret("c2VjcmV0LWZvci1vbmUtY2xhaW0"),
    ca_file="/etc/ssl/certs/cluster-ca.pem",
    environment=(("GREETING", 'it\'s a "test"; $(reboot) `reboot` \\'), ("TZ", "Europe/Berlin")),
)
CONTAINER = Container(image="ghcr.io/actions/actions-runner:latest")
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
VARIABLE = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)


def _bin(name: str) -> str:
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


def test_the_head_is_the_golden_one_and_the_rest_the_node_files_in_order() -> None:
    script = batch_script(CLAIM)
    assert head(CLAIM) == GOLDEN.read_text()
    assert script == "\n".join([GOLDEN.read_text(), *(part(name) for name in parts(Launcher.HOST))])
    assert script.endswith("\nmain\n")


def test_every_node_file_is_part_of_some_script() -> None:
    used = {f"{name}.sh" for launcher in Launcher for name in (*parts(launcher), *check_parts(launcher))}
    used |= {f"{name}.sh" for names in TOOLS.values() for name in names}
    assert used == {path.name for path in NODE.glob("*.sh")}


def test_the_script_is_small_and_plain() -> None:
    """Slurm's default MaxScriptSize is 4 MB; sbatch refuses DOS line breaks."""
    script = batch_script(CLAIM)
    assert len(script) < 64 * 1024
    assert "\r" not in script
    assert script.isascii()


@pytest.mark.parametrize("launcher", list(Launcher))
def test_the_script_passes_shellcheck_as_a_whole(launcher: Launcher, tmp_path: Path) -> None:
    """The parts share variables, which only the whole can show to be used and assigned."""
    values = replace(CLAIM, launcher=launcher, container=None if launcher is Launcher.HOST else CONTAINER)
    # A directive in the middle is about the next command: without it, the checks that the parts leave out are on.
    whole = re.sub(r"(?m)^# shellcheck shell=.*$", "", batch_script(values))
    path = tmp_path / "script.sh"
    path.write_text(whole)
    checked = subprocess.run(
        [_bin("shellcheck"), "--shell=bash", "--severity=warning", str(path)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_each_part_is_clean_and_formatted() -> None:
    files = [str(path) for path in sorted(NODE.glob("*.sh"))]
    assert subprocess.run([_bin("shellcheck"), *files], capture_output=True, text=True).stdout == ""
    assert subprocess.run([_bin("shfmt"), "-i", "2", "-ci", "-d", *files], capture_output=True, text=True).stdout == ""


def test_no_sbatch_option_can_come_in_by_a_value() -> None:
    """sbatch reads #SBATCH lines until the first command: that is before any value."""
    script = batch_script(replace(CLAIM, name="x\n#SBATCH --uid=0\n"))
    commands = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert script.index(commands[0]) < script.index("#SBATCH")


def _read_back(values: ScriptValues) -> dict[str, str]:
    """What bash makes of the head: its variables, and those of the runner's environment."""
    names = ["NAME", "HANDOVER", "RUNNER_DIR", "NODE_DIR", "NODE_URL", "CA_FILE", "SECRET"]
    told = "".join(f"printf '%s\\0' \"$SG_{name}\"\n" for name in names)
    rest = "printf '%s\\0' \"${SG_ENVIRONMENT[@]}\"\ncompgen -e | grep -c ^SG_ >&2 || true\n"
    done = subprocess.run(
        ["/bin/bash", "-p", "-c", head(values) + told + rest],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "SG_SECRET": "inherited", "LC_ALL": "C.UTF-8"},
        check=True,
    )
    assert done.stderr == b"0\n"
    found = done.stdout.decode().split("\0")[:-1]
    answer = dict(zip(names, found, strict=False))
    if values.environment:
        answer["ENVIRONMENT"] = "\0".join(found[len(names) :])
    return answer


@settings(max_examples=150, deadline=None)
@given(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, st.lists(st.tuples(VARIABLE, TEXT), max_size=3).map(tuple))
def test_any_text_survives_and_none_is_run(
    name: str,
    runner_dir: str,
    node_dir: str,
    node_url: str,
    ca_file: str,
    secret: str,
    environment: tuple[tuple[str, str], ...],
) -> None:
    values = ScriptValues(
        name=name,
        handover=Handover.CLAIM,
        runner_dir=runner_dir,
        node_dir=node_dir,
        node_url=node_url,
        ca_file=ca_file,
        secret=Secret(secret),
        environment=environment,
    )
    answer = _read_back(values)
    assert answer["NAME"] == name
    assert answer["HANDOVER"] == "claim"
    assert answer["RUNNER_DIR"] == runner_dir
    assert answer["NODE_DIR"] == node_dir
    assert answer["NODE_URL"] == node_url
    assert answer["CA_FILE"] == ca_file
    assert answer["SECRET"] == secret
    assert answer.get("ENVIRONMENT", "") == "\0".join(f"{key}={value}" for key, value in environment)


@pytest.mark.parametrize(
    "text", ["'", "''", "\\'", "$(id)", "`id`", "a\nb\n", "!!", "~", "*", "", "\x7f\x1b[31m", "é€"]
)
def test_the_usual_suspects(text: str) -> None:
    done = subprocess.run(["/bin/bash", "-c", f"printf %s {quote(text)}"], capture_output=True, check=True)
    assert done.stdout.decode() == text


def test_what_bash_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        batch_script(replace(CLAIM, name="a\0b"))
    with pytest.raises(ValueError, match="not the name of an environment variable: 'A=B; id #'"):
        batch_script(replace(CLAIM, environment=(("A=B; id #", "x"),)))
    with pytest.raises(ValueError, match="a claim needs node_url and a secret"):
        replace(CLAIM, secret=None)


def test_the_secret_does_not_show_in_the_values() -> None:
    assert "c2Vjc" not in repr(CLAIM)


def test_values_of_a_pool() -> None:
    pool = Pool(
        name="small",
        scopes=frozenset({"a"}),
        labels=frozenset({"x"}),
        request=SlurmRequest(cpus=1, time_seconds=60),
        runner_dir="/opt/runner",
        environment=(("A", "b"),),
    )
    values = script_values("sg-a-small-1", pool, Secret("s"), node_dir="/tmp", node_url="http://h", ca_file="/ca")
    assert (values.runner_dir, values.node_url, values.ca_file, values.environment) == (
        "/opt/runner",
        "http://h",
        "/ca",
        (("A", "b"),),
    )
    assert values.stop_after_warning == 48
    assert (
        script_values("n", pool, Secret("s"), node_dir="/", node_url="u", signal_before_end=1).stop_after_warning == 1
    )
    handed = script_values("n", replace(pool, handover=Handover.STDIN), None, node_dir="/tmp", node_url="http://h")
    assert "http://h" not in head(handed)
    with pytest.raises(ValueError, match="runner n: a claim needs"):
        script_values("n", pool, None, node_dir="/tmp", node_url="http://h")
