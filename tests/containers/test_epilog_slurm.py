"""The Epilog run by real Slurm, after jobs whose script and guard were killed at once: nothing is left of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slurm_gha.domain.pool import Container, Handover, Launcher
from slurm_gha.slurm.script import NodeSite, ScriptValues, head, part, parts
from slurm_gha.slurm.tools import epilog_script
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.rootless import prepare_machine

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

USER = "slurmgha-test"
BEGIN = """
prepare_environment
make_job_dir
start_guard
setsid sleep 801 {SG_LOCK}>&- &
(cd "$SG_JOB_DIR/tmp" && env -i setsid sleep 802 {SG_LOCK}>&- &)
"""
ENGINE = """
need_user_namespaces
make_engine_dir
printf '{}\\n' >"$SG_ENGINE/daemon.json"
export HOME=$SG_JOB_DIR/run
start_daemon run_dockerd "$SG_ENGINE"
await_engine
docker --host "unix://$SG_ENGINE/docker.sock" volume create data >/dev/null
"""
END = """
say ready
sleep 800
"""


@dataclass
class Cluster:
    slurm: PrivateSlurm
    node_dir: Path

    def submit(self, launcher: Launcher, *pieces: str) -> tuple[int, Path]:
        """A job that does ``pieces`` with the functions of its launcher; its number and its output."""
        container = Container(image="none") if launcher is Launcher.DOCKER else None
        values = ScriptValues(
            name="sg-test",
            handover=Handover.STDIN,
            runner_dir="",
            node_dir=str(self.node_dir),
            launcher=launcher,
            container=container,
        )
        text = "\n".join([head(values), *(part(name) for name in parts(launcher)[:-1]), BEGIN, *pieces, END])
        output = self.slurm.home / f"{time.monotonic_ns()}.out"
        done = self.slurm.run("sbatch", "--parsable", "--no-requeue", f"--output={output}", input=text)
        return int(done.stdout.strip().split(";")[0]), output

    def job_processes(self, job_id: int) -> dict[int, str]:
        """By what they hold of the job: its number in the environment, or its directory."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                directory = os.readlink(entry / "cwd")
                environ = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:
                continue
            ours = f"SLURM_CLUSTER_NAME={self.slurm.cluster_name}".encode() in environ
            number = ours and f"SLURM_JOB_ID={job_id}".encode() in environ
            if number or f"{directory}/".startswith(f"{self.node_dir}/sg-{job_id}/"):
                found[int(entry.name)] = command
        return found

    def until_ready(self, output: Path) -> None:
        deadline = time.monotonic() + 60
        while not output.exists() or "slurm-gha: ready" not in output.read_text():
            assert time.monotonic() < deadline, output.read_text() if output.exists() else "no output"
            time.sleep(0.05)

    def until_gone(self, job_id: int) -> None:
        """Slurm completes a job when its Epilog has ended."""
        deadline = time.monotonic() + 60
        while self.slurm.run("squeue", "-h", "-t", "R,CG,PD", "-o", "%i", "-j", str(job_id), check=False).stdout:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    root = Path(tempfile.mkdtemp(prefix="sges-", dir="/tmp"))
    root.chmod(0o755)
    node_dir = root / "n"
    node_dir.mkdir()
    node_dir.chmod(0o1777)
    epilog = root / "epilog"
    epilog.write_text(epilog_script(str(node_dir), [USER], NodeSite()))
    epilog.chmod(0o755)
    try:
        with PrivateSlurm(user=USER, nodes=1, slurm_conf=[f"Epilog={epilog}"]) as slurm:
            prepare_machine(slurm.user)
            yield Cluster(slurm, node_dir)
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize(
    ("launcher", "pieces"), [(Launcher.HOST, ()), (Launcher.DOCKER, (ENGINE,))], ids=["host", "docker"]
)
def test_a_killed_script_and_guard_leave_nothing(cluster: Cluster, launcher: Launcher, pieces: tuple[str, ...]) -> None:
    job_id, output = cluster.submit(launcher, *pieces)
    live, live_output = cluster.submit(Launcher.HOST)
    cluster.until_ready(output)
    cluster.until_ready(live_output)
    processes = cluster.job_processes(job_id)
    assert len(processes) >= 4
    scripts = [pid for pid, command in processes.items() if re.search(r"slurm_script|job\d+", command)]
    assert len(scripts) >= 2, processes
    for pid in scripts:
        os.kill(pid, signal.SIGSTOP)  # so that the guard does not see the script go
    for pid in scripts:
        os.kill(pid, signal.SIGKILL)
    cluster.until_gone(job_id)
    assert cluster.job_processes(job_id) == {}
    assert [path.name for path in cluster.node_dir.iterdir()] == [f"sg-{live}"]
    assert len(cluster.job_processes(live)) >= 4
    node = cluster.slurm.run("sinfo", "-h", "-o", "%T").stdout
    assert "drain" not in node
    cluster.slurm.run("scancel", str(live))
    cluster.until_gone(live)
    assert cluster.job_processes(live) == {}
    assert list(cluster.node_dir.iterdir()) == []
