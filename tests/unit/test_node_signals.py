"""Signals at every stage: the runner is interrupted, so that GitHub sees a cancelled job, and nothing is left."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.node_bench import LASTING, Bench, Started, open_bench

STUBBORN = """
unset ACTIONS_RUNNER_INPUT_JITCONFIG
trap 'echo "not listening"' INT TERM
echo "2026-01-02 03:04:05Z: Listening for Jobs"
while :; do sleep 0.1; done
"""
# Takes its time to cancel, as the runner does when it tells GitHub.
SLOW = """
unset ACTIONS_RUNNER_INPUT_JITCONFIG
trap 'interrupted=yes; echo "listener interrupted"' INT
trap : TERM
echo "2026-01-02 03:04:05Z: Listening for Jobs"
while [[ -z ${interrupted:-} ]]; do sleep 0.1; done
sleep 0.7
echo "GitHub knows"
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        yield bench


def _listening(bench: Bench, listener: str = LASTING) -> Started:
    bench.install_runner(listener)
    job = bench.start()
    job.until(lambda: "listening" in bench.desk.events)
    return job


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 124)]
)
def test_the_runner_is_interrupted_once_and_waited_for(bench: Bench, number: signal.Signals, code: int) -> None:
    job = _listening(bench, SLOW)
    job.signal(number)
    assert job.wait() == code, job.output
    assert job.output.count("listener interrupted") == 1
    assert "GitHub knows" in job.output
    assert "stopped by SIG" in job.output
    assert bench.desk.events[-1] == "ended"
    assert bench.nothing_left()


def test_a_term_to_every_process_still_lets_the_listener_finish(bench: Bench) -> None:
    """scancel signals the whole step: run.sh gets TERM beside our SIGINT, and may end before its listener."""
    job = _listening(bench, SLOW)
    job.signal_all(signal.SIGTERM)
    assert job.wait() == 143, job.output
    assert "GitHub knows" in job.output
    assert bench.desk.events[-1] == "ended"
    assert bench.nothing_left()


def test_a_stubborn_runner_is_killed_while_there_is_time_to_clean_up(bench: Bench) -> None:
    """KillWait is 3 s on the bench; the default patience would be 24 s, and the runner's own is endless."""
    job = _listening(bench, STUBBORN)
    began = time.monotonic()
    job.signal(signal.SIGTERM)
    assert job.wait() == 143
    assert 2.0 < time.monotonic() - began < 20.0
    assert "not listening" in job.output
    assert bench.desk.reports[-1][:2] == ("ended", "137 after SIGTERM")
    assert bench.nothing_left()


def test_without_slurm_conf_the_bound_is_what_the_script_says(bench: Bench) -> None:
    bench.install_runner(STUBBORN)
    job = bench.start(bench.values(stop_after_cancel=1), environment={"SLURM_CONF": None})
    job.until(lambda: "listening" in bench.desk.events)
    began = time.monotonic()
    job.signal(signal.SIGTERM)
    assert job.wait() == 143
    assert 0.9 < time.monotonic() - began < 20.0


def test_a_cancel_after_the_warning_shortens_the_wait(bench: Bench) -> None:
    bench.conf.write_text("KillWait=2\n")
    bench.install_runner(STUBBORN)
    job = bench.start(bench.values(stop_after_warning=60))
    job.until(lambda: "listening" in bench.desk.events)
    job.signal(signal.SIGUSR1)
    job.until_said("not listening")
    began = time.monotonic()
    job.signal(signal.SIGTERM)
    assert job.wait() == 124
    assert time.monotonic() - began < 40
    assert bench.nothing_left()


def test_more_signals_do_not_disturb_the_end(bench: Bench) -> None:
    job = _listening(bench, SLOW)
    while job.process.poll() is None:
        job.signal(random.choice([signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]))
        time.sleep(0.02)
    assert job.code in (143, 130, 124)
    assert "GitHub knows" in job.output
    assert bench.nothing_left()


def test_a_signal_during_the_copy(bench: Bench, tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "cp").write_text('#!/bin/bash\necho copying\n/bin/cp "$@"\nsleep 600\n')
    (slow / "cp").chmod(0o755)
    job = bench.start(environment={"PATH": f"{slow}:/usr/bin:/bin"})
    job.until_said("copying")
    job.signal(signal.SIGTERM)
    assert job.wait(6) == 143
    assert "before the runner was started" in job.output
    assert bench.desk.reports[-1][0] == "ended"
    assert bench.nothing_left()


@pytest.mark.parametrize("everybody", [False, True], ids=["the script", "every process"])
def test_a_signal_at_any_moment_of_the_start(bench: Bench, everybody: bool) -> None:
    """Spread over the first 150 ms, in which everything from the first command to the running listener happens."""
    bench.install_runner(LASTING)
    for step in range(10):
        job = bench.start()
        time.sleep(step * 0.015)
        if everybody:
            job.signal_all(signal.SIGTERM)
        job.signal(signal.SIGTERM)
        # At the very first, before the script has set its traps, the signal just kills it.
        assert job.wait(10) in (143, -signal.SIGTERM), job.output
        assert bench.nothing_left(), (step, job.output, job.processes(), list(bench.node_dir.iterdir()))
