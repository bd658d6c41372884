"""The stand-in runner as real processes against the simulator behind a real server: real steps, signals, exit codes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn

from slurm_gha.domain.clock import SystemClock
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.runner_routes import routes
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob
from slurm_gha.testing.runner import directory, processes

LABELS = ("self-hosted", "x")
WORKFLOW = """
name: Build
on: push
env: {TOP: top}
jobs:
  make:
    runs-on: [self-hosted, x]
    strategy:
      fail-fast: false
      matrix: {n: [1, 2], o: [{k: "it's"}]}
    env: {N: "n=${{ matrix.n }}"}
    outputs: {made: "${{ steps.make.outputs.what }}", hidden: "${{ steps.last.outputs.hidden }}"}
    steps:
      - uses: actions/checkout@v4
      - id: make
        run: |
          echo "what=thing" >> "$GITHUB_OUTPUT"
          echo "$N $TOP ${{ matrix.o.k }} $RUNNER_NAME ${{ runner.name }} ${{ github.repository }} {braces}"
          pwd -P; cat README.md
          echo EV=from-env >> "$GITHUB_ENV"; echo "# summary" >> "$GITHUB_STEP_SUMMARY"
      - uses: ./greet
        with: {who: "number ${{ matrix.n }}"}
      - run: echo "EV is $EV"; exit 3
        continue-on-error: true
      - run: echo never
        if: failure()
      - id: last
        name: in a folder
        working-directory: folder
        run: |
          pwd; echo "::add-mask::s3kr1t"; echo "hidden=s3kr1t" >> "$GITHUB_OUTPUT"; echo "is s3kr1t ${{ github.token }}"
  use:
    needs: make
    runs-on: [self-hosted, x]
    steps:
      - run: echo "got ${{ needs.make.outputs.made }}"; exit 5
      - run: echo not reached
      - run: echo cleaning up
        if: always() && needs.make.result == 'success'
  after:
    needs: use
    if: always()
    runs-on: [self-hosted, x]
    steps: [{run: "echo use was ${{ needs.use.result }}"}]
"""
GREET = """
name: greet
inputs: {who: {default: nobody}}
runs:
  using: composite
  steps: [{run: 'echo "hello ${{ inputs.who }}"', shell: bash}]
"""
SLEEPING = """
on: push
jobs:
  sleep:
    runs-on: [self-hosted, x]
    steps:
      - run: |
          trap 'echo interrupted; exit 1' INT
          touch "$RUNNER_WORKSPACE/started"
          sleep 61 & wait $!
      - run: echo unreachable
      - run: echo told to stop
        if: cancelled()
