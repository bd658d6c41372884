"""The catalogue under writers that are killed at any moment: images and forms are whole, names lead somewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from slurm_gha.images import catalogue as catalogue_module
from slurm_gha.images import work as work_module
from slurm_gha.images.catalogue import FORMS, Catalogue
from slurm_gha.images.errors import ImageError
from slurm_gha.images.record import ARCHIVE_NAME, ENV_NAME, Image, read_env

NAMES = ("runner", "gpu")
DIGESTS = ("a" * 64, "b" * 64)
TRIED = ("podman", "estargz")


class Killed(BaseException):
    """The writer is dead: from now on it does nothing, not even clean up."""


@contextmanager
def killed_after(steps: int | None) -> Iterator[None]:
    """Let so many changes to the file system happen, then none. None: all of them."""
    left = steps

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left is not None:
                if left <= 0:
                    raise Killed
                left -= 1
            return function(*arguments, **options)

        return call

    changes = ("rename", "unlink", "mkdir", "rmdir", "symlink_to", "write_text", "chmod")
    with ExitStack() as stack:
        for name in changes:
            stack.enter_context(mock.patch.object(Path, name, mortal(getattr(Path, name))))
        stack.enter_context(mock.patch.object(os, "utime", mortal(os.utime)))
        stack.enter_context(mock.patch.object(work_module, "remove_tree", mortal(_remove)))
        stack.enter_context(mock.patch.object(catalogue_module, "sync", return_value=None))
        yield


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        os.unlink(path)
    elif path.exists():
        shutil.rmtree(path)


def add(catalogue: Catalogue, digest: str, name: str, form: str) -> None:
    with catalogue.work() as place:
        files = place / "image"
        files.mkdir()
        (files / ARCHIVE_NAME).write_text(digest)
        catalogue.add(files, Image(digest, f"localhost/{name}:latest", 1.0, 1, "amd64"), name)


def attach(catalogue: Catalogue, digest: str, name: str, form: str) -> None:
    with catalogue.work() as place:
        payload = None
        if FORMS[form]:
            payload = place / FORMS[form][0]
            payload.mkdir()
            (payload / "content").write_text(digest)
        catalogue.attach(digest, form, payload, {"FORMAT": form})


def point(catalogue: Catalogue, digest: str, name: str, form: str) -> None:
    catalogue.point(name, catalogue.find(digest).digest)


def drop_name(catalogue: Catalogue, digest: str, name: str, form: str) -> None:
    catalogue.drop_name(name)


def collect(catalogue: Catalogue, digest: str, name: str, form: str) -> None:
    catalogue.find(digest)
    with catalogue.work() as place:
        catalogue.take_out(digest, place)


operations = st.tuples(
    st.sampled_from([add, attach, attach, attach, point, drop_name, collect]),
    st.sampled_from(DIGESTS),
    st.sampled_from(NAMES),
    st.sampled_from(TRIED),
    st.none() | st.integers(0, 30),
)


def check(catalogue: Catalogue) -> None:
    """What every reader may rely on at any moment."""
    images = {image.digest for image in catalogue.images()}
    directories = {path.name for path in catalogue.root.iterdir() if len(path.name) == 64}
    assert images == directories, "every directory of an image is whole"
    for digest in images:
        directory = catalogue.directory(digest)
        assert (directory / ARCHIVE_NAME).read_text() == digest
        values = read_env(directory / ENV_NAME)
        assert values is not None
        assert values["DIGEST"] == digest
        for form, found in catalogue.forms(digest).items():
            assert found == {"FORMAT": form}
            if FORMS[form]:
                assert (directory / FORMS[form][0] / "content").read_text() == digest
    assert set(catalogue.names().values()) <= images, "every name leads to an image"


@pytest.mark.parametrize("operation", [add, attach, point, drop_name, collect])
def test_a_kill_at_each_moment_of_an_operation(operation: Any) -> None:
    """On a catalogue that has something to replace: every step is the last one once."""
    for kill in range(100):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            catalogue = Catalogue(Path(directory) / "images")
            with killed_after(None):
                for digest, name in zip(DIGESTS, NAMES, strict=True):
                    add(catalogue, digest, name, "podman")
                    attach(catalogue, digest, name, "podman")
                if operation is collect:
                    drop_name(catalogue, DIGESTS[0], NAMES[0], "podman")
            try:
                with killed_after(kill):
                    operation(catalogue, DIGESTS[0], NAMES[0 if operation is not point else 1], "podman")
            except Killed:
                check(catalogue)
            else:
                check(catalogue)
                return
    raise AssertionError("the operation never comes to its end")


@settings(max_examples=100, deadline=None)
@given(st.lists(operations, min_size=4, max_size=12))
def test_no_kill_leaves_anything_half_done(steps: list[tuple[Any, str, str, str, int | None]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        catalogue = Catalogue(Path(directory) / "images")
        catalogue._create()
        for operation, digest, name, form, kill in steps:
            before = catalogue.names()
            try:
                with killed_after(kill):
                    operation(catalogue, digest, name, form)
            except (Killed, ImageError):
                pass
            check(catalogue)
            others = {key: value for key, value in before.items() if key != name}
            assert {key: value for key, value in catalogue.names().items() if key != name} == others
            if operation not in (point, add, drop_name):
                assert catalogue.names() == before
        age_of(catalogue.tmp)
        with killed_after(None):
            add(catalogue, DIGESTS[0], NAMES[0], "store")  # the next writer, to its end
        check(catalogue)
        assert catalogue.names()[NAMES[0]] == DIGESTS[0]
        assert [path.name for path in catalogue.tmp.iterdir()] == ["lock"], "nothing of the dead is left"


def age_of(tmp: Path) -> None:
    """An hour passes: what has no lock yet may be a writer's that is just beginning."""
    for path in tmp.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
