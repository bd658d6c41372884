"""What the tests of publication share: time that passes by itself, a small tree, a stratum 0."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from slurm_gha.images.cvmfs.answers import Answer
from slurm_gha.images.cvmfs.runner import Feed, SystemEdge
from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.testing.cvmfs_server.directory import Stage

NAME = "images.example.org"
ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


class Killed(BaseException):
    """Our process is killed: nothing of it runs any more."""


class VirtualEdge(SystemEdge):
    """Real commands in virtual time. ``on_sleep`` is called with the number of the sleep, from 1.

    ``die_at``: the command at which we are killed, by its number from 1 or by its step; before it, or after it with
    ``late``. See :func:`killed`.
    """

    def __init__(
        self,
        on_sleep: Callable[[int], None] = lambda number: None,
        *,
        die_at: int | str | None = None,
        late: bool = False,
    ) -> None:
        self.time = 1_700_000_000.0
        self.sleeps: list[float] = []
        self.verbs: list[str] = []
        self.on_death: Callable[[], None] = lambda: None
        self._on_sleep = on_sleep
        self._die_at = die_at
        self._late = late
        self._dead = False

    def run(self, argv: Sequence[str], feed: Feed | None = None, timeout: float | None = None) -> Answer:
        verb = argv[4] if argv[:2] == ["sh", "-c"] else argv[0]
        if self._dead:
            raise Killed
        mortal = self._die_at in (len(self.verbs) + 1, verb)
        if mortal and not self._late:
            self._die()
        self.verbs.append(verb)
        answer = super().run(argv, feed, timeout)
        if mortal:
            self._die()
        return answer

    def _die(self) -> None:
        self._dead = True
        self.on_death()
        raise Killed

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.sleeps.append(seconds)
        self._on_sleep(len(self.sleeps))


@contextmanager
def killed(edge: VirtualEdge, state_dir: Path) -> Iterator[None]:
    """What runs in it dies by ``edge``. The files of ``state_dir`` are afterwards as they were at that moment."""
    kept: dict[Path, bytes] = {}
    edge.on_death = lambda: kept.update((place, place.read_bytes()) for place in state_dir.glob("*.json"))
    with pytest.raises(Killed):
        yield
    for place in state_dir.glob("*.json"):
        place.unlink()
    for place, text in kept.items():
        place.write_bytes(text)


def settings_for(stage: Stage, **others: object) -> CvmfsSettings:
    return CvmfsSettings(
        NAME,
        mount_root=str(stage.mount_root),
        spool_root=str(stage.spool_root),
        server=str(stage.server),
        **others,  # type: ignore[arg-type]
    )


def make_tree(place: Path, word: str = "one") -> Path:
    """A small image: programs, a closed directory, links, names with blanks."""
    (place / "usr" / "bin").mkdir(parents=True)
    (place / "etc").mkdir()
    (place / "root").mkdir(mode=0o700)
    (place / "root" / "secretless").write_text(word)
    (place / "root" / "secretless").chmod(0o600)
    (place / "usr" / "bin" / "program").write_text(f"#!/bin/sh\necho {word}\n")
    (place / "usr" / "bin" / "program").chmod(0o4755)
    os.link(place / "usr" / "bin" / "program", place / "usr" / "bin" / "same")
    (place / "bin").symlink_to("usr/bin")
    (place / "etc" / 'it\'s a "name" $HOME').write_text(word)
    (place / "read-only").mkdir()
    (place / "read-only" / "file").write_text(word)
    (place / "read-only").chmod(0o555)
    os.mkfifo(place / "etc" / "pipe")
    return place


def content(tree: Path) -> dict[str, str]:
    """Path to content, target or "directory"."""
    found = {}
    for folder, names, files in os.walk(tree):
        for name in [*names, *files]:
            place = Path(folder, name)
            if place.is_symlink():
                kind = f"-> {place.readlink()}"
            elif place.is_dir():
                kind = "directory"
            else:
                kind = place.read_bytes().decode()
            found[str(place.relative_to(tree))] = kind
    return found


def expected(tree: Path) -> dict[str, str]:
    """What nodes are to see of :func:`make_tree`'s image."""
    whole = {path: kind for path, kind in content_of_source(tree).items() if not path.endswith("pipe")}
    return whole | dict.fromkeys(("dev", "proc", "sys", "tmp"), "directory") | {".cvmfscatalog": ""}


def content_of_source(tree: Path) -> dict[str, str]:
    (tree / "etc" / "pipe").unlink(missing_ok=True)
    return content(tree)
