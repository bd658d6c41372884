"""Writes a Docker archive, as ``docker load`` reads it, from layers that are tar files: no engine is needed for it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_archive(path: Path, layers: Sequence[Path], reference: str, config: Mapping[str, Any] | None = None) -> str:
    """Write the archive and give the image's digest (64 hexadecimal digits).

    ``config`` is what containers get by default: Env, Cmd, User, Labels, as in the image specification.
    """
    digests = [_digest(layer) for layer in layers]
    image = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": "2024-01-01T00:00:00Z"} for _ in layers],
    }
    text = json.dumps(image, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()
    names = [f"{layer}/layer.tar" for layer in digests]
    manifest = [{"Config": f"{digest}.json", "RepoTags": [reference], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        _add(archive, f"{digest}.json", text)
        for name, layer in zip(names, layers, strict=True):
            archive.add(layer, arcname=name)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return digest


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
