"""Reads a docker-archive: the tar file that ``docker save`` and ``podman save`` write."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from slurm_gha.images.errors import ImageError

_GZIP = b"\x1f\x8b"
_LISTENER = "bin/Runner.Listener"
_VERSION = re.compile(rb'"Runner\.Listener/([0-9][0-9A-Za-z.+-]{0,40})"')


@dataclass(frozen=True, slots=True)
class Archive:
    """What stands in an archive of one image. ``layers``: names of the members, the lowest layer first."""

    path: Path
    digest: str
    config: Mapping[str, Any]
    layers: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def architecture(self) -> str:
        return str(self.config.get("architecture") or "unknown")


@dataclass(frozen=True, slots=True)
class Contents:
    """Bytes of all layers; where in the image a runner lies, and its version."""

    size: int
    runner_dir: str | None
    runner_version: str | None


def read_archive(path: Path, source: Path | None = None) -> Archive:
    """Read what is in an archive; raises ImageError if it holds not exactly one image.

    ``source``: the file that a copy was made of, for the sentence.
    """
    named = source if source is not None else path
    try:
        with tarfile.open(path, "r:") as tar:
            manifest = json.loads(_member(tar, "manifest.json"))
            if not isinstance(manifest, list) or len(manifest) != 1:
                raise ImageError(f"{named} holds {len(manifest)} images; one is needed: docker save REFERENCE")
            config = _member(tar, manifest[0]["Config"])
            layers = tuple(manifest[0]["Layers"])
            tags = tuple(manifest[0].get("RepoTags") or ())
            return Archive(path, hashlib.sha256(config).hexdigest(), json.loads(config), layers, tags)
    except FileNotFoundError:
        raise ImageError(f"{named} does not exist") from None
    except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError):
        text = f"{named} is no image archive; make one with docker save or podman save --format docker-archive"
        raise ImageError(text) from None
    except OSError as error:
        raise ImageError(f"{named} cannot be read: {error.strerror}") from None


def copy_archive(source: Path, target: Path) -> None:
    """Copy an archive, unpacked if it is compressed with gzip."""
    with source.open("rb") as file, target.open("wb") as out:
        packed = file.read(2) == _GZIP
        file.seek(0)
        if not packed:
            shutil.copyfileobj(file, out, 1 << 20)
            return
        try:
            with gzip.open(file) as unpacked:
                shutil.copyfileobj(unpacked, out, 1 << 20)
        except (EOFError, gzip.BadGzipFile):
            raise ImageError(f"{source} is damaged: it ends too early, or is not what it begins as") from None


@contextmanager
def layer(tar: tarfile.TarFile, name: str) -> Iterator[tarfile.TarFile]:
    """One layer of an opened archive, plain or compressed with gzip."""
    file = tar.extractfile(name)
    if file is None:
        raise ImageError(f"the archive lacks its layer {name}")
    packed = file.read(2) == _GZIP
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:gz" if packed else "r:") as opened:
        yield opened


def contents(archive: Archive) -> Contents:
    """Look through the layers. The topmost runner counts."""
    size, found, versions = 0, None, dict[str, str]()
    with tarfile.open(archive.path, "r:") as tar:
        for name in archive.layers:
            with layer(tar, name) as opened:
                for member in opened:
                    size += member.size if member.isreg() else 0
                    path = "/" + member.name.removeprefix("./").lstrip("/")
                    if path.endswith(f"/{_LISTENER}"):
                        found = str(PurePosixPath(path).parent.parent)
                    elif path.endswith(f"/{_LISTENER}.deps.json") and member.isreg():
                        file = opened.extractfile(member)
                        version = _VERSION.search(file.read() if file is not None else b"")
                        if version is not None:
                            versions[str(PurePosixPath(path).parent.parent)] = version[1].decode()
    return Contents(size, found, versions.get(found) if found is not None else None)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def layer_sizes(archive: Archive) -> tuple[int, ...]:
    """Bytes of each layer as it is in the archive."""
    with tarfile.open(archive.path, "r:") as tar:
        return tuple(_real_size(tar, name) for name in archive.layers)


def _real_size(tar: tarfile.TarFile, name: str) -> int:
    """Of a layer that may be a link to an equal one."""
    file = tar.extractfile(name)
    return 0 if file is None else file.seek(0, 2)
