"""Everything on one machine: a real private Slurm, the simulated GitHub, a runner directory and the real service.

Used by the end-to-end tests, the demo and the benchmarks. The service is a process of its own, run as the user of
the private Slurm; the simulated GitHub is served from a thread of this process, so that its state can be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from slurm_gha.domain.clock import SystemClock
from slurm_gha.domain.runner import name_prefix
from slurm_gha.domain.secret import Secret
from slurm_gha.observe.status import Status, StatusError
from slurm_gha.observe.status import read as read_status
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.apps import SimApp, new_key
from slurm_gha.testing.github.faults import Faults
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.runner_routes import routes as runner_routes
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.sending import SenderThread
from slurm_gha.testing.github.serve import serve_in_thread
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.private_slurm import PrivateSlurm, PrivateSlurmError
from slurm_gha.testing.processes import end_processes, processes_of
from slurm_gha.testing.runner import directory

INSTALLATION = "stage"
TOKEN = "ghp_StageTokenThatMustNeverBeSeenAnywhere00"  # noqa: S105 - the simulator's own

APP_PERMISSIONS = {"actions": "read", "administration": "write", "organization_self_hosted_runners": "write"}


class StageError(Exception):
    """The stage, or the service on it, does not do what it should; the text holds the end of the service's log."""


@dataclass(frozen=True, slots=True)
class StagePool:
    """One pool of the stage's configuration; ``slurm`` overrides keys of ``[pool.slurm]``, ``keys`` of ``[[pool]]``."""

    name: str
    labels: Sequence[str]
    cpus: int = 1
    slurm: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)


SMALL = StagePool("small", ("self-hosted", "linux", "small"))
LARGE = StagePool("large", ("self-hosted", "linux", "large"), cpus=2)


