"""The commands that make revisions: publish and ingest, and the child process that does their work."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from slurm_gha.testing.cvmfs_server import trees
from slurm_gha.testing.cvmfs_server.control import DEFAULT_GRACE, Control
from slurm_gha.testing.cvmfs_server.repository import Repository

_LOOK = 0.01


class _Terminated(Exception):
    pass


def publish(repository: Repository, control: Control, *, force: bool, tag: str | None) -> int:
    """Publish the open transaction. Whatever fails, it stays open with its changes."""
    name, mount = repository.name, repository.mount
    if not repository.exists:
        return _error(f"The repository {name} does not exist.")
    if not repository.is_mine:
        return _error(f"cannot create {repository.spool}/is_publishing.lock: Permission denied", 2)
    if not repository.in_transaction:
        print(f"Repository {name} is not in a transaction")
        return 1
    lock = repository.lock()
    if lock is None:
        return _error(f"Another publish process is active for {name}")
    if not repository.writable:
        return _error(f"{name} is in a transaction but {mount} is not mounted read/write; this cannot be repaired")
    if trees.inside(os.getcwd(), mount):
        return _error(f"Current working directory is in {mount}. Please release, e.g. by 'cd $HOME'.")
    if next(trees.open_files(mount, writable=True), None) is not None:
        print(f"Open writable file descriptors on {name}")
        return 1
    if force:
        _wait_for_readers(mount, control.read().get("grace", DEFAULT_GRACE))
    signal.signal(signal.SIGTERM, _raise_terminated)
    control.pass_point("publish", "start")
    repository.set_read_only()
    tree = repository.store / "syncing"
    child: int | None = None
    try:
        child = _swissknife(lambda: _sync(repository, tree), control)
        _when(lambda: tree.exists())
        control.pass_point("publish", "sync")
        if os.waitpid(child, 0)[1] != 0 or control.fails("publish"):
            repository.set_writable()
            return _error("Synchronization failed")
    except _Terminated:
        if child is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        repository.set_writable()
        return _error("Terminated")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    links = int(tree.with_name("links").read_text())
    if links:
        print(f"Warning: {links} hard links were broken", file=sys.stderr)
    repository.commit(tree, tag or _generic())
    control.pass_point("publish", "committed")
    repository.mount_published()
    repository.end()
    print(f"Remounting newly created repository revision\n{name} published")
    return 0


def ingest(
    repository: Repository, control: Control, archive: Path, base: str, *, catalog: bool, keep_owner: bool
) -> int:
    """Take an archive in. What fails takes its own transaction with it."""
    lock = repository.lock()
    if lock is None:
        return _error(f"Another publish process is active for {repository.name}")
    control.pass_point("ingest", "start")
    repository.begin()
    tree = repository.store / "syncing"
    child = _swissknife(lambda: _take_in(repository, tree, archive, base, catalog, keep_owner), control)
    _when(lambda: tree.exists() or _ended(child))
    control.pass_point("ingest", "sync")
    if _wait(child) != 0 or control.fails("ingest"):
        repository.end()
        return _error(f"Synchronization of {archive} failed")
    repository.commit(tree, _generic())
    repository.mount_published()
    repository.restore()
    return 0


_codes: dict[int, int] = {}


def _ended(child: int) -> bool:
    if child not in _codes:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            _codes[child] = status
    return child in _codes


def _wait(child: int) -> int:
    return _codes[child] if child in _codes else os.waitpid(child, 0)[1]


def _swissknife(work: Callable[[], None], control: Control) -> int:
    """Start the child that does the work. It holds its parent's lock, and lives on when its parent is killed."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        work()
        while control.read().get("hold"):
            time.sleep(_LOOK)
        code = 0
    finally:
        os._exit(code)


def _sync(repository: Repository, tree: Path) -> None:
    trees.remove(tree)
    fresh = tree.with_name("reading")
    trees.remove(fresh)
    links = trees.copy(repository.mount, fresh)
    tree.with_name("links").write_text(str(links))
    fresh.chmod(0o755)
    fresh.replace(tree)


def _take_in(repository: Repository, tree: Path, archive: Path, base: str, catalog: bool, keep_owner: bool) -> None:
    trees.remove(tree)
    fresh = tree.with_name("reading")
    trees.remove(fresh)
    trees.copy(repository.revision(repository.published), fresh)
    place = fresh / base
    place.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as content:
        content.extraction_filter = lambda member, _: member  # whole, as cvmfs_server takes it; younger Pythons ask
        content.extractall(place)  # noqa: S202
    if os.geteuid() == 0 and not keep_owner:
        for folder, names, files in os.walk(place):
            for name in [*names, *files]:
                _own(os.path.join(folder, name))
    if catalog:
        (place / ".cvmfscatalog").touch()
    fresh.replace(tree)


def _own(place: str) -> None:
    """Give a file to root; a change of the owner takes setuid away, which is not meant here."""
    mode = os.lstat(place).st_mode
    os.chown(place, 0, 0, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        os.chmod(place, stat.S_IMODE(mode))


def _generic() -> str:
    return f"generic-{datetime.now(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"


def _wait_for_readers(mount: Path, grace: float) -> None:
    end = time.monotonic() + grace
    while next(trees.open_files(mount, writable=False), None) is not None and time.monotonic() < end:
        time.sleep(_LOOK)


def _when(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(_LOOK)


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _error(text: str, code: int = 1) -> int:
    print(text, file=sys.stderr)
    return code
