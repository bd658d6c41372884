"""The demo from the first process started to the last one gone."""

from __future__ import annotations

import pwd
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.text import Text

from slurm_gha.domain.secret import Secret
from slurm_gha.testing.demo import leavings, page, picture, project
from slurm_gha.testing.demo.docker_jobs import DockerJobs, docker_jobs
from slurm_gha.testing.demo.interruption import Interrupted, Interruption
from slurm_gha.testing.demo.leavings import Check, Traces
from slurm_gha.testing.demo.picture import Picture
from slurm_gha.testing.demo.show import Screen
from slurm_gha.testing.demo.summary import Summary, commands, print_checks, print_jobs
from slurm_gha.testing.github.values import Run, SimJob
from slurm_gha.testing.private_slurm import PrivateSlurm, PrivateSlurmError
from slurm_gha.testing.runner.execute import ActMissingError, find_act
from slurm_gha.testing.stage import LARGE, SMALL, Stage, StageError

USER = "slurmgha-demo"
"""Whom Slurm, the service and the jobs run as when root starts the demo. The account has no log-in."""
PERIOD = 0.25
PATIENCE = 180.0
"""Seconds after which jobs that are not over will never be."""
LEAVING = 20.0
"""Seconds within which everything of the runners has to be gone once all jobs are over."""
# Where no terminal sets a width (characters).
WIDE = 160
_PACKAGES = {"curl": "curl", "ps": "procps", "setpriv": "util-linux", "useradd": "passwd"}


class DemoError(Exception):
    """The demo cannot be given here; the text says what is missing and how to get it."""


