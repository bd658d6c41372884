"""``cvmfs_server COMMAND …`` of the stand-in: options, refusals, and the commands that make no revision.

What it does not imitate: readers that lose their files when `publish -f` remounts (ENOTCONN), and `.cvmfsdirtab`.
"""

from __future__ import annotations

import getopt
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from slurm_gha.testing.cvmfs_server import publishing, trees
from slurm_gha.testing.cvmfs_server.control import Control
from slurm_gha.testing.cvmfs_server.repository import Repository, Tampered

_BUSY, _NOT_IN_TRANSACTION, _NO_WHITELIST, _USAGE = 17, 22, 5, 3
_INTERNAL = 70

Options = Mapping[str, str]


def _mkfs(repository: Repository, options: Options, control: Control) -> int:
    if repository.exists:
        return _error(f"The repository {repository.name} already exists")
    repository.create(options["-o"])
    return 0


def _transaction(repository: Repository, options: Options, control: Control) -> int:
    deadline = time.monotonic() + float(options.get("-t", "0"))
    while True:
        code = _refused(repository) or _open(repository, control)
        if code != _BUSY or time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    if code == _BUSY:
        _error("another transaction is already open")
    return code


def _open(repository: Repository, control: Control) -> int:
    if control.read().get("web_server") == "down":
        return _error("cannot load whitelist", _NO_WHITELIST)
    if repository.in_transaction:
        if repository.writable or repository.moving:
            return _BUSY
        return _error(
            f"Repository {repository.name} is in a transaction but {repository.mount} is not mounted read/write"
        )
    if control.fails("transaction"):
        return _error("cannot open a transaction")
    control.pass_point("transaction", "start")
    repository.begin()
    repository.set_writable()
    control.pass_point("transaction", "open")
    return 0


def _publish(repository: Repository, options: Options, control: Control) -> int:
    return publishing.publish(repository, control, force="-f" in options, tag=options.get("-a"))


def _abort(repository: Repository, options: Options, control: Control) -> int:
    code = _refused(repository)
    if code:
        return code
    if not repository.in_transaction:
        return _error(f"Repository {repository.name} is not in a transaction", _NOT_IN_TRANSACTION)
    if "-f" not in options:
        print("You are about to DISCARD ALL CHANGES OF THE CURRENT TRANSACTION. Are you sure? ", end="", flush=True)
        if sys.stdin.readline().strip() not in ("", "y", "Y"):
            return 1
    if trees.inside(os.getcwd(), repository.mount):
        return _error(f"Current working directory is in {repository.mount}")
    lock = repository.lock()
    if lock is None:
        return _error(f"Another publish process is active for {repository.name}")
    if control.fails("abort"):
        return _error("cannot unmount the repository")
    control.pass_point("abort", "start")
    repository.mount_published()
    repository.restore()
    control.pass_point("abort", "done")
    return 0


def _mount(repository: Repository, options: Options, control: Control) -> int:
    code = _refused(repository)
    if code:
        return code
    lock = repository.lock()
    if lock is None or control.fails("mount"):
        return _error(f"cannot mount {repository.mount}")
    repository.mount_published()
    if repository.in_transaction:
        repository.set_writable()
    return 0


def _ingest(repository: Repository, options: Options, control: Control) -> int:
    code = _refused(repository)
    if code:
        return code
    if repository.in_transaction and repository.writable:
        return _error("another transaction is already open", _BUSY)
    if repository.in_transaction:
        return _error(
            f"Repository {repository.name} is in a transaction but {repository.mount} is not mounted read/write"
        )
    if control.read().get("web_server") == "down":
        return _error("cannot load whitelist", _NO_WHITELIST)
    return publishing.ingest(
        repository,
        control,
        Path(options["-t"]),
        options["-b"],
        catalog="-c" in options,
        keep_owner="-k" in options,
    )


def _gc(repository: Repository, options: Options, control: Control) -> int:
    code = _refused(repository)
    if code:
        return code
    kept = {str(repository.published), *(str(tag["revision"]) for tag in repository.tags())}
    for place in repository.store.iterdir():
        if place.name.isdigit() and place.name not in kept:
            trees.remove(place)
    return 0


def _check(repository: Repository, options: Options, control: Control) -> int:
    return _refused(repository) or (0 if repository.revision(repository.published).is_dir() else 1)


def _tag(repository: Repository, options: Options, control: Control) -> int:
    code = _refused(repository)
    if code:
        return code
    if "-r" in options:
        repository.set_tags([tag for tag in repository.tags() if tag["name"] != options["-r"]])
    for tag in repository.tags():
        print(tag["name"], tag["revision"])
    return 0


# Each with its options, in getopt's form, and those that must be there.
_COMMANDS: dict[str, tuple[Callable[[Repository, Options, Control], int], str, tuple[str, ...]]] = {
    "mkfs": (_mkfs, "o:f:", ("-o",)),
    "transaction": (_transaction, "t:", ()),
    "publish": (_publish, "fa:", ()),
    "abort": (_abort, "f", ()),
    "mount": (_mount, "", ()),
    "ingest": (_ingest, "t:b:ck", ("-t", "-b")),
    "gc": (_gc, "f", ()),
    "check": (_check, "", ()),
    "tag": (_tag, "lr:", ()),
}


def _refused(repository: Repository) -> int:
    if not repository.exists:
        return _error(f"Unable to find the configuration file of {repository.name}")
    if not repository.is_mine:
        return _error(f"Permission error: No write permission to {repository.name}")
    return 0


def _error(text: str, code: int = 1) -> int:
    print(text, file=sys.stderr)
    return code


def main(root: Path, arguments: list[str]) -> int:
    """One command; gives its exit code."""
    try:
        command, letters, needed = _COMMANDS[arguments[0]]
        pairs, rest = getopt.gnu_getopt(arguments[1:], letters)
        options = dict(pairs)
        for letter in needed:
            options[letter]
        (name,) = rest
    except (IndexError, KeyError, ValueError, getopt.GetoptError) as error:
        return _error(f"{error}\nUsage: cvmfs_server COMMAND [OPTIONS] REPOSITORY", _USAGE)
    repository = Repository(root, name)
    try:
        if repository.exists:
            repository.insist_untouched()
        return command(repository, options, Control(root))
    except Tampered as error:
        return _error(f"stand-in: {error}", _INTERNAL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
