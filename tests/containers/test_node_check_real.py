"""The check of a node inside of a real Slurm job, as administrators run it: srun -w n1 bash -s."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from slurm_gha.cli import main
from slurm_gha.testing.private_slurm import PrivateSlurm

pytestmark = pytest.mark.slurm


def _script(*options: str) -> str:
    result = CliRunner().invoke(main, ["node", "check", "--print", *options])
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("launcher", ["docker", "podman"])
def test_the_engine_starts_and_is_taken_down_again(slurm: PrivateSlurm, launcher: str) -> None:
    before = {path.name for path in Path("/tmp").glob("sgc-*")}
    script = _script("--launcher", launcher, "--try")
    done = slurm.run("srun", "-w", "n1", "bash", "-s", input=script, timeout=120, check=False)
    lines = done.stdout.splitlines()
    assert lines[0] == f"without a pool, launcher {launcher}, on node n1:"
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in lines if line.startswith("✗")] == []
    assert any(line.startswith("✓ overlay: can be mounted in a user namespace") for line in lines)
    assert any(line.startswith("! slurm: ProctrackType is proctrack/linuxproc") for line in lines)
    assert any(line.startswith("✓ start: the engine started, and was taken down again") for line in lines)
    assert lines[-1] == "node n1: all is well"
    mine = {path.name for path in Path("/tmp").glob("sgc-*") if path.stat().st_uid == slurm.uid}
    assert mine <= before


def test_a_node_that_lacks_something_fails_the_step(slurm: PrivateSlurm) -> None:
    script = _script("--launcher", "docker", "--node-dir", "/proc")
    done = slurm.run("srun", "-w", "n2", "bash", "-s", input=script, timeout=60, check=False)
    assert done.returncode == 1
    assert "✗ node_dir: " in done.stdout
    assert "node n2: 1 thing is wrong" in done.stdout
