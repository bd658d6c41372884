"""A stage that must be left empty: the production service on a real Slurm, and checks that no test can forget."""

from __future__ import annotations

import json
import secrets
import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from slurm_gha.observe.status import PoolStatus, Status
from slurm_gha.service import JOURNAL_NAME
from slurm_gha.testing.github.values import Run, SimJob
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import Stage, StageError, StagePool

SMALL = ("self-hosted", "small")
Sources = tuple[str, ...]
LONG = "sleep 300"


def job(run: str = "true", labels: Sequence[str] = SMALL, **keys: Any) -> dict[str, Any]:
    """A job of one step, for :func:`workflow`."""
    return {"runs-on": list(labels), "steps": [{"run": run}], **keys}


def workflow(**jobs: Mapping[str, Any]) -> str:
    """A workflow file (JSON is YAML) that a push starts."""
    return json.dumps({"name": "CI", "on": "push", "jobs": jobs})


class Scene(Stage):
    """A stage with an installation of its own, so that what other tests left in Slurm's listing is not its."""

    def __init__(self, slurm: PrivateSlurm, **options: Any) -> None:
        super().__init__(slurm=slurm, installation=f"e{secrets.token_hex(3)}", **options)
        self._fillers: list[str] = []

    # GitHub's side

    def push(self, text: str, repository: str = "lab/demo") -> Run:
        """Push a workflow file; the run that it starts."""
        return self.github.push(repository, files={".github/workflows/ci.yml": text})[0]

    def job(self, run: Run, key: str) -> SimJob:
        return next(each for each in self.github.present_jobs(run) if each.key == key)

    def conclusions(self, run: Run) -> dict[str, str | None]:
        return {each.name: each.conclusion for each in self.github.present_jobs(run)}

    def until_completed(self, run: Run, seconds: float = 60) -> dict[str, str | None]:
        """The conclusions of the run's jobs, once it is over."""
        self.until(lambda: run.status == "completed", seconds, f"the run is over (now {self.conclusions(run)})")
        return self.conclusions(run)

    def until_running(self, run: Run, key: str, seconds: float = 30) -> SimJob:
        """The job, once a runner has it."""
        self.until(lambda: self.job(run, key).status == "in_progress", seconds, f"job {key} is in progress")
        return self.job(run, key)

    # Slurm's side

    def fill_cluster(self) -> None:
        """Occupy every node of the cluster with somebody's job."""
        self._fillers = [self.submit_filler() for _ in self.slurm.node_names]
        self.until(self._filled, 20, "the cluster is full")

    def submit_filler(self, *options: str) -> str:
        """Submit somebody's job that wants a whole node; its id."""
        argv = ("sbatch", "--parsable", "--exclusive", "--nodes=1", "--output=/dev/null", "--job-name=somebody")
        return self.slurm.run(*argv, *options, "--wrap", "exec sleep 600").stdout.strip()

    def _filled(self) -> bool:
        states = self.slurm.run("squeue", "-h", "-j", ",".join(self._fillers), "-o", "%T").stdout.split()
        return states == ["RUNNING"] * len(self._fillers)

    def empty_cluster(self) -> None:
        """End what :meth:`fill_cluster` started."""
        if self._fillers:
            self.slurm.run("scancel", *self._fillers)
        self._fillers = []

    def slurm_id(self, name: str) -> str:
        """The Slurm job of that name."""
        return self.slurm.run("squeue", "-h", "-t", "all", "-o", "%A", "--name", name).stdout.strip()

    def until_slurm(self, state: str, seconds: float = 30) -> str:
        """The name of the one live Slurm job of ours, once it is in this state."""

        def found() -> str | None:
            live = self.live_slurm_jobs()
            return next(iter(live)) if list(live.values()) == [state] else None

        return str(self.until(found, seconds, f"one Slurm job, {state}"))

    def until_pending(self, seconds: float = 30) -> str:
        """The name of the one runner, once the service itself knows it as pending in Slurm."""

        def known() -> bool:
            return [runner.phase for runner in self.now().runners] == ["pending"]

        name = self.until_slurm("PENDING", seconds)
        self.until(known, 20, "the service sees its runner pending")
        return name

    # The service's side

    def now(self) -> Status:
        """What the service says of itself; it has been started."""
        status = self.status()
        assert status is not None
        return status

    def pool(self, name: str) -> PoolStatus:
        return next(pool for pool in self.now().pools if pool.name == name)

    def records(self) -> list[dict[str, Any]]:
        """Every runner of the journal, as it is on disk, oldest first."""
        if not (self.state_dir / JOURNAL_NAME).exists():
            return []
        with closing(sqlite3.connect(f"file:{self.state_dir / JOURNAL_NAME}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM runner ORDER BY intended_at, name").fetchall()
        return [dict(row) for row in rows]

    def outcomes(self) -> list[str | None]:
        return [record["outcome"] for record in self.records()]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.log_lines() if line.get("event") == kind]

    # The end

    def ends_clean(self, seconds: float = 45) -> None:
        """Nothing of any runner is left anywhere, every record is closed, nothing unexpected was logged."""
        self.empty_cluster()
        left: list[str] = ["everything"]

        def nothing() -> bool:
            left[:] = self.leftovers() + [f"open record {r['name']}" for r in self.records() if not r["closed_at"]]
            return not left

        try:
            self.until(nothing, seconds, "nothing is left")
        except StageError as error:
            error.add_note("\n".join(left))
            raise
        assert self.events("unexpected_error") == []
        assert [line for line in self.log_lines() if "text" in line] == [], "the log holds lines that are no events"