class Stage:
    """A context manager. ``slurm`` may be shared between stages; without one, the stage has its own.

    ``owner``: the organisation that is the scope. ``overrides`` go into the configuration's tables, by table.
    ``control_token`` opens the simulated GitHub's control routes; ``routes`` makes further ones, for pages.
    ``sources``: where the service hears of jobs, in the configuration's words; with "webhook", the organisation has a
    hook that points at the service.
    ``app``: the service signs in as a GitHub App that is installed on the organisation; the hook is the App's then.
    ``listening``: a socket by which runners reach GitHub where they do not see this machine's loopback interface.
    """

    def __init__(
        self,
        *,
        slurm: PrivateSlurm | None = None,
        pools: Sequence[StagePool] = (SMALL, LARGE),
        behaviour: Behaviour | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        owner: str = "lab",
        installation: str = INSTALLATION,
        control_token: Secret | None = None,
        routes: Callable[[GitHub], Sequence[BaseRoute]] | None = None,
        listening: socket.socket | None = None,
        sources: Sequence[str] = ("poll",),
        app: bool = False,
    ) -> None:
        self.sources = tuple(sources)
        self._as_app = app
        self.app: SimApp | None = None
        self._listening = listening
        self._shared = slurm
        self._control_token = control_token
        self._routes = routes
        self.pools = list(pools)
        self.owner = owner
        self.installation = installation
        self.overrides = {name: dict(table) for name, table in (overrides or {}).items()}
        self._behaviour = behaviour
        self._stack = ExitStack()
        self.clock = SystemClock()
        self.service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Stage:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop_service()
        finally:
            # A Slurm that is down, or jobs that will not end, are what the test was about, or the cluster's to end.
            with suppress(PrivateSlurmError, StageError, subprocess.TimeoutExpired):
                self._end_runners()
            self._close(error)

    def _close(self, error: BaseException | None) -> None:
        """What goes wrong at the end is told beside what went wrong before, not in its place."""
        try:
            self._stack.close()
        except (RuntimeError, PrivateSlurmError) as trouble:
            if error is None:
                raise
            error.add_note(f"afterwards: {trouble}")

    def _end_runners(self) -> None:
        """Runners that are still there end now: what they write would outlast the removal of their directories."""
        if names := self.live_slurm_jobs():
            for name in names:  # scancel takes one name at a time, and is silent about a list
                self.slurm.run("scancel", f"--name={name}", check=False)
            self.until(lambda: not self.live_slurm_jobs(), 15, "all runners have ended")
        end_processes(processes_of([str(self.node_dir)]))

    def _set_up(self) -> None:
        self.slurm = self._shared or self._stack.enter_context(PrivateSlurm(nodes=2, cpus=4))
        served = self._stack.enter_context(serve_in_thread(self._make_github, self._listening))
        self.url = served.url
        self.base = Path(self.slurm.home) / f"stage-{os.urandom(4).hex()}"
        # Short, as a site would choose it: unix sockets have to fit below.
        self.node_dir = Path(tempfile.mkdtemp(prefix="sgn-", dir="/tmp"))
        for path in (self.base, self.state_dir, self.output_dir, self.handover_dir):
            path.mkdir(mode=0o700)
        for path in (self.base, self.state_dir, self.output_dir, self.handover_dir, self.node_dir):
            os.chown(path, self.slurm.uid, self.slurm.gid)
            self._stack.callback(shutil.rmtree, path, ignore_errors=True)
        self._must_be_able_to_run()
        self.runner_dir = self.base / "actions-runner"
        directory.build(self.runner_dir)
        self.token_file = self.base / "token"
        self.write_secret(self.token_file, TOKEN + "\n")
        if self._as_app:
            self._set_up_app()
        self.port = free_port()
        if "webhook" in self.sources:
            self._set_up_webhook()
        self.write_config()

    def _set_up_webhook(self) -> None:
        """The organisation's or the App's hook, which is told over real sockets, and its secret."""
        secret = os.urandom(20).hex()
        self.write_secret(self.webhook_secret_file, secret + "\n")
        owner = f"orgs/{self.owner}" if self.app is None else f"app/{self.app.id}"
        hooks = self.github.hooks
        self._stack.enter_context(SenderThread(hooks.outbox, self.clock))
        self.hook = hooks.add(owner, f"http://127.0.0.1:{self.port}/v1/webhooks/lab", secret=secret)

    def _set_up_app(self) -> None:
        """An App on the organisation, with the permissions that the documentation asks for, and its private key."""
        private_key, public_key = new_key()
        apps = self.github.apps
        self.app = apps.add("stage", public_key, owner=self.owner, permissions=APP_PERMISSIONS)
        apps.install(self.app.id, self.owner)
        self.write_secret(self.key_file, private_key)

    def write_secret(self, path: Path, text: str) -> None:
        """A file that the service's user alone may read, from its first moment on; it replaces one of that name."""
        new = path.with_name(f".{path.name}.new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            os.fchown(file.fileno(), self.slurm.uid, self.slurm.gid)
            file.write(text)
        new.replace(path)

    def _must_be_able_to_run(self) -> None:
        """The cluster's user runs the service and the runners: with this Python, from this checkout."""
        probe = self.slurm.as_user([sys.executable, "-P", "-c", "import slurm_gha.service"])
        done = subprocess.run(probe, env=self.slurm.env, cwd=self.base, capture_output=True, check=False)
        if done.returncode != 0:
            raise StageError(
                f"user {self.slurm.user} cannot run {sys.executable} with slurm_gha: put the checkout where everybody "
                f"may read it, not below a private home directory, and run make install again"
            )

    def _make_github(self, url: str) -> Starlette:
        self.github = GitHub(self.clock, url=url, behaviour=self._behaviour)
        self.github.add_organisation(self.owner)
        self.github.add_token(TOKEN)
        self.limits = Limits(self.clock)
        self.faults = Faults(self.clock)
        return create_app(
            self.github,
            faults=self.faults,
            limits=self.limits,
            extra_routes=[*runner_routes(self.github), *(self._routes(self.github) if self._routes else ())],
            control_token=self._control_token,
            in_process=False,
        )

    # Places

    @property
    def state_dir(self) -> Path:
        return self.base / "state"

    @property
    def output_dir(self) -> Path:
        return self.base / "output"

    @property
    def handover_dir(self) -> Path:
        return self.base / "handover"

    @property
    def config(self) -> Path:
        return self.base / "config.toml"

    @property
    def log(self) -> Path:
        return self.base / "service.log"

    @property
    def key_file(self) -> Path:
        return self.base / "app.pem"

    @property
    def webhook_secret_file(self) -> Path:
        return self.base / "webhook-secret"

    # Configuration

    def write_config(self) -> None:
        """Write the configuration from ``pools`` and ``overrides`` (again)."""
        tables: dict[str, dict[str, Any]] = {
            "service": {
                "installation": self.installation,
                "state_dir": str(self.state_dir),
                "listen": f"127.0.0.1:{self.port}",
                "node_url": f"http://127.0.0.1:{self.port}",
                "log_format": "json",
            },
            "poll": {"busy_interval": "1s", "idle_interval": "2s", "linger": "30s"},
            "slurm": {
                "output_dir": str(self.output_dir),
                "handover_dir": str(self.handover_dir),
                "node_dir": str(self.node_dir),
                "interval": "1s",
                "command_timeout": "10s",
                "bin_dir": str(self.slurm.bin_dir),
                "conf": str(self.slurm.conf),
                "signal_before_end": "20s",
            },
            "timeouts": {
                "withdraw_after": "1s",
                "unconfirmed_after": "12s",
                "spent_grace": "3s",
                "retry_after": "2s",
                "reassignment_grace": "2s",
            },
        }
        for name, table in self.overrides.items():
            tables.setdefault(name, {}).update(table)
        lines: list[str] = []
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
        scope: dict[str, Any] = {
            "name": "lab",
            "url": f"https://github.com/{self.owner}",
            "api_url": self.url,
            "sources": list(self.sources),
        }
        if self.app is None:
            scope["token_file"] = str(self.token_file)
        else:
            scope |= {"app_id": self.app.client_id, "private_key_file": str(self.key_file)}
        if "webhook" in self.sources:
            scope["webhook_secret_file"] = str(self.webhook_secret_file)
        lines += ["[[scope]]", *(f"{key} = {_toml(value)}" for key, value in scope.items()), ""]
        for pool in self.pools:
            lines += self._pool_lines(pool)
        self.config.write_text("\n".join(lines))
        self.config.chmod(0o644)

    def _pool_lines(self, pool: StagePool) -> list[str]:
        keys = {"name": pool.name, "labels": list(pool.labels), "runner_dir": str(self.runner_dir), **pool.keys}
        keys = {key: value for key, value in keys.items() if value is not None}
        slurm = {"cpus": pool.cpus, "mem": f"{pool.cpus * 200}M", "time": "10m", "partition": "ci", **pool.slurm}
        return [
            "[[pool]]",
            *(f"{key} = {_toml(value)}" for key, value in keys.items()),
            "[pool.slurm]",
            *(f"{key} = {_toml(value)}" for key, value in slurm.items()),
            "",
        ]

    # The service

    def start_service(self, *, wait: bool = True) -> None:
        """Start ``slurm-gha run`` as the cluster's user; with ``wait``, until it has read Slurm and GitHub."""
        command = [sys.executable, "-m", "slurm_gha", "run", "--config", str(self.config)]
        environment = {**self.slurm.env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        with self.log.open("ab") as log:
            self.service = subprocess.Popen(
                self.slurm.as_user(command),
                env=environment,
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the terminal's ^C reaches us alone
            )
        if wait:
            self.until(self._service_is_ready, 20, "the service is ready")

    def _service_is_ready(self) -> bool:
        if self.service is not None and self.service.poll() is not None:
            raise StageError(f"the service ended with status {self.service.returncode}: {self.log_end()}")
        status = self.status()
        return (
            status is not None
            and self.service is not None
            and status.pid == self.service.pid
            and status.slurm.readable
            and all(scope.readable for scope in status.scopes)
        )

    def stop_service(self, number: int = signal.SIGTERM) -> int | None:
        """Stop the service (SIGKILL for a crash) and wait; its exit status."""
        if self.service is None:
            return None
        if self.service.poll() is None:
            self.service.send_signal(number)
        try:
            return self.service.wait(20)
        except subprocess.TimeoutExpired:
            self.service.kill()
            self.service.wait()
            raise StageError(f"the service did not stop within 20 s: {self.log_end()}") from None
        finally:
            self.service = None

    def status(self) -> Status | None:
        """What the service last said of itself."""
        try:
            return read_status(self.state_dir)
        except StatusError:
            return None

    def log_lines(self) -> list[dict[str, Any]]:
        """The service's log, line by line; lines that are no JSON come as ``{"text": …}``."""
        lines = []
        for line in self.log.read_text().splitlines() if self.log.exists() else []:
            try:
                lines.append(json.loads(line))
            except ValueError:
                lines.append({"text": line})
        return lines

    def log_end(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text().splitlines()[-lines:]) if self.log.exists() else "(no log)"

    # Looking

    def until(self, holds: Callable[[], Any], seconds: float, what: str | Callable[[], str]) -> Any:
        """Wait until ``holds()`` is true and give its value; raises StageError, with ``what``, after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            value = holds()
            if value:
                return value
            if time.monotonic() > deadline:
                awaited = what if isinstance(what, str) else what()
                raise StageError(f"not within {seconds:.0f} s: {awaited}\n{self.log_end()}")
            time.sleep(0.05)

    def slurm_jobs(self) -> dict[str, str]:
        """The state of every Slurm job of this installation that Slurm still lists, by name."""
        listing = self.slurm.run("squeue", "-h", "-t", "all", "-o", "%j|%T")
        pairs = (line.partition("|")[::2] for line in listing.stdout.splitlines())
        return {name: state for name, state in pairs if name.startswith(name_prefix(self.installation))}

    def live_slurm_jobs(self) -> dict[str, str]:
        live = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}
        return {name: state for name, state in self.slurm_jobs().items() if state in live}

    def leftovers(self) -> list[str]:
        """What is left of runners, as sentences: Slurm jobs, registrations, processes, files."""
        left = [f"Slurm job {name} is {state}" for name, state in self.live_slurm_jobs().items()]
        left += [f"registration {runner.name}" for runner in list(self.github.runners.values())]
        for place in (self.node_dir, self.handover_dir):
            left += [f"file {path}/{name}" for path, folders, files in os.walk(place) for name in (*folders, *files)]
        left += [f"process {pid}: {line}" for pid, line in processes_of([str(self.node_dir)]).items()]
        return left


def free_port() -> int:
    """A port that is free now on the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)
