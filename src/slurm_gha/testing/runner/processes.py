"""A process and all that came of it: found, interrupted, ended. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import anyio

INTERRUPT_SECONDS, TERMINATE_SECONDS = 7.5, 2.5


def _numbers() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _state(pid: int) -> tuple[str, int] | None:
    """A process's state letter and its parent; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def alive(pid: int) -> bool:
    """Whether the process still runs; one that has ended and was not waited for does not."""
    state = _state(pid)
    return state is not None and state[0] not in "ZX"


def descendants(root: int) -> list[int]:
    """Every living process below ``root``, which is not among them."""
    children: dict[int, list[int]] = {}
    for pid in _numbers():
        state = _state(pid)
        if state is not None and state[0] != "Z":
            children.setdefault(state[1], []).append(pid)
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def marked(mark: str) -> list[int]:
    """Every process that was started with ``mark`` (``NAME=value``) in its environment, but this one."""
    needle, found = mark.encode(), []
    for pid in _numbers():
        with contextlib.suppress(OSError):
            if pid != os.getpid() and needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """A signal to each; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


async def interrupt_tree(root: int, cancelling: Path) -> None:
    """Cancel what ``root`` runs as a runner does: INT, then TERM, then KILL to all below its children; then INT to it.

    Its children are the step's holder (``hold.sh``), which stops itself once the step's shell has ended; ``root``
    would kill them at once, and is told only when nothing is left that wants its time. ``cancelling`` is the file
    that makes holders stop; it is gone before any step that runs on cancellation can start.
    """
    cancelling.touch()  # noqa: ASYNC240  (local, and no longer than the look into /proc that follows)
    for number, seconds in (
        (signal.SIGINT, INTERRUPT_SECONDS),
        (signal.SIGTERM, TERMINATE_SECONDS),
        (signal.SIGKILL, 1.0),
    ):
        children = _children_of(root) if number is signal.SIGKILL else set()
        send([pid for pid in descendants(root) if pid not in children], number)
        if await _gone(lambda: _unheld(root), seconds):
            break
    cancelling.unlink(missing_ok=True)  # noqa: ASYNC240
    send([root], signal.SIGINT)


def _children_of(root: int) -> set[int]:
    return {pid for pid in descendants(root) if (_state(pid) or ("", 0))[1] == root}


def _unheld(root: int) -> list[int]:
    """What is below ``root`` and neither ended nor stopped."""
    return [pid for pid in descendants(root) if (_state(pid) or ("T", 0))[0] != "T"]


async def kill_marked(mark: str) -> int:
    """End whatever a job has left behind; how many processes that were."""
    left = marked(mark)
    send(left, signal.SIGTERM)
    if left and not await _gone(lambda: marked(mark), TERMINATE_SECONDS):
        send(marked(mark), signal.SIGKILL)
    return len(left)


async def _gone(look: Callable[[], list[int]], seconds: float) -> bool:
    with anyio.move_on_after(seconds):
        while look():  # noqa: ASYNC110  (other people's processes end without telling us)
            await anyio.sleep(0.05)
        return True
    return False