def console_for_output() -> Console:
    """Standard output; colours and a live table only where it is a terminal."""
    console = Console(highlight=False, force_terminal=None if sys.stdout.isatty() else False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def play(console: Console, *, keep: bool) -> int:
    """Give the demo; ``keep``: leave everything running until Ctrl-C. The process's exit status."""
    traces: list[Traces] = []
    with Interruption() as interruption:
        try:
            status = _play(console, interruption, traces, keep=keep)
        except Interrupted:
            status = interruption.exit_status
        except (DemoError, PrivateSlurmError, StageError, ActMissingError, httpx2.HTTPError) as error:
            # What a signal to our children broke is no news.
            status = 1 if interruption.number is None else interruption.exit_status
            if interruption.number is None:
                print(f"slurm-gha demo: {error}", file=sys.stderr)
        if traces and not print_checks(console, "Taken down", leavings.of_everything(Traces.united(traces))):
            status = status or 1
    return status


def _play(console: Console, interruption: Interruption, traces: list[Traces], *, keep: bool) -> int:
    _must_have()
    made = not _is_account(USER)
    slurm = PrivateSlurm(nodes=2, cpus=2, user=USER)

    def told(place: Path) -> None:
        traces.append(Traces.of_place(place))

    try:
        with docker_jobs(slurm, interruption, lambda text: _say(console, text), told) as docker:
            return _on_stage(console, interruption, traces, slurm, docker, keep=keep)
    finally:
        if made and _is_account(USER):
            _say(console, f"\nThe account {USER}, which has no log-in, was made and stays (userdel {USER}).")


def _on_stage(
    console: Console,
    interruption: Interruption,
    traces: list[Traces],
    slurm: PrivateSlurm,
    docker: DockerJobs,
    *,
    keep: bool,
) -> int:
    control, author = Secret(secrets.token_hex(16)), Secret(f"ghp_{secrets.token_hex(18)}")
    stage = Stage(
        slurm=slurm,
        pools=(SMALL, LARGE, *docker.pools),
        overrides=docker.tables,
        control_token=control,
        routes=page.routes,
        installation="demo",
        listening=docker.listening,
    )
    began = time.monotonic()
    try:
        _say(console, "Starting a private Slurm (2 nodes of 2 CPUs) …")
        slurm.start()
        traces.append(Traces.of(slurm))
        interruption.check()
        with stage:
            traces.append(Traces.of(slurm, stage))
            interruption.check()
            _say(console, f"Starting slurm-gha as user {slurm.user}, with {stage.config} …")
            stage.github.add_token(author.reveal(), name="author")
            stage.github.add_repository(project.FULL_NAME, project.files(), variables=docker.variables)
            stage.start_service()
            interruption.check()
            expected = project.expected(docker=bool(docker.pools))
            good = _Performance(console, interruption, stage, control, author, expected).give()
            _say(console, f"\nThis took {time.monotonic() - began:.0f} s.")
            if keep:
                _keep(console, interruption, stage)
            else:
                _say(console, "Taking everything down …")
            ended = stage.stop_service()
            against = () if ended == 0 else (f"its exit status was {ended}",)
            good &= print_checks(console, "Stopped", [Check("the service has stopped in order", against)])
            return 0 if good else 1
    finally:
        if interruption.number is not None and not keep:
            _say(console, "\nInterrupted. Taking everything down …")
        slurm.destroy()


class _Performance:
    """What happens on stage: a push, a survey that is cancelled while it waits, and the end of it all."""

    def __init__(
        self,
        console: Console,
        interruption: Interruption,
        stage: Stage,
        control: Secret,
        author: Secret,
        expected: Mapping[str, str],
    ) -> None:
        self._console, self._interruption, self._stage = console, interruption, stage
        self._control, self._author, self._expected = control, author, expected
        self._client = httpx2.Client(base_url=stage.url, timeout=10.0)
        self._since = 0.0
        self._runs: list[Run] = []
        self._survey: Run | None = None
        self._cancelled = False

    def give(self) -> bool:
        """Everything up to the summary; whether all was as it should be."""
        with self._client, Screen(self._console) as screen:
            screen.say(f"Pushing {project.FULL_NAME}.\n")
            self._since = self._stage.clock.now()
            self._push()
            until = time.monotonic() + PATIENCE
            while True:
                now = self._picture()
                screen.show(now)
                self._survey_act(screen)
                if self._survey is not None and all(run.status == "completed" for run in self._runs):
                    break
                if time.monotonic() > until:
                    raise StageError(f"jobs are not over within {PATIENCE:.0f} s\n{self._stage.log_end()}")
                self._interruption.pause(PERIOD)
            now = self._picture()
            screen.show(now)
            checks = self._left()
        return self._conclude(now, checks)

    def _picture(self) -> Picture:
        stage = self._stage
        counts = [count for (name, _), count in list(stage.limits.counters.items()) if name != "author"]
        calls = (sum(count.counted for count in counts), sum(count.uncounted for count in counts))
        now = stage.clock.now()
        return picture.take(self._runs, stage.github.jobs, stage.status(), now=now, since=self._since, calls=calls)

    def _push(self) -> None:
        made = self._ask("/_sim/push", self._control, {"repository": project.FULL_NAME, "message": "Count primes"})
        self._runs = [self._stage.github.runs[number] for number in made["runs"]]

    def _survey_act(self, screen: Screen) -> None:
        """Start the survey when no whole node is free; cancel it when its Slurm job waits for one."""
        if self._survey is None:
            jobs = {job.name: job.status for job in self._jobs(self._runs[0])}
            if all(jobs.get(name) in ("in_progress", "completed") for name in project.FIRST_JOBS):
                screen.say("Somebody starts the survey, which wants a whole node.")
                body = {"repository": project.FULL_NAME, "workflow": project.SURVEY}
                made = self._ask("/_sim/dispatch", self._control, body)
                self._survey = self._stage.github.runs[made["run"]]
                self._runs.append(self._survey)
        elif not self._cancelled and self._survey_waits(self._survey):
            screen.say("Somebody cancels the survey, which still waits for its node.")
            self._ask(f"/repos/{project.FULL_NAME}/actions/runs/{self._survey.id}/cancel", self._author, {})
            self._cancelled = True

    def _survey_waits(self, survey: Run) -> bool:
        """Whether Slurm says that the survey's runner is pending; also true when it is too late for that."""
        jobs, status = self._jobs(survey), self._stage.status()
        if any(job.status != "queued" for job in jobs):
            return True
        numbers = {job.id for job in jobs}
        names = {job.runner for job in status.jobs if job.id in numbers} if status is not None else set()
        return any(state == "PENDING" and name in names for name, state in self._stage.slurm_jobs().items())

    def _jobs(self, run: Run) -> list[SimJob]:
        return [self._stage.github.jobs[number] for number in list(run.jobs)]

    def _ask(self, path: str, token: Secret, body: dict[str, str]) -> Any:
        answer = self._client.post(path, json=body, headers={"authorization": f"Bearer {token.reveal()}"})
        if answer.is_error:
            raise StageError(f"the simulated GitHub answered {answer.status_code} to {path}: {answer.text}")
        return answer.json()

    def _left(self) -> list[Check]:
        """What is left of runners, once all have had the time to go."""
        until = time.monotonic() + LEAVING
        while True:
            checks = leavings.of_runners(self._stage)
            if all(check.holds for check in checks) or time.monotonic() > until:
                return checks
            self._interruption.pause(PERIOD)

    def _conclude(self, last: Picture, checks: list[Check]) -> bool:
        stage = self._stage
        metrics = httpx2.get(f"http://127.0.0.1:{stage.port}/metrics", timeout=10.0).text
        failed = next((job for job in list(stage.github.jobs.values()) if job.conclusion == "failure"), None)
        counters = list(stage.limits.counters.items())
        summary = Summary(
            picture=last,
            expected=self._expected,
            slurm=leavings.slurm_jobs(stage),
            routes={route: (count.counted, count.uncounted) for (name, route), count in counters if name != "author"},
            commands=commands(metrics),
            failed=failed.name if failed is not None else "",
            log=failed.log if failed is not None else "",
        )
        print_jobs(self._console, summary)
        jobs = Check(f"all {len(self._expected)} jobs ended as they should", tuple(summary.unexpected()))
        return print_checks(self._console, "Checked", [jobs, *checks])


def _must_have() -> None:
    """What the stage does not look for by itself. Raises DemoError or ActMissingError."""
    find_act()
    missing = [
        name for name in _PACKAGES if shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin") is None
    ]
    if missing:
        packages = " ".join(sorted({_PACKAGES[name] for name in missing}))
        raise DemoError(f"not installed: {', '.join(missing)}; apt-get install -y --no-install-recommends {packages}")


def _keep(console: Console, interruption: Interruption, stage: Stage) -> None:
    """Say where everything is, and wait for Ctrl-C."""
    beside = Path(sys.executable).with_name("slurm-gha")
    command = str(beside) if beside.exists() else f"{sys.executable} -m slurm_gha"
    for name, text in (
        ("status", f"{command} status --watch --config {shlex.quote(str(stage.config))}"),
        ("check", f"{command} check --config {shlex.quote(str(stage.config))}"),
        ("config", str(stage.config)),
        ("GitHub", f"{stage.url}/{project.FULL_NAME}/actions"),
        ("Slurm", str(stage.slurm.bin_dir / "squeue")),
        ("metrics", f"http://127.0.0.1:{stage.port}/metrics"),
        ("log", str(stage.log)),
        ("output", str(stage.output_dir)),
    ):
        _say(console, f"  {name:<8} {text}")
    _say(console, "Left running; push again and cancel on GitHub's page. Ctrl-C takes everything down.")
    while interruption.number is None:
        if stage.service is not None and stage.service.poll() is not None:
            raise StageError(f"the service ended with status {stage.service.returncode}: {stage.log_end()}")
        time.sleep(PERIOD)
    _say(console, "\nTaking everything down …")


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _is_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
