"""One repository of the stand-in: revisions, the tree that is worked in, and the state between them.

    store/REPO/N/                    revision N, as clients see it; its attribute user.revision is N
    var/spool/cvmfs/REPO/rdonly      the published revision, mounted (here a symbolic link)
    var/spool/cvmfs/REPO/…           in_transaction, mounted (ro or rw), published (N), is_publishing.lock
    cvmfs/REPO/                      the tree that is worked in; its directory is mode 0555 while it is read-only

As root may write anywhere, a tree that was written while it was read-only is found by its fingerprint, and an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_gha.testing.cvmfs_server import trees


class Tampered(Exception):
    """Somebody wrote into a tree that is read-only on a real stratum 0."""


def user() -> str:
    """The name of whoever runs the command."""
    return pwd.getpwuid(os.geteuid()).pw_name


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository in the stand-in's directory ``root``."""

    root: Path
    name: str

    @property
    def mount(self) -> Path:
        return self.root / "cvmfs" / self.name

    @property
    def spool(self) -> Path:
        return self.root / "var" / "spool" / "cvmfs" / self.name

    @property
    def store(self) -> Path:
        return self.root / "store" / self.name

    @property
    def exists(self) -> bool:
        return (self.store / "owner").exists()

    @property
    def is_mine(self) -> bool:
        """Whether whoever runs the command is the owner. Root is not spared."""
        return (self.store / "owner").read_text().strip() == user()

    @property
    def in_transaction(self) -> bool:
        return (self.spool / "in_transaction").exists()

    @property
    def writable(self) -> bool:
        return (self.spool / "mounted").read_text() == "rw"

    @property
    def published(self) -> int:
        return int((self.spool / "published").read_text())

    @property
    def moving(self) -> bool:
        """Whether an abort is at work."""
        return (self.spool / "mounted").read_text() == "moving"

    def revision(self, number: int) -> Path:
        return self.store / str(number)

    def create(self, owner: str) -> None:
        """Make it, with an empty first revision."""
        for folder in (self.store, self.spool, self.mount.parent):
            folder.mkdir(parents=True, exist_ok=True)
        first = self.revision(1)
        first.mkdir()
        os.setxattr(first, "user.revision", b"1")
        (self.store / "owner").write_text(owner)
        (self.spool / "published").write_text("1")
        self.mount.mkdir()
        self.mount_published()
        self.set_read_only()

    def lock(self) -> int | None:
        """The lock of a publish, as a descriptor that child processes share; None if another holds it."""
        descriptor = os.open(self.spool / "is_publishing.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.set_inheritable(descriptor, True)
        return descriptor

    def begin(self) -> None:
        """Set the mark of a transaction."""
        (self.spool / "in_transaction").touch()

    def end(self) -> None:
        """Take it away."""
        (self.spool / "in_transaction").unlink(missing_ok=True)

    def set_read_only(self) -> None:
        self.mount.chmod(0o555)
        (self.spool / "fingerprint").write_text(trees.fingerprint(self.mount))
        (self.spool / "mounted").write_text("ro")

    def set_writable(self) -> None:
        self.mount.chmod(0o755)
        (self.spool / "mounted").write_text("rw")

    def insist_untouched(self) -> None:
        """Raises Tampered."""
        still = (self.spool / "mounted").read_text() == "ro"
        if still and (self.spool / "fingerprint").read_text() != trees.fingerprint(self.mount):
            raise Tampered(f"{self.mount} was written while it was read-only")

    def mount_published(self) -> None:
        """``rdonly`` shows the published revision."""
        fresh = self.spool / "rdonly.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.revision(self.published))
        fresh.replace(self.spool / "rdonly")

    def restore(self) -> None:
        """The tree that is worked in becomes the published revision again; the transaction ends."""
        (self.spool / "mounted").write_text("moving")
        fresh, old = self.spool / "restored", self.spool / "discarded"
        for place in (fresh, old):
            trees.remove(place)
        trees.copy(self.revision(self.published), fresh)
        self.mount.chmod(0o755)
        self.mount.replace(old)
        fresh.replace(self.mount)
        trees.remove(old)
        self.end()
        self.set_read_only()

    def commit(self, tree: Path, tag: str | None) -> int:
        """A copied tree becomes the next revision."""
        number = self.published + 1
        trees.remove(self.revision(number))
        os.setxattr(tree, "user.revision", str(number).encode())
        tree.replace(self.revision(number))
        fresh = self.spool / "published.new"
        fresh.write_text(str(number))
        fresh.replace(self.spool / "published")
        if tag is not None:
            self.set_tags([*self.tags(), {"name": tag, "revision": number}])
        return number

    def tags(self) -> list[dict[str, Any]]:
        """Names of revisions, which keep their data from garbage collection."""
        place = self.store / "tags.json"
        tags: list[dict[str, Any]] = json.loads(place.read_text()) if place.exists() else []
        return tags

    def set_tags(self, tags: list[dict[str, Any]]) -> None:
        (self.store / "tags.json").write_text(json.dumps(tags))
