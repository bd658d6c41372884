"""The tree of an image, as the tar stream that goes to the stratum 0.

What comes out is fit for CVMFS, whatever the source:

- ``/dev``, ``/proc``, ``/sys`` and ``/tmp`` are there as directories, for container engines to mount on;
- ``.cvmfscatalog`` is there, so that the image is a catalog of its own, and its time is that of the publication;
- hard links are files of their own, which CVMFS would make of them anyway, with a warning for each;
- devices, pipes and sockets are left out: nobody can use them on a client;
- everybody may read what the owner may. A client shows all files as another user's, so that a closed directory would
  be closed to the job; and the content of a repository is public in any case: its web server gives it to all.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from slurm_gha.images.cvmfs.errors import BadTree

Progress = Callable[[int, int], None]
"""Told of how much was copied: bytes and entries, both in all."""

CATALOG_MARK = ".cvmfscatalog"
MOUNT_POINTS = {"dev": 0o755, "proc": 0o755, "sys": 0o755, "tmp": 0o1777}


@dataclass(frozen=True, slots=True)
class _Member:
    info: tarfile.TarInfo
    content: Callable[[], IO[bytes]] | None = None


def check(source: Path) -> None:
    """Raises BadTree where it can be told at once that ``source`` is neither a tree nor an archive."""
    try:
        if source.is_dir():
            if next(os.scandir(source), None) is None:
                raise BadTree(f"{source} is an empty directory: there is no image to publish")
            return
        with source.open("rb"):
            pass
        if not tarfile.is_tarfile(source):
            raise BadTree(f"{source} is neither a directory nor a tar archive")
    except OSError as error:
        raise BadTree(f"{source} cannot be read: {error.strerror}") from error


def write(source: Path, stream: IO[bytes], now: float, progress: Progress) -> int:
    """Write the stream and give its length in bytes; raises BadTree. ``now`` becomes the image's time."""
    counted = _Counted(stream)
    entries = 0
    # Not a context: after an error, the stream must not get the end of an archive that is whole.
    sink = cast(IO[bytes], counted)
    archive = tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT)  # noqa: SIM115
    try:
        for member in _with_additions(_members(source), now):
            if member.content is None:
                archive.addfile(member.info)
            else:
                with member.content() as content:
                    archive.addfile(member.info, content)
            entries += 1
            progress(counted.size, entries)
    except BrokenPipeError:
        raise
    except (OSError, tarfile.TarError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        place = getattr(error, "filename", None) or source
        raise BadTree(f"{place} cannot be read: {reason}") from error
    archive.close()
    return counted.size


class _Counted:
    """A stream that counts what is written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0

    def write(self, content: bytes) -> int:
        self._stream.write(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        return self.size


def _with_additions(members: Iterator[_Member], now: float) -> Iterator[_Member]:
    missing = dict(MOUNT_POINTS)
    for member in members:
        name = member.info.name
        if name == CATALOG_MARK or (name in MOUNT_POINTS and not member.info.isdir()):
            continue
        missing.pop(name, None)
        _open(member.info)
        yield member
    for name, mode in missing.items():
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime = tarfile.DIRTYPE, mode, int(now)
        yield _Member(info)
    mark = tarfile.TarInfo(CATALOG_MARK)
    mark.mode, mark.mtime = 0o644, int(now)
    yield _Member(mark)


def _open(info: tarfile.TarInfo) -> None:
    mode = info.mode | (0o700 if info.isdir() else 0o400)
    info.mode = mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.pax_headers = {}


def _members(source: Path) -> Iterator[_Member]:
    return _of_directory(source) if source.is_dir() else _of_archive(source)


def _of_directory(root: Path) -> Iterator[_Member]:
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            status = entry.stat(follow_symlinks=False)
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            if stat.S_ISDIR(status.st_mode):
                info.type = tarfile.DIRTYPE
                waiting.append(name)
                yield _Member(info)
            elif stat.S_ISLNK(status.st_mode):
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.path)
                yield _Member(info)
            elif stat.S_ISREG(status.st_mode):
                info.size = status.st_size
                yield _Member(info, lambda path=entry.path: open(path, "rb"))  # type: ignore[misc]  # noqa: SIM115


def _of_archive(source: Path) -> Iterator[_Member]:
    with tarfile.open(source, "r:*") as archive:
        empty = True
        for member in archive:
            name = _inside(member.name, source)
            if not name:
                continue
            empty = False
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = stat.S_IMODE(member.mode), int(member.mtime)
            if member.isdir():
                info.type = tarfile.DIRTYPE
                yield _Member(info)
            elif member.issym():
                info.type, info.linkname = tarfile.SYMTYPE, member.linkname
                yield _Member(info)
            elif member.isreg() or member.islnk():
                content = _content(archive, member, source)
                info.size = content[1]
                yield _Member(info, lambda file=content[0]: file)  # type: ignore[misc]
        _insist_on_end(archive, source)
        if empty:
            raise BadTree(f"{source} is an empty archive: there is no image to publish")


def _insist_on_end(archive: tarfile.TarFile, source: Path) -> None:
    """An archive that was cut off between two entries reads like a whole one, but for the block of zeros at its end."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise BadTree(f"{source} is not whole: the end of the archive is missing")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, source: Path) -> tuple[IO[bytes], int]:
    """A file's content and size; those of its target, if it is a hard link."""
    seen = {member.name}
    while member.islnk():
        try:
            member = archive.getmember(member.linkname)
        except KeyError:
            raise BadTree(f"{source}: {member.name} is a hard link to {member.linkname}, which is not there") from None
        if member.name in seen:
            raise BadTree(f"{source}: {member.name} is a hard link to itself")
        seen.add(member.name)
    file = archive.extractfile(member)
    if file is None:
        raise BadTree(f"{source}: {member.name} is a hard link to something that is no file")
    return file, member.size


def _inside(name: str, source: Path) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadTree(f"{source}: the entry {name!r} leads out of the image")
    return "/".join(parts)
