"""Full disks and kills: what was there stays, what was being made goes, and the next command does its work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.containers.images_scene import Keeper, keeper, small_archive, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one() -> Iterator[Keeper]:
    with keeper() as made:
        yield made


@contextmanager
def small_disk(one: Keeper, megabytes: int) -> Iterator[Path]:
    place = one.home / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=True)
    try:
        yield one.give(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def used(place: Path) -> int:
    state = os.statvfs(place)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def test_a_full_disk_leaves_the_old_image_in_place(one: Keeper) -> None:
    old, digest = small_archive(one.home, "old")
    big, _ = small_archive(one.home, "big", extra=os.urandom(20 << 20))
    with small_disk(one, 12) as disk:
        place = disk / "cat"
        one.image("import", str(old), "--name", "runner", catalogue=place)
        before, contents = used(disk), sorted(path.name for path in place.iterdir())
        attempts = [
            ("import", str(big), "--name", "runner"),
            ("publish", "runner", "--to", "store"),  # a data-root with its layers, unpacked, and the file made of it
            ("publish", "runner", "--to", "podman"),
        ]
        for words in attempts:
            filler = fill(disk, leave=1 << 20)
            done = one.image(*words, check=False, catalogue=place)
            filler.unlink()
            assert done.returncode == 1, done.stdout
            last = done.stderr.splitlines()[-1]
            assert "no space left in" in last, done.stderr
            assert "Traceback" not in done.stderr
            assert (place / "names/runner").resolve().name == digest
            assert sorted(path.name for path in place.iterdir()) == contents
            assert [path.name for path in (place / "tmp").iterdir()] == ["lock"]
            assert used(disk) <= before + 65_536
        one.image("publish", "runner", "--to", "unpacked", catalogue=place)


def test_a_full_disk_leaves_no_objects_of_a_tree_that_never_was(one: Keeper) -> None:
    big, _ = small_archive(one.home, "big", extra=os.urandom(20 << 20))
    with small_disk(one, 36) as disk:
        place = disk / "cat"
        one.image("import", str(big), "--name", "runner", catalogue=place)
        before = used(disk)
        done = one.image("publish", "runner", "--to", "unpacked", check=False, catalogue=place)
        assert done.returncode == 1
        assert "no space left in" in done.stderr.splitlines()[-1]
        assert not list((place / "objects").glob("??/*"))
        assert used(disk) <= before + 2**20  # empty directories


def fill(disk: Path, leave: int) -> Path:
    """A file that takes all but ``leave`` bytes."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(4096, state.f_bavail * state.f_frsize - leave))
    return filler


# What the work directory holds at the moment of the kill: a daemon that starts, one that loads, the file being written.
MOMENTS = ("data", "data/image/overlay2/imagedb/content/sha256/*", "store.erofs")


@pytest.mark.parametrize(
    ("number", "moment"),
    [*((signal.SIGKILL, moment) for moment in MOMENTS), (signal.SIGTERM, MOMENTS[0]), (signal.SIGINT, MOMENTS[1])],
)
def test_a_publish_that_is_killed_is_swept_and_made_again(one: Keeper, number: signal.Signals, moment: str) -> None:
    archive, digest = small_archive(one.home)
    one.image("import", str(archive), "--name", "small")
    home = one.catalogue / digest
    process = subprocess.Popen(
        one.image_argv("publish", "small", "--to", "store", "--again"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(one.catalogue.glob(f"tmp/sg-image-*/{moment}")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), said
    wait_until(lambda: not one.processes(), lambda: str(one.processes()))
    work = list(one.catalogue.glob("tmp/sg-image-*"))
    if number == signal.SIGKILL:
        assert work, "it had no chance to clean up"
        sockets = Path(os.readlink(work[0] / "sockets"))
        assert sockets.is_dir()
    else:
        assert not work
        assert "Traceback" not in said
    one.image("publish", "small", "--to", "store", "--again")
    assert (home / "store.erofs").stat().st_size > 1 << 20
    assert [path.name for path in (one.catalogue / "tmp").iterdir()] == ["lock"]
    if number == signal.SIGKILL:
        assert not sockets.exists()


def test_live_work_is_not_swept(one: Keeper) -> None:
    archive, _ = small_archive(one.home)
    one.image("import", str(archive), "--name", "small")
    first = subprocess.Popen(
        one.image_argv("publish", "small", "--to", "store", "--again"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: bool(list(one.catalogue.glob("tmp/sg-image-*/data"))), lambda: "no work is seen")
    one.image("publish", "small", "--to", "unpacked", "--again")
    said = first.communicate(timeout=60)[1]
    assert first.returncode == 0, said
