"""The listener of the stand-in runner: ``bin/Runner.Listener run`` of a directory made by :mod:`.directory`.

Exit codes and printed markers are actions/runner's: ``src/Runner.Common/Constants.cs`` and ``src/Runner.Listener``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import anyio
import httpx2

from slurm_gha.domain.clock import SystemClock
from slurm_gha.domain.secret import Secret
from slurm_gha.testing.runner import processes, report
from slurm_gha.testing.runner.execute import ActMissingError, Execution, JobExecution, Machine
from slurm_gha.testing.runner.protocol import (
    VERSION,
    Configuration,
    ConfigurationError,
    JobCancellation,
    JobGoneError,
    JobLease,
    JobOffer,
    ProtocolError,
    RunnerConnection,
    SessionConflictError,
    SessionLostError,
    SignInError,
    VersionDeprecatedError,
)

SUCCESS, TERMINATED, RETRYABLE, SESSION_CONFLICT, VERSION_DEPRECATED = 0, 1, 2, 5, 7
JIT_VARIABLE = "ACTIONS_RUNNER_INPUT_JITCONFIG"
CONFLICT_VARIABLE = "STAND_IN_CONFLICT_SECONDS"
CONFLICT_SECONDS, CONFLICT_INTERVAL = 240.0, 30.0
RENEW_SECONDS, RETRY_SECONDS, FAREWELL_SECONDS = 60.0, 5.0, 10.0
T = TypeVar("T")
_RESULTS = {"succeeded": "Succeeded", "failed": "Failed", "canceled": "Canceled", "skipped": "Skipped"}


def main(argv: list[str]) -> int:
    """``ROOT run [--jitconfig TEXT]`` or ``ROOT --version``; the exit code."""
    root, arguments = Path(argv[0]), argv[1:]
    if "--version" in arguments:
        print(VERSION)
        return SUCCESS
    _load_environment(root)
    jit = os.environ.pop(JIT_VARIABLE, None)
    if "--jitconfig" in arguments[:-1]:
        jit = arguments[arguments.index("--jitconfig") + 1]
    if not jit:
        print("Not configured. Pass --jitconfig, or set " + JIT_VARIABLE + ".", file=sys.stderr)
        return TERMINATED
    try:
        configuration = Configuration.decode(Secret(jit))
        _configure(root, configuration)
    except (ConfigurationError, OSError) as error:
        print(f"An error occurred: {error}", file=sys.stderr)
        return TERMINATED
    return anyio.run(Listener(root, configuration).run)


def _load_environment(root: Path) -> None:
    """``.env`` and ``.path`` of the runner's root, as at every start of the real one."""
    listed = root / ".env"
    if listed.is_file():
        for line in listed.read_text().splitlines():
            name, separator, value = line.partition("=")
            if separator and name.strip():
                os.environ[name.strip()] = value
    path = root / ".path"
    if path.is_file():
        os.environ["PATH"] = path.read_text().strip()


def _configure(root: Path, configuration: Configuration) -> None:
    """Write the configuration's files where the real runner writes them; readable by the owner alone."""
    for name, content in configuration.files.items():
        if name not in (".runner", ".credentials", ".credentials_rsaparams"):
            continue
        path = root / name
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content.reveal())
    for folder in ("_diag", configuration.work_folder):
        (root / folder).mkdir(exist_ok=True, parents=True)


