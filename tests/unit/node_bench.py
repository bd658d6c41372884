"""A bench for the batch script: run as Slurm would run it, against the real web application over real HTTP."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.from_thread import start_blocking_portal

from slurm_gha.controller.desk import Claimed
from slurm_gha.domain.pool import Handover
from slurm_gha.domain.secret import Secret
from slurm_gha.slurm.script import ScriptValues, batch_script
from slurm_gha.web.app import create_app
from slurm_gha.web.health import Health
from slurm_gha.web.serve import bind, serve

CONFIG = "eyJjb25maWd1cmF0aW9uIjoi" + "c2VjcmV0" * 200 + "In0="
"""Looks like a JIT configuration, and is long enough to be found wherever it should not be."""

RUNNER = """#!/bin/bash
# Like run.sh with RUNNER_MANUALLY_TRAP_SIG: a signal becomes SIGINT to the listener.
set -m
trap 'kill -INT "$listener" 2>/dev/null' INT TERM
cd "$(dirname "$0")"
bash ./bin/listener &
listener=$!
wait "$listener"; code=$?
trap - INT TERM
wait "$listener"
exit "$code"
"""
QUICK = """
unset ACTIONS_RUNNER_INPUT_JITCONFIG
echo "2026-01-02 03:04:05Z: Listening for Jobs"
echo "2026-01-02 03:04:06Z: Running job: build (1, a)"
echo "2026-01-02 03:04:07Z: Job build (1, a) completed with result: Succeeded"
"""
LASTING = """
unset ACTIONS_RUNNER_INPUT_JITCONFIG
trap 'echo "listener interrupted"; kill %1; exit 0' INT
echo "2026-01-02 03:04:05Z: Listening for Jobs"
sleep 600 &
wait
"""


@dataclass
class ScriptedDesk:
    """Gives ``answers`` to claims, the last one again and again, and remembers all that it is told."""

    answers: list[Claimed | Exception] = field(default_factory=list)
    claims: list[tuple[str, str, int, str]] = field(default_factory=list)
    reports: list[tuple[str, str, str]] = field(default_factory=list)
    delay: float = 0.0
    report_delay: float = 0.0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def grant(self) -> Claimed:
        return Claimed(Secret(CONFIG), Secret(self.token))

    async def claim(self, name: str, secret: Secret, slurm_id: int, node: str) -> Claimed:
        self.claims.append((name, secret.reveal(), slurm_id, node))
        await anyio.sleep(self.delay)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def report(self, name: str, token: Secret, event: str, at: float, detail: str) -> None:
        assert abs(at - time.time()) < 60
        self.reports.append((event, detail, token.reveal()))
        await anyio.sleep(self.report_delay)

    @property
    def events(self) -> list[str]:
        return [event for event, _, _ in self.reports]


@contextlib.contextmanager
def service(desk: ScriptedDesk, *, port: int = 0, tls: tuple[Path, Path] | None = None) -> Iterator[str]:
    """The URL of the real application, served by uvicorn in another thread; ``tls``: certificate and key."""
    app = create_app(desk, lambda: Health(0, ()), lambda: b"")
    certificate, key = tls or (None, None)
    with start_blocking_portal() as portal:
        stop = portal.call(anyio.Event)
        run = functools.partial(
            serve, app, bind("127.0.0.1", port), stop=stop, tls_certificate=certificate, tls_key=key, grace=1
        )
        task, port = portal.start_task(run)
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        finally:
            portal.call(stop.set)
            task.result(timeout=20)


@dataclass
class Started:
    """A batch script that runs."""

    process: subprocess.Popen[bytes]
    job_id: int
    job_dir: Path
    output_file: Path
    cluster: str

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def wait(self, seconds: float = 20) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    @property
    def code(self) -> int | None:
        return self.process.returncode

    def signal(self, number: signal.Signals) -> None:
        """To the script alone."""
        self.process.send_signal(number)

    def kill_with_its_guard(self) -> None:
        """SIGKILL to the script and all its helpers, the guard first, as Slurm does by cgroups; the runner goes on."""
        mine = [pid for pid, line in self.processes().items() if "script-" in line and pid != self.process.pid]
        for pid in [*mine, self.process.pid]:
            os.kill(pid, signal.SIGKILL)
        self.wait()

    def signal_all(self, number: signal.Signals) -> None:
        """To every process of the job, as some ways of Slurm's tracking do."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def processes(self) -> dict[int, str]:
        """Live processes of the job by their environment: process id to command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if f"SLURM_CLUSTER_NAME={self.cluster}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
        return found

    def until(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not in {seconds} s; the output so far:\n{self.output}"
            time.sleep(0.02)

    def until_said(self, text: str, seconds: float = 15) -> None:
        self.until(lambda: text in self.output, seconds)


class Bench:
    """Directories, and a way to start scripts."""

    def __init__(self, directory: Path, desk: ScriptedDesk, url: str) -> None:
        self.directory = directory
        self.desk = desk
        self.url = url
        self.node_dir = directory / "n"
        self.node_dir.mkdir()
        self.runner_dir = directory / "actions-runner"
        self.home = directory / "home"
        self.home.mkdir()
        self.cluster = f"bench{secrets.token_hex(4)}"
        self.secret = secrets.token_urlsafe(32)
        self.desk.answers = [self.desk.grant()]
        self.conf = directory / "slurm.conf"
        self.conf.write_text("ClusterName=x\nkillwait = 3 # seconds\n")
        self._started: list[Started] = []
        self.install_runner(QUICK)

    def install_runner(self, listener: str, run: str = RUNNER) -> None:
        """What runner_dir holds: ``listener`` is a piece of bash."""
        for name in ("bin", "externals/node20"):
            (self.runner_dir / name).mkdir(parents=True, exist_ok=True)
        (self.runner_dir / "externals/node20/node").write_text("large\n")
        (self.runner_dir / "run.sh").write_text(run)
        (self.runner_dir / "run.sh").chmod(0o755)
        (self.runner_dir / "bin/listener").write_text(listener)

    def values(self, **changes: object) -> ScriptValues:
        """The script's values, but for ``changes``."""
        given: dict[str, object] = {
            "name": "sg-test-small-x1",
            "handover": Handover.CLAIM,
            "runner_dir": str(self.runner_dir),
            "node_dir": str(self.node_dir),
            "node_url": self.url,
            "secret": Secret(self.secret),
            **changes,
        }
        return ScriptValues(**given)  # type: ignore[arg-type]

    def start(
        self,
        values: ScriptValues | None = None,
        *,
        job_id: int | None = None,
        stdin: Path | None = None,
        environment: dict[str, str | None] | None = None,
    ) -> Started:
        """Run the script as slurmstepd does: a file of the user's, in a session of its own."""
        number = job_id or random.randrange(10**8, 10**9)
        script = self.directory / f"script-{number}-{len(self._started)}"
        script.write_text(batch_script(values or self.values()))
        script.chmod(0o700)
        output = script.with_suffix(".out")
        given: dict[str, str | None] = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "SLURM_JOB_ID": str(number),
            "SLURM_CLUSTER_NAME": self.cluster,
            "SLURM_CONF": str(self.conf),
            "SLURM_JOB_PARTITION": "ci",
            "SLURMD_NODENAME": "n1",
            **(environment or {}),
        }
        exact = {name: value for name, value in given.items() if value is not None}
        with output.open("wb") as out, (stdin or Path(os.devnull)).open("rb") as source:
            process = subprocess.Popen(
                # A test run in the background of a shell has SIGINT ignored; Slurm's jobs have not.
                ["/usr/bin/env", "--default-signal=INT,QUIT,TERM,PIPE", str(script)],
                stdin=source,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=exact,
                cwd="/tmp",
                start_new_session=True,
            )
        started = Started(process, number, self.node_dir / f"sg-{number}", output, self.cluster)
        self._started.append(started)
        return started

    def run(self, values: ScriptValues | None = None, **options: object) -> Started:
        """Start, and wait for the end."""
        started = self.start(values, **options)  # type: ignore[arg-type]
        started.wait()
        return started

    def nothing_left(self) -> bool:
        """No job directory, and no process, of any job of this bench."""
        live = {pid for started in self._started for pid in started.processes()}
        return not list(self.node_dir.iterdir()) and not live

    def close(self) -> None:
        """End what is left of all that was started."""
        for started in self._started:
            started.signal_all(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.process.wait(5)


@contextlib.contextmanager
def open_bench(directory: Path) -> Iterator[Bench]:
    """A bench with a service; nothing that it started outlives it."""
    desk = ScriptedDesk()
    with service(desk) as url:
        bench = Bench(directory, desk, url)
        try:
            yield bench
        finally:
            bench.close()