@contextmanager
def scene(
    slurm: PrivateSlurm, *, start: bool = True, repositories: Sequence[str] = ("lab/demo",), **options: Any
) -> Iterator[Scene]:
    """A scene with the service running; at its end, whatever the test has looked at, it must be clean."""
    stage = Scene(slurm, **options)
    with stage:
        for repository in repositories:
            stage.github.add_repository(repository, {})
        try:
            if start:
                stage.start_service()
            yield stage
            stage.ends_clean()
        except BaseException as error:
            error.add_note(f"left: {stage.leftovers()}\nrecords: {stage.records()}")
            error.add_note(f"jobs: {[(j.name, j.status, j.conclusion) for j in stage.github.jobs.values()]}")
            for file in stage.output_dir.iterdir():
                error.add_note(f"output of {file.name}:\n{file.read_text()[-1000:]}")
            error.add_note(f"the service's log:\n{stage.log_end(80)}")
            raise
        finally:
            stage.empty_cluster()


class Gate:
    """Runners that are launched wait at a gate before they start: time to do something to them."""

    def __init__(self, stage: Stage) -> None:
        self._flag = stage.base / "gate"
        self._flag.touch()
        run = stage.runner_dir / "run.sh"
        shebang, rest = run.read_text().split("\n", 1)
        wait = f"while [[ -e {shlex.quote(str(self._flag))} ]]; do sleep 0.1; done"
        run.write_text(f"{shebang}\n{wait}\n{rest}")

    def open(self) -> None:
        self._flag.unlink()


class CommandLog:
    """Slurm's commands with a line written for each call: what the service really called, counted outside of it."""

    def __init__(self, slurm: PrivateSlurm) -> None:
        self.bin_dir = Path(slurm.run("mktemp", "-d", "-p", str(slurm.home)).stdout.strip())
        for command in slurm.bin_dir.iterdir():
            target = self.bin_dir / command.name
            target.write_text(
                f'#!/bin/sh\necho "$(date +%s.%N) {command.name}" >>{shlex.quote(str(self.bin_dir))}/calls.log\n'
                f'exec {shlex.quote(str(command))} "$@"\n'
            )
            target.chmod(0o755)

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        """For the stage's configuration."""
        return {"slurm": {"bin_dir": str(self.bin_dir)}}

    def calls(self, name: str) -> list[float]:
        """When the command was called, in seconds since the epoch."""
        log = self.bin_dir / "calls.log"
        lines = (line.split() for line in log.read_text().splitlines()) if log.exists() else ()
        return [float(at) for at, called in lines if called == name]


def pool(name: str = "small", cpus: int = 1, slurm: Mapping[str, Any] | None = None, **keys: Any) -> StagePool:
    """A pool with labels self-hosted, linux and its name."""
    return StagePool(name, ("self-hosted", "linux", name), cpus=cpus, slurm=slurm or {}, keys=keys)
