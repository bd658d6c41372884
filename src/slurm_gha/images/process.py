"""Runs programs that die with us, and turns their failures into sentences.

The kernel kills a child when the thread that started it ends: call this from the main thread, or from one that lives
as long as its work.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slurm_gha.images.errors import CommandFailed, MissingTool, disk_full
from slurm_gha.images.reporter import Reporter, Silent
from slurm_gha.observe.text import presentable

# Below so many free bytes a program that failed is taken to have failed for lack of them.
_FULL_BELOW = 256 << 10
_FULL_WORDS = ("no space left on device", "disk quota exceeded")
# Lines of a failed program that are kept for the sentence about it.
_KEPT = 40
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Characters of its last words.
_SHOWN = 400
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def search_path() -> str:
    """PATH, and the directories of daemons, which an ordinary user's PATH often lacks."""
    return os.environ.get("PATH", "") + ":" + _SYSTEM_PATH


def find(program: str, purpose: str) -> str:
    """The path of a program; raises MissingTool."""
    found = shutil.which(program, path=search_path())
    if found is None:
        raise MissingTool(f"{program} is not installed on this machine; it is needed to {purpose}")
    return found


def bound(argv: Sequence[str]) -> list[str]:
    """``argv`` as a child that is killed when this process dies, however it dies."""
    return [find("setpriv", "run programs"), "--pdeathsig", "KILL", "--", *argv]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment, with a PATH that finds daemons, and ``extra``."""
    return {**os.environ, "PATH": search_path(), **(extra or {})}


def run(
    argv: Sequence[str],
    doing: str,
    *,
    writes: Path,
    env: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end and return what it printed. Its lines go to ``reporter`` as they come.

    ``doing`` and ``writes`` are for the sentence about a failure: what it was for, and where it writes.
    """
    told = reporter if reporter is not None else Silent()
    output: list[str] = []
    with started(argv, env=environment(env), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                output.append(line)
                if line.strip():
                    told.line(line.rstrip())
        process.wait()
    if process.returncode:
        raise failure(argv, process.returncode, output, doing, writes)
    return "".join(output)


@contextmanager
def started(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    stdout: int | IO[str],
    stderr: int | IO[str],
    cwd: Path | None = None,
    patience: float = 5.0,
) -> Iterator[subprocess.Popen[str]]:
    """A child for the time of the block. A signal that comes while it starts waits until it is known: nobody else
    would end it before its directories are removed."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    process = None
    try:
        process = subprocess.Popen(
            bound(argv),
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if process is not None:
            stop(process, patience)


def stop(process: subprocess.Popen[str], patience: float = 5.0) -> None:
    """TERM, then KILL after ``patience`` seconds; waits for the end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
        return


def failure(argv: Sequence[str], code: int, output: Iterable[str], doing: str, writes: Path) -> Exception:
    """The error for a program that ended badly."""
    lines = [line.strip() for line in deque(output, maxlen=_KEPT) if line.strip()]
    if any(word in line.lower() for line in lines for word in _FULL_WORDS) or _is_full(writes):
        return disk_full(writes, doing)
    end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = _telling(lines)
    return CommandFailed(f"{doing}: {_program(argv)} {end}" + (f": {said}" if said else ""))


def _program(argv: Sequence[str]) -> str:
    """What was meant to run, without what prepares its namespace."""
    words = list(argv)
    if Path(words[0]).name == "unshare" and "--" in words:
        words = words[words.index("--") + 1 :]
    return Path(words[0]).name


def _telling(lines: Sequence[str]) -> str:
    """The line that says most: the last with an error in it, else the last."""
    marks = ("error", "fail", "cannot", "denied", "not found", "unauthorized", "refused", "no such", "unknown")
    for line in reversed(lines):
        if any(mark in line.lower() for mark in marks):
            return presentable(line, _SHOWN)
    return presentable(lines[-1], _SHOWN) if lines else ""


def _is_full(place: Path) -> bool:
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        state = os.statvfs(place)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < _FULL_BELOW or (state.f_files > 0 and state.f_favail == 0)
