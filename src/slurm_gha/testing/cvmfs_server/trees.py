"""Trees of files as a repository keeps them, and who has files of a tree open."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR


def copy(source: Path, target: Path) -> int:
    """Copy a tree with modes, times and owners; hard links become files of their own. Gives how many there were."""
    target.mkdir()
    links = 0
    for entry in sorted(os.scandir(source), key=lambda item: item.name):
        status = entry.stat(follow_symlinks=False)
        place = target / entry.name
        if stat.S_ISDIR(status.st_mode):
            links += copy(Path(entry.path), place)
            _adopt(place, status)
        elif stat.S_ISLNK(status.st_mode):
            place.symlink_to(os.readlink(entry.path))
        elif stat.S_ISREG(status.st_mode):
            links += status.st_nlink > 1
            shutil.copyfile(entry.path, place)
            _adopt(place, status)
    return links


def _adopt(place: Path, status: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(place, status.st_uid, status.st_gid)
    place.chmod(stat.S_IMODE(status.st_mode))
    os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove(tree: Path) -> None:
    """Remove a tree, whatever its modes."""
    if not tree.exists():
        return
    for folder, _, _ in os.walk(tree):
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
    shutil.rmtree(tree)


def fingerprint(tree: Path) -> str:
    """Tells whether anything in a tree was changed: names, modes, sizes, times, targets."""
    lines = []
    for folder, names, files in os.walk(tree):
        for name in [*names, *files]:
            place = os.path.join(folder, name)
            status = os.lstat(place)
            target = os.readlink(place) if stat.S_ISLNK(status.st_mode) else ""
            time = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            lines.append(f"{place}|{status.st_mode}|{status.st_size if time else 0}|{time}|{target}")
    return "\n".join(sorted(lines))


def inside(place: str, tree: Path) -> bool:
    """Whether a path is the tree or in it."""
    return place == str(tree) or place.startswith(f"{tree}/")


def open_files(tree: Path, *, writable: bool) -> Iterator[str]:
    """Files below ``tree`` that a process has open, as far as this user can see; for writing, or at all."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for link in (process / "fd").iterdir():
                with contextlib.suppress(OSError, StopIteration, ValueError):
                    if not inside(os.readlink(link), tree):
                        continue
                    if not writable or _flags(process, link.name) & _WRITING:
                        yield os.readlink(link)


def _flags(process: Path, descriptor: str) -> int:
    text = (process / "fdinfo" / descriptor).read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("flags:")), 8)
