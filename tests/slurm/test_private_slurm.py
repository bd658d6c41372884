"""The private cluster itself: it is a whole one, it keeps to itself, and it leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.processes import processes_of

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

# A process that no longer belongs to anything Slurm can see.
ORPHAN = "#!/bin/bash\ncd /\nsetsid nohup sleep 300 >/dev/null 2>&1 &\necho started\nsleep 300\n"


def wait_for(met: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def start_orphan(slurm: PrivateSlurm) -> None:
    output = slurm.home / "orphan.txt"
    slurm.run("sbatch", f"--output={output}", input=ORPHAN)
    wait_for(lambda: output.exists() and "started" in output.read_text())


def test_destroying_leaves_no_process_and_no_file() -> None:
    with PrivateSlurm(nodes=1) as slurm:
        directory, name = slurm.directory, slurm.cluster_name
        start_orphan(slurm)
        assert [line for line in slurm.leftovers().values() if line == "sleep 300"]
    assert not directory.exists()
    assert processes_of([str(directory), f"SLURM_CLUSTER_NAME={name}"]) == {}


def test_two_clusters_at_once_do_not_touch_each_other() -> None:
    with PrivateSlurm(nodes=1) as first:
        with PrivateSlurm(nodes=1) as second:
            start_orphan(first)
            start_orphan(second)
            assert first.conf != second.conf
        wait_for(lambda: "RUNNING" in first.run("squeue", "-h", "-o", "%T").stdout)
        assert [line for line in first.leftovers().values() if line == "sleep 300"]


OWNER = """
import sys
from slurm_gha.testing.private_slurm import PrivateSlurm
slurm = PrivateSlurm(nodes=1)
slurm.start()
print(slurm.directory, slurm.cluster_name, flush=True)
sys.stdin.read()
"""


def test_a_killed_owner_leaves_nothing_either() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert owner.stdout is not None
    directory, name = owner.stdout.readline().split()
    assert Path(directory).exists()
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    wait_for(lambda: not Path(directory).exists())
    wait_for(lambda: not processes_of([directory, f"SLURM_CLUSTER_NAME={name}"]))


def test_jobs_are_those_of_the_unprivileged_user(private_slurm: PrivateSlurm) -> None:
    output = private_slurm.home / "id.txt"
    private_slurm.run("sbatch", f"--output={output}", "--gres=tmpdisk:1000", input="#!/bin/sh\nid -u\n")
    wait_for(lambda: output.exists() and output.read_text())
    assert int(output.read_text()) == private_slurm.uid != 0


def test_the_commands_step_down_by_themselves(private_slurm: PrivateSlurm) -> None:
    done = subprocess.run(
        [private_slurm.bin_dir / "sbatch", "--parsable", "--output=/dev/null"],
        input="#!/bin/sh\n",
        text=True,
        capture_output=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
    )
    shown = private_slurm.run("squeue", "-h", "-t", "all", "-j", done.stdout.strip(), "-o", "%u").stdout
    assert shown.strip() == private_slurm.user


def test_a_running_job_outlives_its_controller(private_slurm: PrivateSlurm) -> None:
    slurm_id = private_slurm.run("sbatch", "--parsable", "--output=/dev/null", input="#!/bin/sh\nsleep 60\n").stdout
    state = ["squeue", "-h", "-j", slurm_id.strip(), "-o", "%T"]
    wait_for(lambda: "RUNNING" in private_slurm.run(*state).stdout)
    private_slurm.stop_controller()
    assert private_slurm.run(*state, check=False).returncode != 0
    private_slurm.start_controller()
    assert "RUNNING" in private_slurm.run(*state).stdout
    private_slurm.run("scancel", slurm_id.strip())
