"""Applies the layers of an archive, one upon the other, to a directory tree of which nothing but names is its own.

Regular files are objects: kept once for all trees, by content, mode and time, and linked hard. Nothing in an archive is
trusted: no path leaves the tree, no symlink in it is ever followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
import tarfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from slurm_gha.images.archive import Archive, layer
from slurm_gha.images.errors import ImageError
from slurm_gha.images.reporter import Reporter

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_BLOCK = 1 << 20


@dataclass(slots=True)
class Tally:
    """What became of the files of an image."""

    files: int = 0
    size: int = 0
    written: int = 0


@dataclass(slots=True)
class Tree:
    """A tree that is being made. ``spare``: a directory for files that are being written, on the same file system."""

    root: Path
    objects: Path
    spare: Path
    tally: Tally = field(default_factory=Tally)
    _fresh: set[str] = field(default_factory=set)  # what the present layer has brought

    def apply(self, archive: Archive, reporter: Reporter) -> None:
        """All layers, the lowest first."""
        with tarfile.open(archive.path, "r:") as tar:
            for name in archive.layers:
                self._fresh = set()
                with layer(tar, name) as opened:
                    for member in opened:
                        self._take(opened, member)
                        reporter.advance(member.size if member.isreg() else 0)

    def _take(self, opened: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            return
        path, last = "/".join(parts), parts[-1]
        if last == _OPAQUE:
            self._hide_below(parts[:-1])
        elif last.startswith(_WHITEOUT):
            self._hide([*parts[:-1], last.removeprefix(_WHITEOUT)])
        else:
            self._parents(parts[:-1])
            self._fresh.add(path)
            self._place(opened, member, self.root / path)

    def _place(self, opened: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
        if member.isdir():
            self._make_directory(target, member.mode)
            return
        _remove(target)
        if member.issym():
            target.symlink_to(member.linkname)
        elif member.islnk():
            source = self.root / "/".join(_parts(member.linkname))
            if not _is_plain_below(source, self.root):
                raise ImageError(f"{member.name} in the image is a link to {member.linkname}, which is not there")
            os.link(source, target, follow_symlinks=False)
        elif member.isreg():
            content = opened.extractfile(member)
            assert content is not None
            self._link(content, target, member)
        elif member.isfifo():
            os.mkfifo(target, 0o644)
        # devices are the node's business

    def _make_directory(self, target: Path, mode: int = 0o755) -> None:
        if target.is_symlink() or not target.is_dir():
            _remove(target)
            target.mkdir()
        # The owner must be able to read and to remove it; the sticky bit matters where many write.
        target.chmod((mode & 0o1777) | 0o700)

    def _parents(self, parts: list[str]) -> None:
        """Real directories all the way: what is not one is hidden by this layer, as an overlay would hide it."""
        for end in range(1, len(parts) + 1):
            path = self.root / "/".join(parts[:end])
            if path.is_symlink() or not path.is_dir():
                self._make_directory(path)

    def _hide(self, parts: list[str]) -> None:
        if "/".join(parts) not in self._fresh and self._real_parent(parts):
            _remove(self.root / "/".join(parts))

    def _hide_below(self, parts: list[str]) -> None:
        """Everything in a directory that lower layers brought."""
        directory = self.root / "/".join(parts)
        if not self._real_parent(parts) or directory.is_symlink() or not directory.is_dir():
            return
        for entry in list(directory.iterdir()):
            path = [*parts, entry.name]
            if "/".join(path) not in self._fresh:
                below = f"{'/'.join(path)}/"
                if any(fresh.startswith(below) for fresh in self._fresh):
                    self._hide_below(path)
                else:
                    _remove(entry)

    def _real_parent(self, parts: list[str]) -> bool:
        """Whether the way to it leads through directories of the tree, and not through a symlink."""
        return _is_plain_below(self.root / "/".join(parts[:-1]), self.root) if len(parts) > 1 else True

    def _link(self, content: IO[bytes], target: Path, member: tarfile.TarInfo) -> None:
        """Make ``target`` a link to the object of this content, which is written if nobody has yet."""
        mode = (member.mode & 0o777) | 0o400
        spare = self.spare / secrets.token_hex(8)
        digest, size = hashlib.sha256(), 0
        with spare.open("xb") as out:
            while block := content.read(_BLOCK):
                digest.update(block)
                out.write(block)
                size += len(block)
        os.utime(spare, (member.mtime, member.mtime))
        spare.chmod(mode)
        self.tally.files += 1
        self.tally.size += size
        name = f"{digest.hexdigest()}.{mode:o}.{int(member.mtime)}"
        known = self.objects / name[:2] / name
        # The spare file goes last: an object always has a second link until the tree has one. See the collector.
        try:
            os.link(known, target)
        except OSError as error:
            if error.errno == errno.ENOENT:
                known.parent.mkdir(exist_ok=True)
                with suppress(FileExistsError):
                    os.link(spare, known)
            elif error.errno != errno.EMLINK:
                raise
            else:  # as many links as the file system bears: a new object takes its place
                second = self.spare / secrets.token_hex(8)
                os.link(spare, second)
                second.rename(known)
            self.tally.written += size
            spare.rename(target)
        else:
            spare.unlink()


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageError(f"the image is not used: the path {name[:200]!r} in it leads out of it")
    return parts


def _is_plain_below(path: Path, root: Path) -> bool:
    """Whether it exists, and no part of the way from ``root`` is a symlink."""
    try:
        while path != root:
            state = path.lstat()
            if stat.S_ISLNK(state.st_mode):
                return False
            path = path.parent
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    try:
        state = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(state.st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()
