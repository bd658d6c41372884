"""The edge to real commands: streams, time-outs, and an end that leaves no process behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

import pytest

from slurm_gha.images.cvmfs.answers import Answer
from slurm_gha.images.cvmfs.runner import SystemEdge


def test_streams_exit_code_and_place() -> None:
    answer = SystemEdge().run(["sh", "-c", "pwd; echo wrong >&2; exit 3"])
    assert answer == Answer(3, "/\n", "wrong\n")


def test_a_command_is_fed() -> None:
    def feed(stream: IO[bytes]) -> None:
        stream.write(b"x" * 1_000_000)

    assert SystemEdge().run(["wc", "-c"], feed).output.strip() == "1000000"


def test_a_command_that_does_not_read_says_why_itself() -> None:
    def feed(stream: IO[bytes]) -> None:
        for _ in range(1000):
            stream.write(b"x" * 10_000)

    assert SystemEdge().run(["sh", "-c", "echo no >&2; exit 4"], feed) == Answer(4, "", "no\n")


def test_a_program_that_is_not_there() -> None:
    answer = SystemEdge().run(["/no/such/program"])
    assert answer.exit_code == 127
    assert answer.words == "/no/such/program: No such file or directory"


def test_a_time_out_ends_it() -> None:
    began = time.monotonic()
    answer = SystemEdge().run(["sleep", "600"], timeout=0.05)
    assert answer.exit_code == 124
    assert time.monotonic() - began < 300


def test_an_error_while_feeding_ends_all_that_was_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def feed(stream: IO[bytes]) -> None:
        stream.write(b"x")
        stream.flush()
        while not pids.exists() or len(pids.read_text().split()) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SystemEdge().run(["sh", "-c", f"sleep 600 & echo $$ $! >{pids}; cat; wait"], feed)
    for pid in pids.read_text().split():
        end = time.monotonic() + 30
        while alive(int(pid)):
            assert time.monotonic() < end
            time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z" and os.getpgid(pid) > 0
    except (FileNotFoundError, ProcessLookupError):
        return False
