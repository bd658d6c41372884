"""A node directory with what jobs have left in it, and an Epilog to be run by root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from slurm_gha.slurm.script import NodeSite
from slurm_gha.slurm.tools import epilog_script
from slurm_gha.testing.rootless import prepare_machine

USER = "slurmgha-epilog"
CLUSTER = "epilogtest"


def account(name: str) -> pwd.struct_passwd:
    """A system account that may use rootless engines; made if it is missing."""
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        prepare_machine(name)
        return pwd.getpwnam(name)
    argv = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", name]
    subprocess.run(argv, check=True, capture_output=True)
    prepare_machine(name)
    return pwd.getpwnam(name)


class Site:
    """The node: its directory, the user whose jobs are runners, and processes that are ended at the end."""

    def __init__(self, directory: Path, user: pwd.struct_passwd) -> None:
        self.directory = directory
        self.user = user
        self.script = directory.parent / "epilog"
        self.script.write_text(epilog_script(str(directory), [user.pw_name], NodeSite()))
        self.processes: list[subprocess.Popen[bytes]] = []

    def job_dir(self, job_id: int) -> Path:
        return self.directory / f"sg-{job_id}"

    def make_job_dir(self, job_id: int, *, lock: bool = True) -> Path:
        """As the batch script makes it; nobody holds the lock."""
        path = self.job_dir(job_id)
        path.mkdir(mode=0o700)
        if lock:
            (path / "lock").touch()
            os.chown(path / "lock", self.user.pw_uid, self.user.pw_gid)
        os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def hold(self, path: Path) -> contextlib.ExitStack:
        """Hold the lock of a job directory, as its live script does."""
        stack = contextlib.ExitStack()
        lock = stack.enter_context((path / "lock").open())
        fcntl.flock(lock, fcntl.LOCK_EX)
        return stack

    def environment(self, job_id: int | None = None, cluster: str = CLUSTER) -> dict[str, str]:
        """Of a process of a Slurm job."""
        given = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/", "LC_ALL": "C.UTF-8"}
        if job_id is not None:
            given |= {"SLURM_JOB_ID": str(job_id), "SLURM_CLUSTER_NAME": cluster}
        return given

    def step_down(self, *argv: str, user: pwd.struct_passwd | None = None) -> list[str]:
        who = user or self.user
        return ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--init-groups", "--", *argv]

    def run(self, script: str, *, cwd: Path | None = None) -> None:
        """Bash as the user, to its end."""
        argv = self.step_down("bash", "-ec", script)
        subprocess.run(argv, check=True, cwd=cwd or self.directory, env=self.environment(), timeout=60)

    def start(
        self,
        *argv: str,
        job_id: int | None = None,
        cluster: str = CLUSTER,
        cwd: Path | None = None,
        user: pwd.struct_passwd | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process of a job's, in a session of its own."""
        process = subprocess.Popen(
            self.step_down(*argv, user=user),
            env=self.environment(job_id, cluster),
            cwd=cwd or "/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        # Before that, it is still ours, and root's.
        until(lambda: os.stat(f"/proc/{process.pid}").st_uid != 0 and _program(process.pid) != "setpriv")
        return process

    def epilog(self, job_id: int, *, user: pwd.struct_passwd | None = None, as_user: bool = False) -> str:
        """Run it as slurmd does, and what it says."""
        who = user or self.user
        environment = {
            "SLURM_JOB_ID": str(job_id),
            "SLURM_JOB_UID": str(who.pw_uid),
            "SLURM_CLUSTER_NAME": CLUSTER,
            "SLURMD_NODENAME": "n1",
        }
        argv = ["/bin/bash", "-p", str(self.script)]
        done = subprocess.run(
            self.step_down(*argv) if as_user else argv,
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0
        assert done.stdout == ""
        return done.stderr

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def open_site() -> Iterator[Site]:
    """In a short directory that everybody can write to, like /tmp itself."""
    root = Path(tempfile.mkdtemp(prefix="sgep-", dir="/tmp"))
    root.chmod(0o755)
    directory = root / "n"
    directory.mkdir()
    directory.chmod(0o1777)
    site = Site(directory, account(USER))
    try:
        yield site
    finally:
        site.close()
        shutil.rmtree(root)
