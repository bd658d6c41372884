"""A whole, real Slurm cluster in one private directory, run by one unprivileged user.

Nothing under /etc is read or written, and several clusters can run at the same time. Started by root, every
daemon, command and job runs as ``user`` (created if it is missing): in this way of running, Slurm can only run
jobs of the user that the daemons belong to. The commands in :attr:`PrivateSlurm.bin_dir` step down to that user
by themselves, so that a program run by root can use the cluster; one started with :meth:`PrivateSlurm.as_user`
is that user from the beginning. Started by an ordinary user, everything runs as that user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from slurm_gha.testing import private_slurm_files as files
from slurm_gha.testing.processes import end_processes, processes_of, release, start_guard
from slurm_gha.testing.runner.processes import descendants

_DAEMON_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "sacctmgr", "srun", "sprio", "sdiag")
_REQUIRED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "setpriv")
_REQUIRED_FOR_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")


class PrivateSlurmError(Exception):
    """The cluster cannot be started or does not answer; the text holds the end of the daemon's log."""


class PrivateSlurm:
    """A context manager: a running cluster inside, no process and no file of it left afterwards.

    ``nodes`` nodes (``n1``, ``n2``…) pretend to have ``cpus`` CPUs, ``memory_mb`` MB and ``tmpdisk`` MB of the
    counted gres ``tmpdisk``, and ``gpus`` by type, of which there is no more than a device.
    Partitions: ``ci`` (the default), ``low`` (its jobs are preempted by those of
    ``ci``), and ``short`` (at most one minute, at most one node). With ``accounting``, slurmdbd and MariaDB run
    too: account ``ci``, and qos ``normal`` and ``tight`` (one submitted job a user).

    ``min_job_age``: seconds after which slurmctld forgets an ended job. ``kill_wait``: seconds between TERM and
    KILL. ``message_timeout``: seconds that commands try to reach a stopped slurmctld. ``slurm_conf``: further lines
    for slurm.conf. ``scheduling``: its SchedulerParameters; by default jobs start as soon as they are submitted.
    """

    def __init__(
        self,
        *,
        nodes: int = 2,
        cpus: int = 4,
        memory_mb: int = 16000,
        tmpdisk: int = 100_000,
        gpus: Mapping[str, int] | None = None,
        accounting: bool = False,
        user: str = "slurmgha-test",
        min_job_age: int = 300,
        kill_wait: int = 2,
        message_timeout: int = 4,
        slurm_conf: Sequence[str] = (),
        scheduling: str = files.AT_ONCE,
        parent: Path = Path("/tmp"),
    ) -> None:
        self.accounting = accounting
        self.node_names = tuple(f"n{index}" for index in range(1, nodes + 1))
        self.cluster_name = f"sg{secrets.token_hex(4)}"
        self._shape = files.Shape(
            nodes=nodes,
            cpus=cpus,
            memory_mb=memory_mb,
            tmpdisk=tmpdisk,
            min_job_age=min_job_age,
            kill_wait=kill_wait,
            message_timeout=message_timeout,
            scheduling=scheduling,
            extra=tuple(slurm_conf),
            gpus=tuple((gpus or {}).items()),
        )
        self._parent = parent
        self._root = os.geteuid() == 0
        self._wanted_user = user
        self._account: pwd.struct_passwd | None = None
        self._directory: Path | None = None
        self._layout: files.Layout | None = None
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._usable_before: set[str] = set()
        self._guard: subprocess.Popen[bytes] | None = None

    # What a user of the cluster needs to know

    @property
    def directory(self) -> Path:
        """The private directory; jobs may write below ``directory / "home"``."""
        if self._directory is None:
            raise PrivateSlurmError("the private Slurm is not running: use it as a context manager, or call start()")
        return self._directory

    @property
    def conf(self) -> Path:
        """slurm.conf, as for ``SLURM_CONF``."""
        return self.directory / "slurm.conf"

    @property
    def bin_dir(self) -> Path:
        """Slurm's commands, bound to this cluster and to its user."""
        return self.directory / "bin"

    @property
    def home(self) -> Path:
        """A directory of the cluster's user, for output files and the like."""
        return self.directory / "home"

    @property
    def user(self) -> str:
        """The user that daemons and jobs run as."""
        return self._user.pw_name

    @property
    def uid(self) -> int:
        return self._user.pw_uid

    @property
    def gid(self) -> int:
        return self._user.pw_gid

    @property
    def env(self) -> dict[str, str]:
        """A small environment in which Slurm's commands find this cluster."""
        return {
            "PATH": f"{self.bin_dir}:{_DAEMON_PATH}",
            "SLURM_CONF": str(self.conf),
            "HOME": str(self.home),
            "USER": self.user,
            "LOGNAME": self.user,
            "LANG": "C.UTF-8",
        }

    def as_user(self, argv: Sequence[str]) -> list[str]:
        """``argv`` as the cluster's user: with setpriv in front when we are root. Combine with :attr:`env`."""
        if not self._root:
            return list(argv)
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--", *argv]

    def run(
        self,
        *argv: str,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run has
        check: bool = True,
        timeout: float = 30.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the cluster's user, in its environment, from its home directory."""
        done = subprocess.run(
            self.as_user(argv),
            input="" if input is None else input,
            env={**self.env, **(env or {})},
            cwd=self.home,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            words = done.stderr.strip() or done.stdout.strip()
            raise PrivateSlurmError(f"{' '.join(argv)}: exit code {done.returncode}: {words}")
        return done

    # Faults

    def stop_controller(self) -> None:
        """Stop slurmctld, and wait until it has saved its state and exited."""
        self._usable_before = self._usable_nodes()
        self._stop("slurmctld")

    def kill_controller(self) -> None:
        """Kill slurmctld without any warning."""
        self._usable_before = self._usable_nodes()
        self._stop("slurmctld", kill=True)

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it answers and has its nodes back: until then it refuses submissions."""
        self._start_daemon("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self._wait_until("slurmctld", self._controller_answers, 20.0)
        self._wait_until("slurmctld", lambda: self._usable_nodes() >= self._usable_before, 30.0)

    def stop_authentication(self) -> None:
        """Stop munged: no command works any more."""
        self._stop("munged")

    def stop_accounting(self) -> None:
        """Stop slurmdbd: slurmctld goes on and keeps its news for it."""
        self._stop("slurmdbd")

    def start_accounting(self) -> None:
        """Start slurmdbd (again), and wait until it answers."""
        self._start_daemon("slurmdbd", "slurmdbd", "-D")
        self._wait_until("slurmdbd", self._accounting_answers, 30.0)

    def stop_node(self, name: str) -> None:
        """Kill a node's slurmd: its jobs get NODE_FAIL once SlurmdTimeout (10 s) has passed, and keep running."""
        self._stop(f"slurmd-{name}", kill=True)

    def start_node(self, name: str) -> None:
        """Start a node's slurmd (again)."""
        self._start_daemon(f"slurmd-{name}", "slurmd", "-D", "-N", name, "-f", str(self.conf))

    def node_down(self, name: str) -> None:
        """Mark a node as down: its jobs end with NODE_FAIL at once."""
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def resume(self, name: str) -> None:
        """Bring a node that was marked as down back, and wait until it is idle or in use."""
        # It may have come back by itself (ReturnToService=2); slurmctld then refuses to resume it.
        self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        self._wait_until(f"slurmd-{name}", lambda: name in self._usable_nodes(), 30.0)

    # Start and end

    def start(self) -> None:
        """Make the directory, start the daemons, wait for every node. Raises PrivateSlurmError."""
        missing = [name for name in self._needed() if shutil.which(name, path=_DAEMON_PATH) is None]
        if missing:
            raise PrivateSlurmError(
                f"not installed: {', '.join(missing)}; apt-get install -y --no-install-recommends slurm-wlm munge"
                + (" slurmdbd mariadb-server" if self.accounting else "")
            )
        for attempt in (1, 2, 3):
            try:
                self._start_once()
            except PrivateSlurmError as error:
                self.destroy()
                # Another program may have taken a port between our look and the daemon's.
                if attempt == 3 or "Address already in use" not in str(error):
                    raise
            except BaseException:
                self.destroy()
                raise
            else:
                return

    def destroy(self) -> None:
        """Cancel all jobs, stop every daemon and every process of a job, remove the directory."""
        if self._directory is None:
            return
        self._cancel_all()
        for name in sorted(self._daemons, key=_stop_order):
            self._stop(name)
        end_processes(self.leftovers())
        shutil.rmtree(self._directory, ignore_errors=True)
        for _ in range(20):  # a dying process may still have written a file
            if not self._directory.exists():
                break
            time.sleep(0.05)
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._guard is not None:
            release(self._guard)
            self._guard = None
        self._directory = self._layout = None

    def leftovers(self) -> dict[int, str]:
        """Live processes of this cluster, its jobs' included, other than its daemons: process id to command line."""
        daemons = {process.pid for process in self._daemons.values()}
        if "slurmctld" in self._daemons:
            daemons.update(descendants(self._daemons["slurmctld"].pid))  # it has a helper, slurmscriptd
        if self._guard is not None:
            daemons.add(self._guard.pid)
        found = processes_of(self._marks())
        return {pid: line for pid, line in found.items() if pid not in daemons}

    def __enter__(self) -> PrivateSlurm:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()

    # How it is done

    @property
    def _user(self) -> pwd.struct_passwd:
        if self._account is None:
            self._account = _user_account(self._wanted_user) if self._root else pwd.getpwuid(os.geteuid())
        return self._account

    def _needed(self) -> tuple[str, ...]:
        return _REQUIRED + (_REQUIRED_FOR_ACCOUNTING if self.accounting else ())

    def _marks(self) -> tuple[str, ...]:
        return (str(self.directory), f"SLURM_CLUSTER_NAME={self.cluster_name}")

    def _start_once(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="slurm-gha-", dir=self._parent)).resolve()
        os.chown(self._directory, self.uid, self.gid)
        self._guard = start_guard(self._directory, self._marks())
        self._layout = files.layout(self._directory, self.cluster_name, self.user, self._shape, self.accounting)
        files.write(self._layout, self.uid, self.gid)
        files.write_commands(self._layout, self.uid, self.gid, _COMMANDS)
        self._start_daemon("munged", *files.munged(self._layout))
        self._wait_until("munged", self._layout.munge_socket.exists, 10.0)
        if self.accounting:
            self._make_database()
        for name in self.node_names:
            self.start_node(name)
        self._usable_before = set(self.node_names)
        self.start_controller()

    def _make_database(self) -> None:
        layout = self._layout
        assert layout is not None
        installed = self.run(*files.mariadb_install(layout), timeout=120.0, check=False)
        if installed.returncode != 0:
            raise PrivateSlurmError(f"mariadb-install-db failed: {installed.stdout[-2000:]}{installed.stderr[-2000:]}")
        self._start_daemon("mariadbd", *files.mariadbd(layout))
        self._wait_until("mariadbd", layout.mariadb_socket.exists, 30.0)
        self.start_accounting()
        for command in files.accounting_commands(layout):
            self.run("sacctmgr", "-i", *command)

    def _start_daemon(self, name: str, *argv: str) -> None:
        assert self._layout is not None
        with self._log(name) as log:
            self._daemons[name] = subprocess.Popen(
                self.as_user(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": _DAEMON_PATH, "LANG": "C.UTF-8", "SLURM_CONF": str(self.conf)},
                cwd=self.directory,
                start_new_session=True,  # so that the terminal's ^C reaches us alone, and we stop it in order
            )

    def _log(self, name: str) -> IO[bytes]:
        return (self.directory / "log" / f"{name}.log").open("ab")

    def _stop(self, name: str, *, kill: bool = False) -> None:
        process = self._daemons.pop(name, None)
        if process is None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(timeout=20.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_until(self, daemon: str, ready: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            process = self._daemons.get(daemon)
            died = process is not None and process.poll() is not None
            if died or time.monotonic() > deadline:
                why = "has died" if died else f"was not ready within {seconds:.0f} s"
                raise PrivateSlurmError(f"{daemon} {why}; the end of its log:\n{self._log_end(daemon)}")
            time.sleep(0.03)

    def _log_end(self, daemon: str) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "log" / f"{daemon}.log").read_text(errors="replace")[-3000:]
        return "(no log)"

    def _controller_answers(self) -> bool:
        done = self.run("scontrol", "ping", check=False)
        return done.returncode == 0 and " is UP" in done.stdout

    def _accounting_answers(self) -> bool:
        return self.run("sacctmgr", "-n", "-P", "list", "cluster", check=False).returncode == 0

    def _usable_nodes(self) -> set[str]:
        done = self.run("sinfo", "-h", "-N", "-o", "%N %T", check=False)
        pairs = (line.split() for line in done.stdout.splitlines())
        return {pair[0] for pair in pairs if len(pair) == 2 and pair[1] in {"idle", "mixed", "allocated"}}

    def _cancel_all(self) -> None:
        if "slurmctld" not in self._daemons or not self.bin_dir.exists():
            return
        with contextlib.suppress(PrivateSlurmError, subprocess.TimeoutExpired):
            self.run("scancel", "--user", self.user, timeout=10.0)
            deadline = time.monotonic() + 10.0
            listing = ("squeue", "-h", "-t", "running,completing", "-o", "%i")
            while self.run(*listing, timeout=10.0).stdout.strip() and time.monotonic() < deadline:
                time.sleep(0.1)


def _stop_order(daemon: str) -> int:
    """slurmctld first, so that it saves its state while it can still write; the database last."""
    order = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "munged")
    return next((place for place, name in enumerate(order) if daemon.startswith(name)), len(order))


def _user_account(name: str) -> pwd.struct_passwd:
    """The account of that name; made, as a system account without a log-in, if root finds none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    made = subprocess.run(
        [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/bin/sh",
            name,
        ],
        text=True,
        capture_output=True,
        check=False,
    )
    try:
        return pwd.getpwnam(name)  # another process may have made it at the same moment
    except KeyError:
        raise PrivateSlurmError(f"cannot create the user {name!r}: {made.stderr.strip()}") from None