"""
FILES = {"README.md": "read me\n", "greet/action.yml": GREET, "folder/x": ""}


class Site:
    """A simulated GitHub behind a real server, and runner directories to start."""

    def __init__(self, github: GitHub, tmp: Path) -> None:
        self.github, self._tmp = github, tmp

    def start(self, name: str = "r1", *, jit: str | None = None, **environment: str) -> Runner:
        root = self._tmp / name
        directory.build(root)
        if jit is None:
            jit = self.github.mint_runner("repos/octo/app", name, LABELS)[1]
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        given = {**kept, "RUNNER_ALLOW_RUNASROOT": "1", "ACTIONS_RUNNER_INPUT_JITCONFIG": jit, **environment}
        return Runner(root, {key: value for key, value in given.items() if value})

    def job(self, key: str) -> SimJob:
        return next(job for job in self.github.jobs.values() if job.key == key)


class Runner:
    """One run.sh and what it prints."""

    def __init__(self, root: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self.root = root
        self.output = root.with_suffix(".out")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [root / "run.sh", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text()

    async def ended(self, seconds: float = 30) -> int:
        await until(lambda: self.process.poll() is not None, seconds, self.text)
        assert self.process.returncode is not None
        return self.process.returncode

    async def says(self, text: str, seconds: float = 30) -> None:
        await until(lambda: text in self.text(), seconds, self.text)

    def kill(self) -> None:
        processes.send([*processes.descendants(self.process.pid), self.process.pid], signal.SIGKILL)
        self.process.wait()


async def until(condition: Callable[[], bool], seconds: float, text: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s; so far: {text()}"
        await anyio.sleep(0.05)


@asynccontextmanager
async def site(tmp: Path, workflow: str, **options: Any) -> AsyncIterator[Site]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    github = GitHub(SystemClock(), url=f"http://127.0.0.1:{listening.getsockname()[1]}")
    github.add_repository("octo/app", {".github/workflows/b.yml": workflow, **FILES})
    github.add_token("all", name="all")
    app = create_app(github, extra_routes=routes(github, **options), in_process=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listening])
        try:
            yield Site(github, tmp)
        finally:
            server.should_exit = True


def run(test: Callable[[], Awaitable[None]]) -> None:
    anyio.run(test)


@pytest.mark.slow
def test_a_whole_workflow_with_real_steps(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, WORKFLOW) as here:
            (workflow_run,) = here.github.push("octo/app")
            first = [here.start("r1"), here.start("r2")]
            assert [await runner.ended() for runner in first] == [0, 0]
            for name in ("r3", "r4"):
                assert await here.start(name).ended() == 0
            jobs = {job.name: job for job in here.github.jobs.values()}
            assert {name: job.conclusion for name, job in jobs.items()} == {
                "make (1, it's)": "success",
                "make (2, it's)": "success",
                "use": "failure",
                "after": "success",
            }
            assert workflow_run.conclusion == "failure"
            assert not here.github.runners
            made = jobs["make (1, it's)"]
            assert made.outputs == {"made": "thing"}
            assert [(step["name"], step["conclusion"]) for step in made.steps] == [
                ("Set up job", "success"),
                ("Run actions/checkout@v4", "success"),
                ('Run echo "what=thing" >> "$GITHUB_OUTPUT"', "success"),
                ("Run ./greet", "success"),
                ('Run echo "EV is $EV"; exit 3', "success"),
                ("Run echo never", "skipped"),
                ("in a folder", "success"),
                ("Complete job", "success"),
            ]
            who = made.runner_name
            work = tmp_path / str(who) / "_work"
            for line in (
                f"n=1 top it's {who} {who} octo/app {{braces}}",
                f"{work}/app/app",
                "read me",
                "hello number 1",
                "EV is from-env",
                f"{work}/app/app/folder",
                "is *** ***",
            ):
                assert f"Z {line}\n" in made.log
            assert "s3kr1t" not in made.log.replace("add-mask::s3kr1t", "").replace("hidden=s3kr1t", "").replace(
                'is s3kr1t ${{ github.token }}"', ""
            )
            assert "Process completed with exit code 5." in jobs["use"].log
            assert "Z got thing\n" in jobs["use"].log
            assert "Z cleaning up\n" in jobs["use"].log
            assert "Z use was failure\n" in jobs["after"].log
            assert f"Job {made.name} completed with result: Succeeded" in first[who == "r2"].text()
            assert "√ Connected to GitHub" in first[0].text()
            assert "Listening for Jobs" in first[0].text()
            for name in (".runner", ".credentials", ".credentials_rsaparams"):
                assert stat.S_IMODE((tmp_path / "r1" / name).stat().st_mode) == 0o600
            assert not (work / "_temp").exists()
            assert list((tmp_path / "r1" / "_diag").iterdir())
            async with httpx2.AsyncClient(headers={"Authorization": "Bearer all"}) as client:
                url = f"{here.github.url}/repos/octo/app/actions/jobs/{made.id}/logs"
                assert (await client.get(url, follow_redirects=True)).text == made.log

    run(test)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_job_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    async def test() -> None:
        async with site(tmp_path, SLEEPING) as here:
            here.github.push("octo/app")
            runner = here.start(RUNNER_MANUALLY_TRAP_SIG="1")
            await until((tmp_path / "r1" / "_work" / "app" / "started").exists, 30, runner.text)
            below = processes.descendants(runner.process.pid)
            runner.process.send_signal(number)
            assert await runner.ended() == 128 + number
            job = here.job("sleep")
            assert (job.status, job.conclusion) == ("completed", "cancelled")
            assert not here.github.sessions
            assert not here.github.runners
            assert "Z interrupted\n" in job.log
            assert "Z told to stop\n" in job.log
            assert "Z unreachable" not in job.log
            assert [step["conclusion"] for step in job.steps][1:4] == ["cancelled", "skipped", "success"]
            assert "completed with result: Canceled" in runner.text()
            assert not [pid for pid in below if processes.alive(pid)]

    run(test)


@pytest.mark.slow
def test_a_cancellation_on_github_stops_the_steps(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, SLEEPING) as here:
            here.github.push("octo/app")
            runner = here.start()
            await until((tmp_path / "r1" / "_work" / "app" / "started").exists, 30, runner.text)
            here.github.cancel_job(here.job("sleep").id)
            assert await runner.ended() == 0
            assert here.job("sleep").conclusion == "cancelled"

    run(test)


@pytest.mark.slow
def test_no_step_can_read_the_runners_secrets(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, SLEEPING) as here:
            here.github.push("octo/app")
            jit = here.github.mint_runner("repos/octo/app", "r1", LABELS)[1]
            runner = here.start(jit=jit)
            try:
                await until((tmp_path / "r1" / "_work" / "app" / "started").exists, 30, runner.text)
                looked_at = 0
                for pid in processes.descendants(runner.process.pid):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"Runner.Listener" in command or b"slurm_gha.testing.runner.main" in command:
                        assert jit.encode() not in command
                        continue
                    shown = command + Path(f"/proc/{pid}/environ").read_bytes()
                    assert jit.encode()[:40] not in shown
                    assert b"JITCONFIG" not in shown
                    assert b"eyJhbGciOi" not in shown  # how every signed token begins
                    looked_at += 1
                assert looked_at >= 3  # act, the step's shell, its sleep
                for path in (tmp_path / "r1" / "_work" / "_temp").rglob("*"):
                    assert path.is_dir() or b"eyJhbGciOi" not in path.read_bytes() or path.stat().st_mode & 0o77 == 0
                diagnostics = "".join(path.read_text() for path in (tmp_path / "r1" / "_diag").iterdir())
                assert jit[:40] not in diagnostics + runner.text()
            finally:
                runner.kill()

    run(test)


@pytest.mark.slow
def test_hooks_run_around_the_job_and_a_failing_one_fails_it(tmp_path: Path) -> None:
    hooks = {}
    for name, text in (
        ("STARTED", "echo hook began; echo A=b >> $GITHUB_ENV"),
        ("COMPLETED", "echo hook ended $A; exit 9"),
    ):
        path = tmp_path / f"{name}.sh"
        path.write_text(text)
        hooks[f"ACTIONS_RUNNER_HOOK_JOB_{name}"] = str(path)

    async def test() -> None:
        async with site(tmp_path, "on: push\njobs: {a: {runs-on: x, steps: [{run: echo job}]}}") as here:
            here.github.push("octo/app")
            assert await here.start(**hooks).ended() == 0
            job = here.job("a")
            assert job.conclusion == "failure"
            said = [line.split("Z ", 1)[1] for line in job.log.splitlines()]
            assert said.index("hook began") < said.index("job") < said.index("hook ended b")
            assert [step["name"] for step in job.steps][1:4] == ["Set up runner", "Run echo job", "Complete runner"]

    run(test)


@pytest.mark.slow
def test_a_failed_hook_alone_lets_steps_run_that_always_do_but_not_one_that_ends_the_worker(tmp_path: Path) -> None:
    """As in actions/runner, where the process that runs the steps is called Runner.Worker."""
    workflow = "on: push\njobs: {a: {runs-on: x, steps: [{if: always(), run: echo job}]}}"
    by_name = (
        "for stat in /proc/[0-9]*/stat; do read -r pid name _ < $stat; [ $name = '(Runner.Worker)' ] && echo $pid; done"
    )

    async def ran(where: Path, text: str) -> bool:
        path = tmp_path / "started.sh"
        path.write_text(text)
        async with site(where, workflow) as here:
            here.github.push("octo/app")
            assert await here.start(ACTIONS_RUNNER_HOOK_JOB_STARTED=str(path)).ended() == 0
            said = [line.split("Z ", 1)[1] for line in here.job("a").log.splitlines()]
            assert here.job("a").conclusion == "failure"
            assert "no entry" in said
            return "job" in said

    async def test() -> None:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        assert await ran(tmp_path / "one", "echo no entry; exit 1")
        assert not await ran(tmp_path / "two", f"echo no entry; sleep 1; kill -KILL $({by_name}); sleep 5")

    run(test)


@pytest.mark.slow
def test_the_whole_output_of_a_failing_step_is_logged(tmp_path: Path) -> None:
    workflow = "on: push\njobs: {a: {runs-on: x, steps: [{run: 'seq 1 3000; printf last; exit 4'}]}}"

    async def test() -> None:
        async with site(tmp_path, workflow) as here:
            here.github.push("octo/app")
            assert await here.start().ended() == 0
            said = [line.split("Z ", 1)[1] for line in here.job("a").log.splitlines()]
            assert said[-3002:] == [
                *(str(number) for number in range(1, 3001)),
                "last",
                "##[error]Process completed with exit code 4.",
            ]

    run(test)


@pytest.mark.slow
def test_a_job_leaves_no_process_behind(tmp_path: Path) -> None:
    left_behind = "setsid sleep 62 > /dev/null 2>&1 & echo $! > $RUNNER_WORKSPACE/pid; sleep 0.5"
    workflow = f"on: push\njobs: {{a: {{runs-on: x, steps: [{{run: '{left_behind}'}}]}}}}"

    async def test() -> None:
        async with site(tmp_path, workflow) as here:
            here.github.push("octo/app")
            assert await here.start().ended() == 0
            assert here.job("a").conclusion == "success"
            left = int((tmp_path / "r1" / "_work" / "app" / "pid").read_text())
            assert not processes.alive(left)
            assert "orphan" in here.job("a").log

    run(test)


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "code"), [("1", 7), ("", 0)])
def test_a_deprecated_version_shows_in_the_exit_code_if_asked_for(tmp_path: Path, wanted: str, code: int) -> None:
    async def test() -> None:
        async with site(tmp_path, SLEEPING, minimum_runner_version="99.0.0") as here:
            runner = here.start(ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=wanted)
            assert await runner.ended() == code
            assert "deprecated" in runner.text()
            assert "code 7" in runner.text()

    run(test)


@pytest.mark.slow
def test_a_second_runner_of_one_registration_gives_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, SLEEPING) as here:
            jit = here.github.mint_runner("repos/octo/app", "r1", LABELS)[1]
            first = here.start("r1", jit=jit)
            await first.says("Listening for Jobs")
            second = here.start("r2", jit=jit, STAND_IN_CONFLICT_SECONDS="0.2")
            assert await second.ended() == 0
            assert "already exists" in second.text()
            assert "code 5" in second.text()
            first.process.send_signal(signal.SIGTERM)  # without the trap, it ends run.sh and not the listener
            await first.ended()
            (listener,) = processes.marked(f"ACTIONS_RUNNER_INPUT_JITCONFIG={jit}")
            processes.send([listener], signal.SIGINT)
            await until(lambda: not here.github.sessions, 15, first.text)

    run(test)


@pytest.mark.slow
def test_what_cannot_work_says_so_and_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with site(tmp_path, SLEEPING) as here:
            bad = here.start("bad", jit="bm9uc2Vuc2U=")
            assert await bad.ended() == 0
            assert "JIT configuration" in bad.text()
            assert "bm9uc2Vuc2U" not in bad.text()
            assert "code 1" in bad.text()
            removed, jit = here.github.mint_runner("repos/octo/app", "gone", LABELS)
            here.github.remove_runner(removed.id)
            gone = here.start("gone", jit=jit)
            assert await gone.ended() == 0
            assert "not found" in gone.text()
            assert "code 1" in gone.text()
            none = here.start("none", ACTIONS_RUNNER_INPUT_JITCONFIG="")
            assert await none.ended() == 0
            assert "Not configured" in none.text()

    run(test)


def test_root_is_refused_unless_allowed(tmp_path: Path) -> None:
    directory.build(tmp_path / "r")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "id").write_text("#!/bin/sh\necho 0\n")
    (tmp_path / "bin" / "id").chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run([tmp_path / "r" / "run.sh"], env=environment, capture_output=True, text=True, check=True)
    assert "root" in done.stderr
    assert "code" not in done.stdout


@pytest.mark.slow
def test_a_directory_that_carries_its_packages_needs_nothing_but_python(tmp_path: Path) -> None:
    """It is moved, its externals are a link to elsewhere, and no Python of this checkout is on the PATH."""
    made, root = tmp_path / "made", tmp_path / "elsewhere" / "runner"
    directory.build(made, carried=True)
    root.mkdir(parents=True)
    for name in ("run.sh", "bin"):
        (made / name).rename(root / name)
    (root / "externals").symlink_to(made / "externals")
    python = tmp_path / "path" / "python3"
    python.parent.mkdir()
    python.symlink_to(sys._base_executable)  # type: ignore[attr-defined]  # not that of the virtual environment
    workflow = "on: push\njobs: {a: {runs-on: x, steps: [{run: env}]}}"

    async def test() -> None:
        async with site(tmp_path, workflow) as here:
            here.github.push("octo/app")
            jit = here.github.mint_runner("repos/octo/app", "r1", LABELS)[1]
            allowed = {"RUNNER_ALLOW_RUNASROOT": "1", "ACTIONS_RUNNER_INPUT_JITCONFIG": jit}
            runner = Runner(root, {"PATH": f"{python.parent}:/usr/bin:/bin", **allowed})
            await runner.ended()
            job = here.job("a")
            assert job.conclusion == "success", runner.text() + job.log
            assert "PYTHON" not in job.log
            assert f"RUNNER_WORKSPACE={root}/_work/app" in job.log
            assert not list(made.rglob("__pycache__"))

    run(test)


def test_a_directory_that_carries_its_packages_holds_no_more_than_it_needs(tmp_path: Path) -> None:
    directory.build(tmp_path / "runner", carried=True)
    packages = {path.name for path in (tmp_path / "runner" / "externals" / "python").iterdir()}
    assert packages >= {"anyio", "cryptography", "httpx2", "slurm_gha"}
    assert not packages & {"pytest", "_pytest", "pip", "setuptools", "rich", "starlette"}
    assert (tmp_path / "runner" / "externals" / "bin" / "act").stat().st_mode & 0o111
    assert not [path for path in (tmp_path / "runner").rglob("*") if path.suffix in (".pyc", ".pyi")]


def test_a_python_that_will_not_do_is_refused_in_a_sentence(tmp_path: Path) -> None:
    directory.build(tmp_path / "runner", carried=True)
    listener = tmp_path / "runner" / "bin" / "Runner.Listener"
    listener.write_text(listener.read_text().replace(f" {sys.version_info.major}.{sys.version_info.minor} ", " 3.2 "))
    done = subprocess.run([listener, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("This runner was made for Python 3.2, and ")
    directory.build(tmp_path / "other", python="python-none", carried=True)
    done = subprocess.run([tmp_path / "other" / "bin" / "Runner.Listener"], capture_output=True, text=True, check=False)
    assert (done.returncode, "There is no python-none here." in done.stderr) == (1, True)


def test_the_directory_looks_like_an_unpacked_runner(tmp_path: Path) -> None:
    directory.build(tmp_path / "runner")
    names = {str(path.relative_to(tmp_path / "runner")) for path in (tmp_path / "runner").rglob("*")}
    assert names == {"run.sh", "config.sh", "bin", "bin/Runner.Listener", "externals"}
    listener = tmp_path / "runner" / "bin" / "Runner.Listener"
    shown = subprocess.run([listener, "--version"], capture_output=True, text=True, check=True).stdout
    assert [part.isdigit() for part in shown.strip().split(".")] == [True, True, True]