class Listener:
    """One ephemeral runner in one process: online, one job, offline."""

    def __init__(self, root: Path, configuration: Configuration) -> None:
        self._root, self._configuration = root, configuration
        self._clock = SystemClock()
        self._stop = anyio.Event()
        self._code = SUCCESS
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self._diagnostics = root / "_diag" / f"Runner_{stamp}-utc.log"

    def _say(self, text: str, *, timed: bool = True) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        print(f"{now}: {text}" if timed else text, flush=True)
        with self._diagnostics.open("a") as file:
            file.write(f"[{now} INFO Listener] {text}\n")

    async def run(self) -> int:
        """The whole life of the runner; its exit code."""
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

                async def watch() -> None:
                    async for number in signals:
                        if self._stop.is_set():
                            processes.send(processes.descendants(os.getpid()), signal.SIGKILL)
                        self._say("Exiting..." if number is signal.SIGINT else "Terminating...", timed=False)
                        self._stop.set()

                tasks.start_soon(watch)
                # Reading the machine's certificates takes longer than all else here; plain HTTP needs none.
                secure = not self._configuration.broker_url.startswith("http://")
                async with httpx2.AsyncClient(verify=secure) as client:
                    self._code = await self._online(client)
                tasks.cancel_scope.cancel()
        return self._code

    async def _online(self, client: httpx2.AsyncClient) -> int:
        connection = RunnerConnection(client, self._configuration, self._clock)
        code = await self._open(connection)
        if code is not None:
            return code
        self._say("\n√ Connected to GitHub\n", timed=False)
        self._say(f"Current runner version: '{VERSION}'", timed=False)
        self._say("Listening for Jobs")
        try:
            lease = await self._wait_for_job(connection)
            if lease is not None:
                await self._do(client, connection, lease)
        except VersionDeprecatedError as error:
            self._say(f"An error occurred: {error}")
            return VERSION_DEPRECATED
        except (SessionLostError, SignInError) as error:
            self._say(f"An error occurred: {error}")
            return TERMINATED
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(FAREWELL_SECONDS):
                await self._close(connection)
        return SUCCESS

    async def _close(self, connection: RunnerConnection) -> None:
        try:
            await connection.close_session()
        except (ProtocolError, httpx2.HTTPError) as error:
            self._say(f"The session could not be deleted: {error}")

    async def _open(self, connection: RunnerConnection) -> int | None:
        """None when online; otherwise the exit code."""
        limit = float(os.environ.get(CONFLICT_VARIABLE) or CONFLICT_SECONDS)
        began = self._clock.now()
        while True:
            try:
                await self._unless_stopped(connection.open_session)
            except SessionConflictError as error:
                if self._clock.now() - began >= limit:
                    self._say(f"A session for this runner already exists. {error}", timed=False)
                    return SESSION_CONFLICT
                self._say("A session for this runner already exists; trying again.", timed=False)
                await self._pause(min(CONFLICT_INTERVAL, max(0.1, limit)))
            except SignInError as error:
                self._say(f"Failed to create a session. {error}", timed=False)
                return TERMINATED
            except (ProtocolError, httpx2.HTTPError) as error:
                self._say(f"Runner connect error: {error}. Retrying until reconnected.")
                await self._pause(RETRY_SECONDS)
            if connection.session_id is not None:
                return None
            if self._stop.is_set():
                return SUCCESS

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stop.wait()

    async def _unless_stopped(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The call's result; None when a signal came first, which breaks it off."""
        result: T | None = None
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await self._stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                result = await call()
            except (ProtocolError, httpx2.HTTPError) as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    async def _wait_for_job(self, connection: RunnerConnection) -> JobLease | None:
        while not self._stop.is_set():
            try:
                news = await self._unless_stopped(connection.poll)
                if isinstance(news, JobOffer):
                    return await connection.take(news)
            except (VersionDeprecatedError, SessionLostError, SignInError):
                raise
            except JobGoneError as error:
                self._say(f"Skipping message: {error}")
            except (ProtocolError, httpx2.HTTPError) as error:
                self._say(f"Runner connect error: {error}. Retrying until reconnected.")
                await self._pause(RETRY_SECONDS)
        return None

    async def _do(self, client: httpx2.AsyncClient, connection: RunnerConnection, lease: JobLease) -> None:
        """Run the job, keep its lease, listen for a cancellation, and report."""
        self._say(f"Running job: {lease.name}")
        work = self._root / self._configuration.work_folder
        programs = self._root / "externals" / "bin"
        machine = Machine(self._configuration.agent_name, work.resolve(), dict(os.environ), programs)
        execution = JobExecution(lease.message, machine, self._clock)
        reporter = report.Reporter(connection, lease, self._clock)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._renew, connection, lease, execution)
            tasks.start_soon(self._listen, connection, lease, execution)
            tasks.start_soon(self._cancel_when_stopped, execution)
            tasks.start_soon(reporter.keep_up)
            try:
                done = await execution.run(lambda name: report.fetch(client, lease, name), reporter.steps_changed)
            except (ActMissingError, ProtocolError, httpx2.HTTPError, OSError) as error:
                self._say(f"The job could not be run: {error}")
                done = Execution("failed", {}, (), f"##[error]{error}\n")
            tasks.cancel_scope.cancel()
        try:
            await reporter.finish(done)
        except (ProtocolError, httpx2.HTTPError) as error:
            self._say(f"The job's end could not be reported: {error}")
        self._say(f"Job {lease.name} completed with result: {_RESULTS[done.result]}")

    async def _cancel_when_stopped(self, execution: JobExecution) -> None:
        await self._stop.wait()
        execution.cancel()

    async def _renew(self, connection: RunnerConnection, lease: JobLease, execution: JobExecution) -> None:
        until = lease.locked_until
        while True:
            # GitHub's leases last ten minutes; a simulated one's may be shorter than the time between two renewals.
            await self._clock.sleep(min(RENEW_SECONDS, max(1.0, (until - self._clock.now()) / 3)))
            try:
                until = await connection.renew(lease)
            except JobGoneError as error:
                self._say(f"The job's lease is lost: {error}")
                execution.cancel()
                return
            except (ProtocolError, httpx2.HTTPError) as error:
                self._say(f"The job's lease could not be renewed: {error}")

    async def _listen(self, connection: RunnerConnection, lease: JobLease, execution: JobExecution) -> None:
        while True:
            try:
                news = await connection.poll(busy=True)
            except (SessionLostError, SignInError):
                return
            except (ProtocolError, httpx2.HTTPError):
                await self._clock.sleep(RETRY_SECONDS)
                continue
            if isinstance(news, JobCancellation) and news.job_id == lease.job_id:
                self._say("The job is being cancelled.")
                execution.cancel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
