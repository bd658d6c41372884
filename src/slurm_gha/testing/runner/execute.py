"""A job's real steps, run by act on this machine, or in a container if the job asks for one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import anyio
from anyio.streams.text import TextReceiveStream

from slurm_gha.domain.clock import Clock
from slurm_gha.testing.github.errors import WorkflowError
from slurm_gha.testing.runner import docker, processes, workflow
from slurm_gha.testing.runner.actlog import JobLog, StepState
from slurm_gha.testing.runner.containers import ContainerError
from slurm_gha.testing.runner.template import plain

AFTER_CANCEL_SECONDS = 20.0
TRACKING = "RUNNER_TRACKING_ID"
Fetch = Callable[[str], Awaitable[bytes]]


class ActMissingError(Exception):
    """There is no act to run steps with."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the runner stands: its name, work folder, the environment that steps inherit, and programs it brings."""

    runner_name: str
    work: Path
    environment: Mapping[str, str]
    programs: Path | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """How a job went: a TaskResult's word, its outputs, its steps in order, and the whole log."""

    result: str
    outputs: Mapping[str, str]
    steps: tuple[StepState, ...]
    log: str


def find_act(programs: Path | None = None) -> str:
    """act among the runner's own programs, beside this Python, or on the PATH."""
    places = [folder / "act" for folder in (programs, Path(sys.executable).parent) if folder is not None]
    found = next((str(place) for place in places if place.is_file()), None) or shutil.which("act")
    if found is None:
        raise ActMissingError("act is not installed: pip install 'slurm-gha[testing]' brings it")
    return found


