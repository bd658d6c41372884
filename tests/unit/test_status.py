"""The status: from the world to a file to a screen."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import anyio
import pytest
import trio.testing
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from slurm_gha.cli import main
from slurm_gha.cli.screen import Frame, lasting, screen, share
from slurm_gha.cli.status import command
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import normalise
from slurm_gha.domain.pool import Handover, Policy, Pool, SlurmRequest
from slurm_gha.domain.runner import Registration, Runner, RunnerRecord
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import ScopeView, SlurmView, Trouble, World
from slurm_gha.observe.events import Bus, Event, UnexpectedError
from slurm_gha.observe.status import (
    HEARTBEAT,
    BudgetStatus,
    PoolStatus,
    RunnerStatus,
    ScopeStatus,
    SlurmStatus,
    Status,
    StatusError,
    StatusWriter,
    WaitingJob,
    from_json,
    read,
    to_json,
    write,
)
from slurm_gha.observe.summary import runner_status, summarise, waiting_job
from slurm_gha.store.lock import StateLock

NOW = 10_000.0
HOSTILE = "x\x1b[31m\x1b]0;title\x07[bold]y[/bold]\u202e\ud800\n" + "z" * 5000


def a_status(**changes: object) -> Status:
    status = Status(
        installation="hpc",
        version="0.1.0",
        pid=42,
        at=NOW - 2,
        started_at=NOW - 7200,
        slurm=SlurmStatus(readable=True, last_read=NOW - 3),
        pools=(PoolStatus(name="small", limit=10, phases={"pending": 1, "busy": 2, "ended": 1}),),
        scopes=(
            ScopeStatus(
                name="web",
                readable=True,
                last_read=NOW - 4,
                budget=BudgetStatus(remaining=4812, limit=5000, reset=NOW + 1800),
            ),
        ),
    )
    return replace(status, **changes)  # type: ignore[arg-type]


def a_job(number: int, **changes: object) -> WaitingJob:
    job = WaitingJob(id=number, repository="o/r", name=f"job {number}", scope="web", since=NOW - number, why="waits")
    return replace(job, **changes)  # type: ignore[arg-type]


def a_runner(number: int, **changes: object) -> RunnerStatus:
    runner = RunnerStatus(
        name=f"sg-hpc-small-{number}", pool="small", scope="web", phase="busy", since=NOW - number, slurm_id=number
    )
    return replace(runner, **changes)  # type: ignore[arg-type]


def shown(status: Status, *, running: bool | None = True, width: int = 80, height: int | None = 24) -> list[str]:
    console = Console(width=width, height=height, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(screen(status, Frame(NOW, running, width, height)))
    return [line.rstrip() for line in capture.get().splitlines()]


# From the world

POOL = Pool("small", frozenset({"web"}), normalise(["slurm"]), SlurmRequest(1, 60), "/runner", max_runners=7)
POLICY = Policy("hpc", (POOL,))
RECORD = RunnerRecord(
    "sg-hpc-small-1", "web", "small", POOL.labels, Handover.CLAIM, 100.0, job_id=5, repository="o/r", slurm_id=9
)


def slurm(state: str, reason: str = "", **times: float) -> SlurmJob:
    return SlurmJob(9, RECORD.name, state, reason, node="n1", **times)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("runner", "phase", "since"),
    [
        (Runner(RECORD), "submitted", 100.0),
        (Runner(replace(RECORD, submitted_at=101.0), slurm("PENDING")), "pending", 101.0),
        (Runner(RECORD, slurm("RUNNING", started_at=105.0)), "starting", 105.0),
        (Runner(replace(RECORD, online_at=108.0), slurm("RUNNING"), Registration(1, "", True, False)), "idle", 108.0),
        (Runner(replace(RECORD, busy_at=109.0), slurm("RUNNING", started_at=105.0)), "busy", 109.0),
        (Runner(replace(RECORD, busy_at=109.0), slurm("COMPLETED", ended_at=120.0)), "ended", 120.0),
        (Runner(RECORD, slurm("FAILED")), "ended", 100.0),
    ],
)
def test_a_runners_phase_and_since_when(runner: Runner, phase: str, since: float) -> None:
    told = runner_status(runner)
    assert (told.phase, told.since) == (phase, since)


def test_a_world_summarised() -> None:
    job = Job(8, "web", "o/r", 1, 1, "build", "ci", normalise(["slurm", "x"]), JobStatus.QUEUED, 90.0)
    world = World(
        runners=(
            Runner(RECORD, slurm("PENDING", "Priority")),
            Runner(replace(RECORD, name="sg-hpc-old-1", pool="old"), slurm("PENDING", "JobHeldAdmin"), taken_job=None),
        ),
        scopes={
            "web": ScopeView("web", 190.0, 180.0),
            "org": ScopeView("org", 190.0, None, None, "401"),
        },
        slurm=SlurmView(195.0, "no answer"),
        troubles={"small": Trouble("small", 2, 300.0, "Invalid account")},
        draining=True,
    )
    status = summarise(
        world,
        POLICY,
        [waiting_job(job, "because", "sg-hpc-small-1")],
        at=200.0,
        version="1",
        pid=3,
        started_at=50.0,
        budgets={"web": BudgetStatus(remaining=1)},
        explain=lambda reason: f"<{reason}>",
    )
    assert (status.installation, status.at, status.draining) == ("hpc", 200.0, True)
    assert status.slurm == SlurmStatus(readable=False, last_read=195.0, error="no answer")
    assert status.scopes == (
        ScopeStatus(name="web", readable=True, last_read=180.0, budget=BudgetStatus(remaining=1)),
        ScopeStatus(name="org", readable=False, last_read=None, error="401"),
    )
    small = PoolStatus(name="small", limit=7, phases={"pending": 1}, until=300.0, failures=2, reason="Invalid account")
    assert status.pools == (small, PoolStatus(name="old", limit=0, phases={"pending": 1}))
    assert [(r.held, r.slurm_reason, r.job_id) for r in status.runners] == [
        (False, "<Priority>", 5),
        (True, "<JobHeldAdmin>", 5),
    ]
    (waiting,) = status.jobs
    assert (waiting.since, waiting.labels, waiting.runner) == (90.0, ("slurm", "x"), "sg-hpc-small-1")


# To a file and back


@given(
    st.builds(
        Status,
        installation=st.text(),
        version=st.text(),
        pid=st.integers(1, 2**22),
        at=st.floats(0, 2e9),
        started_at=st.floats(0, 2e9),
        slurm=st.builds(SlurmStatus, readable=st.booleans(), error=st.none() | st.text()),
        draining=st.booleans(),
        jobs=st.lists(st.builds(WaitingJob, since=st.floats(0, 2e9)), max_size=2).map(tuple),
        runners=st.lists(st.builds(RunnerStatus, since=st.floats(0, 2e9)), max_size=2).map(tuple),
        pools=st.lists(
            st.builds(PoolStatus, phases=st.dictionaries(st.text(), st.integers(0, 9)), until=st.none()), max_size=2
        ).map(tuple),
        scopes=st.lists(st.builds(ScopeStatus, last_read=st.none(), budget=st.none()), max_size=2).map(tuple),
    )
)
def test_a_status_survives_its_file(status: Status) -> None:
    assert from_json(to_json(status)) == status


def test_texts_that_are_no_unicode_are_repaired(tmp_path: Path) -> None:
    write(tmp_path, a_status(jobs=(a_job(1, name="a\ud800b", labels=("\udfff",)),)))
    (job,) = read(tmp_path).jobs
    assert (job.name, job.labels) == ("a?b", ("?",))


def test_the_file_is_private_and_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "status.json.new").write_text("left behind by a crash")
    write(tmp_path, a_status())
    before = (tmp_path / "status.json").stat()
    write(tmp_path, a_status(pid=43))
    after = (tmp_path / "status.json").stat()
    assert stat.S_IMODE(after.st_mode) == 0o600
    assert after.st_ino != before.st_ino
    assert read(tmp_path).pid == 43
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_what_a_newer_version_adds_is_passed_over() -> None:
    fields = json.loads(to_json(a_status()))
    fields["weather"] = "fine"
    fields["slurm"]["mood"] = {"good": True}
    assert from_json(json.dumps(fields)) == a_status()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"pid": "x"}', "\x00"])
def test_what_is_no_status_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(StatusError, match=r"status\.json cannot be used: it is no status") as refusal:
        read(tmp_path)
    assert "\n" not in str(refusal.value)


def test_writing_is_at_most_once_in_an_interval_and_never_forgets_the_last_news(tmp_path: Path) -> None:
    written: list[float] = []

    async def main() -> None:
        clock = EventLoopClock(NOW)

        def build() -> Status:
            written.append(clock.now() - NOW)
            return a_status(at=clock.now())

        writer = StatusWriter(tmp_path, build, clock, Bus())
        async with anyio.create_task_group() as group:
            group.start_soon(writer.run)
            for _ in range(5):
                writer.changed()
                await clock.sleep(0.15)
            await clock.sleep(30)
            group.cancel_scope.cancel()

    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(main, backend="trio", backend_options={"clock": clock})
    assert written[0] == 0.0
    assert written[1] == pytest.approx(1.0)
    assert written[2] == pytest.approx(1.0 + HEARTBEAT)
    assert len(written) == 4
    assert read(tmp_path).at == pytest.approx(NOW + written[-1])


def test_a_full_disk_is_told_once_and_survived(tmp_path: Path) -> None:
    heard: list[Event] = []

    async def main() -> None:
        clock = EventLoopClock(NOW)
        writer = StatusWriter(tmp_path / "gone", a_status, clock, Bus(heard.append))
        for _ in range(3):
            writer.changed()
            await clock.sleep(2)
        (tmp_path / "gone").mkdir()
        writer.changed()

    anyio.run(main, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})
    assert [type(event) for event in heard] == [UnexpectedError]
    assert "No such file or directory" in str(heard[0])
    assert read(tmp_path / "gone") == a_status()


# On a screen


def test_a_quiet_service() -> None:
    assert shown(a_status()) == [
        "slurm-gha hpc  running for 2 h 00, pid 42  as of 2 s ago  0.1.0",
        "",
        "no jobs waiting",
        "no runners",
        "",
        "pool small             3 of 10    1 pending, 1 ended, 2 busy",
        "Slurm   read 3 s ago",
        "GitHub  web          read 4 s ago, budget 4,812 of 5,000, new in 30 min",
    ]


def test_the_first_line_tells_whether_it_is_true_still() -> None:
    old = a_status(at=NOW - 600)
    assert "NOT RUNNING, this was so 10 min ago" in shown(old, running=False)[0]
    assert "HANGS? pid 42 said nothing for 10 min" in shown(old, running=True)[0]
    assert "state unknown, this was so 2 s ago" in shown(a_status(), running=None)[0]


def test_troubles_come_first_with_their_reasons() -> None:
    status = a_status(
        slurm=SlurmStatus(readable=False, last_read=NOW - 90, error="Unable to contact slurm controller"),
        scopes=(
            ScopeStatus(name="web", readable=False, error="401: Bad credentials"),
            ScopeStatus(name="org", readable=True, budget=BudgetStatus(blocked_until=NOW + 61)),
        ),
        pools=(
            PoolStatus(name="small", limit=1, until=NOW + 45, failures=1, reason="Invalid account"),
            PoolStatus(name="large", limit=1, until=NOW - 5, failures=3, reason="no runner.sh"),
        ),
        runners=(a_runner(7, phase="pending", held=True, slurm_state="PENDING", slurm_reason="It is held."),),
        jobs=(
            a_job(3, why="no pool has label gpu", unservable=True),
            a_job(4, unservable=True, why="nor here"),
            a_job(5, refused=True, why="it comes from a fork"),
        ),
        draining=True,
    )
    assert shown(status, height=50)[1:11] == [
        "! Slurm cannot be read: Unable to contact slurm controller",
        "! GitHub, scope web, cannot be read: 401: Bad credentials",
        "! GitHub, scope org, told us to wait 61 s",
        "! pool small backs off for 45 s (1 failure): Invalid account",
        "! pool large backs off until one runner works (3 failures): no runner.sh",
        "! Slurm holds job 7 (sg-hpc-small-7): It is held.",
        "! 2 jobs find no pool; o/r job 4: nor here",
        "! 1 job is refused; o/r job 5: it comes from a fork",
        "! draining: no new runner is started",
        "",
    ]


def test_a_scope_that_is_pushed_to_tells_when_its_webhook_last_brought_news() -> None:
    sources = ("poll", "webhook")
    status = a_status(
        scopes=(
            ScopeStatus(name="web", readable=True, last_read=NOW - 300, sources=sources, last_delivery=NOW - 7),
            ScopeStatus(name="new", readable=True, last_read=NOW - 3, sources=("webhook",)),
        )
    )
    lines = [line for line in shown(status, height=40, width=100) if line.startswith("GitHub")]
    assert lines == [
        "GitHub  web          read 5 min ago, by poll and webhook, delivery 7 s ago",
        "GitHub  new          read 3 s ago, by webhook, no delivery yet",
    ]


def test_long_reasons_get_a_second_line_where_there_is_room() -> None:
    reason = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"
    pool = PoolStatus(name="small", limit=1, until=NOW + 45, failures=1, reason=reason)
    lines = shown(a_status(pools=(pool,)))
    assert lines[1] == "! pool small backs off for 45 s (1 failure): sbatch: error: Batch job submission"
    assert lines[2] == "  failed: Invalid account or account/partition combination specified"


def test_jobs_without_a_pool_first_then_without_a_runner_then_the_oldest() -> None:
    jobs = (a_job(1), a_job(2, runner="r"), a_job(9, runner="r"), a_job(3), a_job(4, unservable=True))
    lines = shown(a_status(jobs=jobs), height=None)
    rows = [line for line in lines if " o/r " in line and not line.startswith("!")]
    assert [row.split("job ")[1][0] for row in rows if row.endswith("waits")] == ["4", "3", "1", "9", "2"]


def test_runners_that_should_move_on_come_first() -> None:
    phases = ["busy", "idle", "pending", "starting", "ended", "submitted"]
    runners = tuple(a_runner(number, phase=phase) for number, phase in enumerate(phases))
    lines = shown(a_status(runners=runners), width=140, height=None)
    start = next(number for number, line in enumerate(lines) if line.startswith("phase")) + 1
    words = [line.split()[0] for line in lines[start : start + 6]]
    assert words == [
        "starting",
        "pending",
        "submitted",
        "ended",
        "idle",
        "busy",
    ]


def test_what_a_runner_does_is_said_in_words() -> None:
    runners = (
        a_runner(1, phase="pending", slurm_state="PENDING", slurm_reason="Jobs of higher priority are before it."),
        a_runner(2, phase="submitted", slurm_id=None),
        a_runner(3, slurm_state="RUNNING", node="n1", job_id=77, repository="o/r"),
        a_runner(4, slurm_state="SUSPENDED", node="n2"),
        a_runner(5, phase="idle", slurm_state="RUNNING", node="n3", withdrawn_because="idle for 300 s"),
        a_runner(6, phase="ended", slurm_state="NODE_FAIL"),
    )
    text = "\n".join(shown(a_status(runners=runners), width=140, height=None))
    for words in (
        "Jobs of higher priority are before it.",
        "-         not seen in Slurm yet",
        "on n1 job 77 o/r",
        "on n2 suspended",
        "is being withdrawn: idle for 300 s",
        "Slurm: node_fail; its registration is being looked after",
    ):
        assert words in text


CROWD = a_status(
    jobs=tuple(a_job(n, labels=("self-hosted", "slurm")) for n in range(1, 200)),
    runners=tuple(a_runner(n, node="n1") for n in range(1, 300)),
    pools=tuple(PoolStatus(name=f"p{n}", limit=1, until=NOW + n, failures=1, reason="x" * 500) for n in range(30)),
    scopes=tuple(ScopeStatus(name=f"s{n}", readable=False, error="y" * 500) for n in range(20)),
)


@pytest.mark.parametrize("height", [24, 30, 50, 100])
@pytest.mark.parametrize("width", [60, 80, 120, 250])
def test_a_crowd_fits_the_screen(width: int, height: int) -> None:
    lines = shown(CROWD, width=width, height=height)
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    assert any(line == "199 jobs waiting" for line in lines)
    assert any(line == "299 runners" for line in lines)
    assert any(line.startswith("Slurm   read") for line in lines)


def test_without_a_height_everything_is_there() -> None:
    lines = shown(CROWD, width=200, height=None)
    assert len([line for line in lines if "o/r" in line and line.endswith("waits")]) == 199
    assert len([line for line in lines if line.startswith("busy")]) == 299
    assert not [line for line in lines if line.startswith("… and")]


def test_hostile_texts_neither_colour_nor_command_the_terminal() -> None:
    status = a_status(
        installation=HOSTILE,
        version=HOSTILE,
        slurm=SlurmStatus(readable=False, error=HOSTILE),
        scopes=(ScopeStatus(name=HOSTILE, readable=False, error=HOSTILE),),
        pools=(PoolStatus(name=HOSTILE, limit=1, until=NOW + 1, reason=HOSTILE, phases={HOSTILE: 1}),),
        jobs=(a_job(1, repository=HOSTILE, name=HOSTILE, why=HOSTILE, labels=(HOSTILE,), unservable=True),),
        runners=(a_runner(1, name=HOSTILE, phase=HOSTILE, slurm_state=HOSTILE, slurm_reason=HOSTILE, node=HOSTILE),),
    )
    for height in (24, None):
        lines = shown(status, height=height)
        assert all(line.isprintable() for line in lines)
        assert any("y[/bold]" in line for line in lines)
    assert len(shown(status, height=24)) <= 24


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_lines_are_shared_fairly(room: int, first: int, second: int) -> None:
    one, two = share(room, first, second)
    assert 0 <= one <= first
    assert 0 <= two <= second
    assert one + two == min(room, first + second)
    assert one >= min(first, room // 2)
    assert two >= min(second, room // 2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (99.9, "99 s"), (100, "1 min"), (5999, "99 min"), (6000, "1 h 40"), (172_800, "2 d")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


# The command


def test_the_command_shows_what_is_there_whether_or_not_a_service_runs(tmp_path: Path) -> None:
    write(tmp_path, a_status(at=time.time(), jobs=(a_job(1, why="a long reason " * 8 + "to its end"),)))
    result = CliRunner().invoke(command, ["--state-dir", str(tmp_path)], env={"COLUMNS": "130"})
    assert result.exit_code == 0
    assert "NOT RUNNING" in result.output
    assert "to its" in result.output
    assert "…" not in result.output
    with StateLock.acquire(tmp_path):
        result = CliRunner().invoke(command, ["--state-dir", str(tmp_path)])
    assert "running for" in result.output


def test_the_command_gives_json_in_ascii(tmp_path: Path) -> None:
    write(tmp_path, a_status(jobs=(a_job(1, name="é\x1b\u202e"),)))
    result = CliRunner().invoke(command, ["--json", "--state-dir", str(tmp_path)])
    fields = json.loads(result.output)
    assert result.exit_code == 0
    assert result.output.isascii()
    assert "\x1b" not in result.output
    assert (fields["running"], fields["pid"], fields["jobs"][0]["name"]) == (False, 42, "é\x1b\u202e")
    assert fields["age"] > 0


def test_the_command_finds_the_directory_in_the_configuration(tmp_path: Path) -> None:
    sample = files("slurm_gha.config").joinpath("sample.toml").read_text()
    config = tmp_path / "config.toml"
    config.write_text(re.sub(r"(?m)^#? *state_dir = .*$", f'state_dir = "{tmp_path}"', sample))
    write(tmp_path, a_status(installation="found"))
    result = CliRunner().invoke(command, ["--config", str(config)])
    assert result.exit_code == 0, result.output
    assert "slurm-gha found" in result.output
    result = CliRunner().invoke(command, env={"SLURM_GHA_CONFIG": str(config)})
    assert "slurm-gha found" in result.output


def test_a_configuration_that_is_wrong_is_told_by_the_program(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("nonsense = true\n")
    result = CliRunner().invoke(main, ["status", "--config", str(config)])
    assert result.exit_code == 1
    assert f"{config}:1: nonsense" in result.output


def test_without_a_status_the_command_says_why_and_fails(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert f"there is no status at {tmp_path}/status.json" in result.output


def test_watching_needs_a_terminal(tmp_path: Path) -> None:
    write(tmp_path, a_status())
    result = CliRunner().invoke(command, ["--watch", "--state-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "--watch needs a terminal" in result.output


@pytest.mark.slow
def test_watching_redraws_in_place_and_gives_the_terminal_back(tmp_path: Path) -> None:
    write(tmp_path, a_status())
    master, terminal = pty.openpty()
    argv = [sys.executable, "-c", "from slurm_gha.cli.status import command; command()"]
    argv += ["--watch", "--state-dir", str(tmp_path)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    output = b""

    def read_until(words: bytes) -> None:
        nonlocal output
        while words not in output:
            assert select.select([master], [], [], 20)[0], f"{words!r} never came; there was {output[-500:]!r}"
            output += os.read(master, 65536)

    with subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as watching:
        try:
            read_until(b"0.1.0")
            write(tmp_path, a_status(version="0.2.0"))
            read_until(b"0.2.0")
            watching.send_signal(signal.SIGINT)
            read_until(b"\x1b[?1049l")
            assert watching.wait(10) == 0
        finally:
            watching.kill()
            os.close(terminal)
            os.close(master)
    assert output.startswith(b"\x1b[?1049h")
    assert b"\x1b[2J" not in output, "clearing the screen makes it flicker"
    assert b"Traceback" not in output
