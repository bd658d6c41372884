"""The only subprocesses, the clock and the sleep of a publication: one edge, which tests replace."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, Protocol

from slurm_gha.images.cvmfs.answers import Answer

Feed = Callable[[IO[bytes]], None]
"""Writes what a command is to read on its standard input."""

_PATIENCE = 30.0
_NOT_FOUND = 127


class Edge(Protocol):
    """Commands and time."""

    def run(self, argv: Sequence[str], feed: Feed | None = None, timeout: float | None = None) -> Answer: ...

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemEdge:
    """The machine's.

    Commands start in ``/`` and in a session of their own: an interrupt from the keyboard comes to us, and it is we
    who end them, with TERM, which cvmfs_server survives well. There is no time-out unless one is asked for.
    """

    def run(self, argv: Sequence[str], feed: Feed | None = None, timeout: float | None = None) -> Answer:
        """Run to the end. ``feed`` may raise: then the command is ended, and the error goes on."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
                    stdout=output,
                    stderr=errors,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                return Answer(_NOT_FOUND, "", f"{argv[0]}: {error.strerror}")
            try:
                if feed is not None:
                    _write(process, feed)
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                _end(process)
                return Answer(124, "", f"no answer within {timeout:g} s")
            except BaseException:
                _end(process)
                raise
            return Answer(code, _text(output), _text(errors))

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(max(0.0, seconds))


def _write(process: subprocess.Popen[bytes], feed: Feed) -> None:
    """A command that ends before it has read everything says why itself."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        feed(process.stdin)
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with all that it has started: what still writes would hold up an abort."""
    _signal(process, signal.SIGTERM)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
