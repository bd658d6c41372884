"""User namespaces: which ids this user may use, and work on files that belong to them."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from slurm_gha.images.errors import ImageError, MissingTool
from slurm_gha.images.process import bound, environment, find


@dataclass(frozen=True, slots=True)
class Ids:
    """The user, and the ranges of subordinate ids that ``/etc/subuid`` and ``/etc/subgid`` give it."""

    uid: int
    gid: int
    subuid: int
    subuid_count: int
    subgid: int
    subgid_count: int

    def fields(self) -> dict[str, str]:
        """For the env files: a store fits only a daemon with the same ids."""
        return {"UID": str(self.uid), "SUBUID": str(self.subuid), "SUBUID_COUNT": str(self.subuid_count)}


def own_ids() -> Ids:
    """The ids of the calling user; raises MissingTool with what the administrator has to do."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise MissingTool(f"user {uid} is not in the user database; container engines need its name") from None
    if uid == 0:
        raise MissingTool(
            "run this as the service's user, not as root: what a rootless engine makes fits only the user who made it "
            "(runuser -u USER -- slurm-gha image …)"
        )
    subuid, subgid = _subordinate("/etc/subuid", name, uid), _subordinate("/etc/subgid", name, uid, "-g")
    if subuid is None or subgid is None:
        file = "/etc/subuid" if subuid is None else "/etc/subgid"
        raise MissingTool(
            f"user {name} has no ids in {file}; give it some, here and on every node alike: "
            f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        )
    return Ids(uid, gid, *subuid, *subgid)


def as_container_root(*argv: str) -> list[str]:
    """``argv`` as root of a user namespace with all of the user's ids, as a rootless engine sees its files."""
    return [find("unshare", "use a user namespace"), "--user", "--map-root-user", "--map-auto", "--", *argv]


def with_own_ids(ids: Ids, *argv: str) -> list[str]:
    """``argv`` with every right over the user's and its subordinate ids, each of which keeps its number.

    What a program reads there are the owners that the kernel has on disk, so what it writes into an image is right for
    a mount on a node, which is made outside of any namespace.
    """
    return [
        find("unshare", "use a user namespace"),
        "--user",
        f"--map-user={ids.uid}",
        f"--map-group={ids.gid}",
        f"--map-users={ids.subuid},{ids.subuid},{ids.subuid_count}",
        f"--map-groups={ids.subgid},{ids.subgid},{ids.subgid_count}",
        "--keep-caps",
        "--",
        *argv,
    ]


def remove_tree(path: Path) -> None:
    """Remove a directory or file, with what containers of this user have left in it."""
    if not path.is_symlink() and not path.exists():
        return
    remove = ["rm", "-rf", "--one-file-system", "--", str(path)]
    tries = [remove]
    if os.geteuid() != 0:
        tries += [as_container_root(*remove), [find("unshare", "remove files"), "--user", "--map-root-user", *remove]]
    for argv in tries:
        done = subprocess.run(bound(argv), env=environment(), capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    raise ImageError(f"{path} cannot be removed: {done.stderr.strip()[:300]}")


def _subordinate(file: str, name: str, uid: int, *options: str) -> tuple[int, int] | None:
    """The first range of the user: from the file, or from where else the site keeps them (``getsubids``)."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError:
        text = ""
    for line in text.splitlines():
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner in (name, str(uid)) and first.isdecimal() and count.strip().isdecimal():
            return int(first), int(count)
    try:
        asked = subprocess.run(["getsubids", *options, name], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    words = asked.stdout.split()  # "0: NAME 100000 65536"
    if asked.returncode == 0 and len(words) >= 4 and words[2].isdecimal() and words[3].isdecimal():
        return int(words[2]), int(words[3])
    return None