class JobExecution:
    """One job on this machine. ``cancel`` may be called at any time; ``run`` then returns soon, with ``canceled``."""

    def __init__(self, message: Mapping[str, Any], machine: Machine, clock: Clock) -> None:
        self._message, self._machine, self._clock = message, machine, clock
        github = plain(message["contextData"]["github"])
        self._github: Mapping[str, Any] = github
        name = str(github["repository"]).rpartition("/")[2]
        self._workspace = machine.work / _safe(name) / _safe(name)
        self._temp = machine.work / "_temp"
        self._hold = self._temp / "files" / "hold.sh"
        self._cancel = anyio.Event()
        self._mark = f"github_{secrets.token_hex(16)}"
        self._docker_mark = secrets.token_hex(8)

    def cancel(self) -> None:
        """Stop: steps are interrupted; those with ``always()`` or ``cancelled()`` still run."""
        self._cancel.set()

    async def run(self, fetch: Fetch, on_steps: Callable[[list[StepState]], None]) -> Execution:
        """Run all steps. ``fetch`` gives a repository's tarball; ``on_steps`` hears when one begins or ends."""
        program = find_act(self._machine.programs)
        shutil.rmtree(self._temp, ignore_errors=True)
        files = self._temp / "files"
        for folder in (self._workspace, files, self._temp / "home"):
            folder.mkdir(parents=True, exist_ok=True)
        self._temp.chmod(0o700)
        files.chmod(0o777)  # a container's user may be another; others cannot come here
        for name in ("hold.sh", "services.sh", "docker_step.sh"):
            text = resources.files("slurm_gha.testing.runner").joinpath(name).read_text()
            (files / name).write_text(text)
        act = _as_worker(program, self._temp)
        try:
            archives = await self._archives(fetch)
            return await self._run(act, files, archives, on_steps)
        finally:
            shutil.rmtree(self._temp, ignore_errors=True)

    async def _archives(self, fetch: Fetch) -> dict[str, str]:
        archives: dict[str, str] = {}
        for number, repository in enumerate(workflow.checkouts(self._message)):
            path = self._temp / "files" / f"archive.{number}.tar.gz"
            path.write_bytes(await fetch(repository))
            archives[repository] = str(path)
        return archives

    async def _run(
        self, act: str, files: Path, archives: Mapping[str, str], on_steps: Callable[[list[StepState]], None]
    ) -> Execution:
        environment = self._machine.environment
        places = workflow.Places(
            workspace=str(self._workspace),
            files=str(files),
            archives=archives,
            hold=str(self._hold),
            services=str(files / "services.sh"),
            docker_step=str(files / "docker_step.sh"),
            mark=self._docker_mark,
            machine=tuple(environment),
            hook_started=environment.get("ACTIONS_RUNNER_HOOK_JOB_STARTED") or None,
            hook_completed=environment.get("ACTIONS_RUNNER_HOOK_JOB_COMPLETED") or None,
        )
        constants = {"runner": {"name": self._machine.runner_name, "environment": "self-hosted"}}
        hidden = self._secrets()
        try:
            plan = workflow.plan(self._message, places, constants)
        except (ContainerError, WorkflowError) as error:
            log = JobLog((), tuple(hidden.values()))
            log.write(self._clock.now(), f"##[error]{error}")
            return Execution("failed", {}, (), log.text())
        log = JobLog(plan.steps, tuple(hidden.values()))
        log.write(self._clock.now(), f"Runner name: '{self._machine.runner_name}'\nJob is about to start running.")
        daemon: docker.Daemon | None = None
        if plan.docker:
            try:
                daemon = docker.find(environment)
                await daemon.check()
            except docker.NoDockerError as error:
                log.write(self._clock.now(), f"##[error]This job needs Docker for its containers, and {error}.")
                return self._conclude(plan, log, files)
        argv = self._write(act, plan, hidden, daemon)
        started = dict(environment)
        for name in ("ACTIONS_RUNNER_HOOK_JOB_STARTED", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED"):
            started.pop(name, None)
        # act keeps its own things in a home of its own; steps get the real one back through the environment file.
        mark = self._mark
        started.update({"HOME": str(self._temp / "home"), TRACKING: mark, "ACT_DISABLE_VERSION_CHECK": "1"})
        try:
            await self._act(argv, started, log, on_steps)
        finally:
            if daemon is not None:
                with anyio.CancelScope(shield=True):
                    await daemon.remove(self._docker_mark)
        left = await processes.kill_marked(f"{TRACKING}={mark}")
        if left:
            log.write(self._clock.now(), f"Cleaning up orphan processes: {left} terminated")
        return self._conclude(plan, log, files)

    def _conclude(self, plan: workflow.Plan, log: JobLog, files: Path) -> Execution:
        cancelled = self._cancel.is_set()
        log.settle(self._clock.now(), _collected(files / "steps"), cancelled=cancelled)
        outputs: dict[str, str] = {}
        for number, name in enumerate(plan.outputs):
            path = files / f"output.{number}"
            value = path.read_text(errors="replace") if path.exists() else ""
            if log.masked(value) != value:
                log.write(self._clock.now(), f"##[warning]Skip output '{name}' since it may contain secret.")
                continue
            outputs[name] = value
        result = "canceled" if cancelled else log.result or "failed"
        return Execution(result, outputs, tuple(log.steps), log.text())

    async def _act(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        log: JobLog,
        on_steps: Callable[[list[StepState]], None],
    ) -> None:
        process = await anyio.open_process(
            argv,
            env=environment,
            cwd=self._workspace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, process.pid)
                assert process.stdout is not None
                async for line in _lines(TextReceiveStream(process.stdout, errors="replace")):
                    if log.feed(self._clock.now(), line):
                        on_steps(log.steps)
                    while log.drained:
                        _answer(self._hold.with_suffix(f".{log.drained.pop()}"))
                await process.wait()
                tasks.cancel_scope.cancel()
        finally:
            if process.returncode is None:
                processes.send([*processes.descendants(process.pid), process.pid], signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await process.aclose()

    async def _watch(self, pid: int) -> None:
        """When cancelled: interrupt the running step; what is not over in time after that is killed."""
        await self._cancel.wait()
        await processes.interrupt_tree(pid, self._hold.with_suffix(".cancel"))
        await anyio.sleep(AFTER_CANCEL_SECONDS)
        processes.send([*processes.descendants(pid), pid], signal.SIGKILL)

    def _secrets(self) -> dict[str, str]:
        found = {}
        for name, given in (self._message.get("variables") or {}).items():
            if given.get("isSecret") and given.get("value"):
                found["GITHUB_TOKEN" if name == "system.github.token" else str(name)] = str(given["value"])
        return found

    def _write(
        self, act: str, plan: workflow.Plan, hidden: Mapping[str, str], daemon: docker.Daemon | None
    ) -> list[str]:
        """act's input files, readable by us alone, and its command line, which holds nothing but their names."""
        contents: dict[str, Any] = {
            "workflow.yml": plan.document,
            "event.json": self._github.get("event") or {},
            "environment.yml": self._environment(boxed=plan.boxed),
            "secrets.yml": dict(hidden),
        }
        for name, content in contents.items():
            path = self._temp / name
            path.touch(mode=0o600)
            path.write_text(json.dumps(content))
        where = str(self._temp)
        boxed = ("--bind", "--rm", "--network", "") if plan.boxed else ()
        return [
            *(act, plan.event_name, "-P", f"{workflow.PLATFORM}=-self-hosted", "--no-cache-server", "--json"),
            *("--pull=false", "--action-offline-mode", *boxed),
            *("--container-daemon-socket", "-" if daemon is None else daemon.address),
            *("--action-cache-path", f"{where}/act", "-j", "job", "-W", f"{where}/workflow.yml"),
            *("-e", f"{where}/event.json", "--env-file", f"{where}/environment.yml"),
            *("--secret-file", f"{where}/secrets.yml", "-a", str(self._github.get("actor") or "nobody")),
        ]

    def _environment(self, *, boxed: bool) -> dict[str, str]:
        """What steps find in their environment beyond what act sets: names as GitHub gives them."""
        names = (
            *("repository", "repository_id", "repository_owner", "repository_owner_id", "ref", "ref_name", "ref_type"),
            *("sha", "run_id", "run_number", "run_attempt", "server_url", "api_url", "graphql_url", "workflow_ref"),
            *("workflow_sha", "head_ref", "base_ref", "retention_days", "triggering_actor"),
        )
        found = {f"GITHUB_{name.upper()}": str(self._github.get(name) or "") for name in names}
        found |= {
            "SHA_REF": str(self._github.get("sha") or ""),  # act takes the context's sha from here
            "GITHUB_JOB": str(self._message["jobName"]),
            "RUNNER_NAME": self._machine.runner_name,
            "RUNNER_ENVIRONMENT": "self-hosted",
            "RUNNER_WORKSPACE": str(self._workspace.parent),
            TRACKING: self._mark,
        }
        home = self._machine.environment.get("HOME")
        return found | ({"HOME": home} if home and not boxed else {})


def _as_worker(program: str, folder: Path) -> str:
    """The program by the name that what runs the steps has in actions/runner: hooks know it by that."""
    path = folder / "Runner.Worker"
    path.symlink_to(Path(program).resolve())
    return str(path)


def _answer(fifo: Path) -> None:
    """Let a holder that waits at its pipe go on; one that has gone already needs no answer."""
    with contextlib.suppress(OSError):
        pipe = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        os.write(pipe, b"\n")
        os.close(pipe)


def _safe(name: str) -> str:
    """A repository's name as a folder's: nothing that could lead elsewhere."""
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    return kept if kept.strip(".") else "_"


def _collected(path: Path) -> Mapping[str, Any]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


async def _lines(stream: TextReceiveStream) -> AsyncIterator[str]:
    rest = ""
    async for chunk in stream:
        *whole, rest = (rest + chunk).split("\n")
        for line in whole:
            yield line
    if rest:
        yield rest
