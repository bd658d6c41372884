"""A repository's files as one tarball, as GitHub's archive endpoint packs them."""

from __future__ import annotations

import gzip
import io
import tarfile

from slurm_gha.testing.github.values import Repository


def tarball(repository: Repository, sha: str) -> bytes:
    """All files under one top folder, ``owner-name-sha``; a file that begins with ``#!`` is executable."""
    packed = io.BytesIO()
    top = f"{repository.owner.login}-{repository.name}-{sha[:7]}"
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, text in sorted(repository.files.items()):
            content = text.encode()
            entry = tarfile.TarInfo(f"{top}/{path}")
            entry.size = len(content)
            entry.mode = 0o755 if content.startswith(b"#!") else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), compresslevel=1, mtime=0)
