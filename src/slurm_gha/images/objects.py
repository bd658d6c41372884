"""The files that unpacked trees share. One that only its own name links to belongs to no tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def unused(objects: Path) -> Iterator[tuple[Path, int]]:
    """Objects that no tree uses, and their sizes. A writer's object has a second link before it has its own name."""
    for path in objects.glob("??/*"):
        with suppress(FileNotFoundError):
            state = path.lstat()
            if state.st_nlink == 1:
                yield path, state.st_size


def drop_unused(objects: Path) -> int:
    """Remove them; how many bytes that freed. Whoever wants one at this moment writes it again."""
    freed = 0
    for path, size in unused(objects):
        with suppress(FileNotFoundError):
            path.unlink()
            freed += size
    return freed
