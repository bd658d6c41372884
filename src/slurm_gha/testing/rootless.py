"""What a machine needs before one of its users can run rootless engines; done here for tests and the demo, by root."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

RANGE = 65_536
_FIRST = 1_000_000
_DEVICES = ("/dev/fuse", "/dev/net/tun")


class NotPreparedError(Exception):
    """The machine is not prepared, and this user cannot prepare it; the text says what is missing."""


def prepare_machine(user: str) -> None:
    """Let ``user`` use the devices, and give it ranges of subordinate ids. Raises NotPreparedError."""
    missing = [path for path in _DEVICES if not _open_to_all(path)]
    lacking = [path for path in ("/etc/subuid", "/etc/subgid") if not _has_range(Path(path), user)]
    if not missing and not lacking:
        return
    if os.geteuid() != 0:
        raise NotPreparedError(
            f"rootless engines need {', '.join((*missing, *lacking))} to be prepared for user {user}"
        )
    for path in missing:
        Path(path).chmod(0o666)
    for path in lacking:
        _add_range(Path(path), user)


def _open_to_all(path: str) -> bool:
    try:
        return stat.S_IMODE(os.stat(path).st_mode) & 0o006 == 0o006
    except OSError:
        raise NotPreparedError(f"{path} is missing: rootless engines need it") from None


def _has_range(path: Path, user: str) -> bool:
    return any(line.startswith(f"{user}:") for line in _lines(path))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _add_range(path: Path, user: str) -> None:
    """Behind every range there is: usermod has no word for the next free one."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if _has_range(path, user):
            return
        ends = [int(start) + int(count) for _, start, count in (line.split(":") for line in _lines(path) if line)]
        file.write(f"{user}:{max([_FIRST, *ends])}:{RANGE}\n")
