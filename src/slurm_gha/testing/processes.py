"""Finding and ending the processes that belong to one private directory, and no other.

Run as a module it is a guard: ``python -m slurm_gha.testing.processes DIRECTORY MARK…`` waits until its standard
input closes, which it also does when its parent is killed, then ends every process that carries one of the marks,
unmounts what is mounted in the directory and removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path


def processes_of(marks: Iterable[str]) -> dict[int, str]:
    """Live processes whose environment, command line or working directory holds one of ``marks``.

    Process id to command line. The calling process and its parents are never among them, however they were started.
    """
    wanted = tuple(mark.encode() for mark in marks)
    spared = _ancestors()
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        line = _read(entry / "cmdline")
        if not line:
            continue  # a kernel thread, or a zombie
        texts = (_read(entry / "environ"), line, _link(entry / "cwd").encode())
        if any(mark in text for mark in wanted for text in texts):
            found[int(entry.name)] = line.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def inhabitants(directory: str) -> dict[int, str]:
    """Processes with something mounted from or in ``directory``, or their program there: those of containers."""
    mark = f" {directory}".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        if mark in _read(entry / "mountinfo") or _link(entry / "exe").startswith(f"{directory}/"):
            found[int(entry.name)] = _read(entry / "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def mounts(directory: str) -> list[str]:
    """What is mounted in ``directory`` here, where this process is."""
    points = (line.split()[4] for line in _read(Path("/proc/self/mountinfo")).decode().splitlines())
    return [point for point in points if point.startswith(f"{directory}/")]


def end_processes(found: Mapping[int, str], *, patience: float = 2.0) -> None:
    """TERM, then KILL after ``patience`` seconds, to processes found by :func:`processes_of`; waits for their end."""
    for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
        alive = [pid for pid, line in found.items() if _still(pid, line)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while any(_still(pid, found[pid]) for pid in alive) and time.monotonic() < deadline:
            time.sleep(0.02)


def _still(pid: int, line: str) -> bool:
    """Whether ``pid`` is still the process that it was: ids are used again."""
    now = _read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode(errors="replace").strip()
    return now == line and now != ""


def _ancestors() -> set[int]:
    spared: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in spared:
        spared.add(pid)
        status = _read(Path(f"/proc/{pid}/stat"))
        # The command, in brackets, may hold anything; the state and the parent's id follow the last bracket.
        pid = int(status.rpartition(b")")[2].split()[1]) if status else 0
    return spared


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def start_guard(directory: Path, marks: Iterable[str]) -> subprocess.Popen[bytes]:
    """The guard described above; :func:`release` ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "slurm_gha.testing.processes", str(directory), *marks],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def release(guard: subprocess.Popen[bytes]) -> None:
    """Let it do what is left to do, and wait for it."""
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(timeout=30)


def _guard(directory: Path, marks: tuple[str, ...]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    if not directory.exists():
        return
    for _ in range(5):
        found = processes_of(marks)
        if not found:
            break
        end_processes(found)
    for point in mounts(str(directory)):
        # Lazily: another guard may still be ending those who use it.
        subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]), tuple(sys.argv[2:]))
