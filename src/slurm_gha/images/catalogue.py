"""The catalogue: a directory of images by digest, and names that point at them.

Whatever a reader sees is whole: images, forms and names come into being by a rename. Readers take no lock. Writers take
one for the moment of the rename, and a lock of its own for each piece of work in progress (:mod:`.work`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from slurm_gha.images import work
from slurm_gha.images.errors import FULL, ImageError, NoSuchImage, disk_full
from slurm_gha.images.record import (
    ARCHIVE_NAME,
    ENV_NAME,
    JSON_NAME,
    Image,
    checked_name,
    env_text,
    from_json,
    is_digest,
    read_env,
)

FORMS: Mapping[str, tuple[str, ...]] = {
    "store": ("store.erofs", "store.squashfs"),
    "podman": ("podman",),
    "sif": ("image.sif",),
    "unpacked": ("unpacked",),
    "estargz": (),
    "cvmfs": (),
}
"""The forms in which an image can be published, and the files or directories that one may consist of. Each has a file
``FORM.env`` as well, which comes last and goes first: where it is, the form is whole."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The catalogue in one directory."""

    root: Path

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    def directory(self, digest: str) -> Path:
        """Where the image of a digest is."""
        return self.root / digest

    def archive(self, image: Image) -> Path:
        """Its archive, as ``docker load`` takes it."""
        return self.directory(image.digest) / ARCHIVE_NAME

    # Reading

    def images(self) -> tuple[Image, ...]:
        """Every image, the oldest first; raises ImageError if there is no catalogue."""
        try:
            entries = sorted(entry.name for entry in os.scandir(self.root))
        except OSError as error:
            raise ImageError(f"there is no catalogue of images in {self.root}: {error.strerror}") from None
        found = [self._read(entry) for entry in entries if is_digest(entry)]
        return tuple(sorted((image for image in found if image is not None), key=lambda image: image.created))

    def names(self) -> dict[str, str]:
        """Names, and the digests that they point at."""
        found = {}
        with suppress(FileNotFoundError):
            for entry in sorted((self.root / "names").iterdir()):
                with suppress(OSError):
                    found[entry.name] = Path(os.readlink(entry)).name
        return found

    def find(self, word: str) -> Image:
        """The image of a name, a digest, or the beginning of one that is at least 8 digits long."""
        digest = self.names().get(word, word.removeprefix("sha256:"))
        image = self._read(digest) if is_digest(digest) else None
        if image is None and len(digest) >= 8:
            images = [one for one in self.images() if one.digest.startswith(digest)]
            image = images[0] if len(images) == 1 else None
        if image is None:
            names = ", ".join(self.names()) or "it has none"
            raise NoSuchImage(f"there is no image {word!r} in {self.root}; its names: {names}")
        return image

    def forms(self, digest: str) -> dict[str, dict[str, str]]:
        """The forms in which an image is published, each with the values of its env file."""
        read = {form: read_env(self.directory(digest) / f"{form}.env") for form in FORMS}
        return {form: values for form, values in read.items() if values is not None}

    def markers(self, digest: str) -> tuple[str, ...]:
        """The markers ``<cluster>.<Slurm job id>`` that jobs have left."""
        try:
            return tuple(sorted(entry.name for entry in os.scandir(self.root / "uses" / digest)))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def touched(self, digest: str) -> float:
        """When the image last changed, got a form, or lost a name (seconds since the epoch)."""
        return self.directory(digest).stat().st_mtime

    def _read(self, digest: str) -> Image | None:
        file = self.directory(digest) / JSON_NAME
        try:
            return from_json(file.read_text(encoding="utf-8"), file)
        except (FileNotFoundError, NotADirectoryError):
            return None

    # Writing

    def work(self) -> AbstractContextManager[Path]:
        """A directory for work in progress, on the catalogue's file system."""
        self._create()
        return work.work(self.tmp)

    def add(self, files: Path, image: Image, name: str | None) -> Image:
        """Publish the image whose archive is in ``files``, and point ``name`` at it.

        An image that is there already stays, with the forms it has; only its reference and where to pull it from become
        those of ``image``.
        """
        target = self.directory(image.digest)
        with self._writing("publishing the image"):
            (files / JSON_NAME).write_text(image.to_json(), encoding="utf-8")
            (files / ENV_NAME).write_text(image.to_env(), encoding="utf-8")
            open_to_readers(files)
            sync(files)
            with self._lock():
                if self._read(image.digest) is not None:
                    for file in (JSON_NAME, ENV_NAME):
                        (files / file).rename(target / file)
                else:
                    files.rename(target)
                    os.utime(target)
                if name is not None:
                    self._point(name, image.digest)
        return image

    def point(self, name: str, digest: str) -> None:
        """Make ``name`` mean the image of ``digest``."""
        with self._writing("naming the image"), self._lock():
            self._point(name, digest)

    def drop_name(self, name: str) -> None:
        """Take a name away. The image stays until it is collected; its grace begins now."""
        with self._writing("removing the name"), self._lock():
            self._touch(self.names().get(checked_name(name)))
            try:
                (self.root / "names" / name).unlink()
            except FileNotFoundError:
                raise NoSuchImage(f"there is no name {name!r} in {self.root}") from None

    def attach(self, digest: str, form: str, payload: Path | None, values: Mapping[str, str]) -> None:
        """Publish a form of an image: what it consists of (``payload``, in work in progress), then its env file.

        A form that is there is replaced; meanwhile nodes see none, and fall back to what else there is.
        """
        target = self.directory(digest)
        text = env_text(values)
        with self._writing(f"publishing the form {form}"):
            if payload is not None:
                sync(payload)
            with self._lock(), work.work(self.tmp) as aside:
                if self._read(digest) is None:
                    raise NoSuchImage(f"image {digest[:12]} has been removed from {self.root} meanwhile")
                (aside / "env").write_text(text, encoding="utf-8")
                (aside / "env").chmod(0o644)
                (target / f"{form}.env").unlink(missing_ok=True)
                for old in FORMS[form]:
                    if os.path.lexists(target / old):
                        (target / old).rename(aside / old)
                if payload is not None:
                    payload.rename(target / payload.name)
                (aside / "env").rename(target / f"{form}.env")
                os.utime(target)

    def take_out(self, digest: str, aside: Path) -> None:
        """Move an image out of the catalogue, in one step, into work in progress."""
        with self._lock():
            if digest in self.names().values():
                raise ImageError(f"image {digest[:12]} has got a name meanwhile; it stays")
            self.directory(digest).rename(aside / digest)

    def _create(self) -> None:
        self._check_owner()
        try:
            for path in (self.root, self.root / "names", self.objects, self.root / "uses", self.tmp):
                path.mkdir(exist_ok=True)
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(self.root, "beginning") from None
            raise ImageError(
                f"the catalogue {self.root} cannot be written: {error.strerror}; it must be a directory of the "
                "service's user, on a file system that nodes share"
            ) from None

    def _check_owner(self) -> None:
        """What root or somebody else would put there, the owner could neither replace nor remove."""
        with suppress(OSError):
            owner = self.root.stat().st_uid
            if owner != os.geteuid():
                raise ImageError(
                    f"the catalogue {self.root} belongs to another user (uid {owner}), who alone may change it; "
                    "run this as that user: runuser -u USER -- slurm-gha image …"
                )

    def _point(self, name: str, digest: str) -> None:
        names = self.root / "names"
        new = self.tmp / f"name-{secrets.token_hex(6)}"
        before = self.names().get(checked_name(name))
        new.symlink_to(f"../{digest}")
        if before != digest:
            self._touch(before)
        new.rename(names / name)

    def _touch(self, digest: str | None) -> None:
        if digest is not None:
            with suppress(FileNotFoundError):
                os.utime(self.directory(digest))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One writer at a time; held for moments only."""
        with (self.tmp / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for stale in self.tmp.glob("name-*"):  # whoever holds the lock makes none for longer
                stale.unlink(missing_ok=True)
            yield

    @contextmanager
    def _writing(self, doing: str) -> Iterator[None]:
        self._create()
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(self.root, doing) from None
            raise ImageError(f"{doing} in {self.root} failed: {error.strerror}: {error.filename}") from None


def open_to_readers(path: Path) -> None:
    """Whoever may see the directory around them may read these files."""
    path.chmod(0o755)
    for entry in path.iterdir():
        if not entry.is_symlink():
            entry.chmod(stat.S_IMODE(entry.stat().st_mode) | (0o755 if entry.is_dir() else 0o644))


def sync(path: Path) -> None:
    """Have the file system of ``path`` on disk before a rename says that it is there."""
    subprocess.run(["sync", "-f", str(path)], check=False, capture_output=True)


def age(image: Image, now: float | None = None) -> float:
    """How long an image has been in the catalogue (seconds)."""
    return max(0.0, (time.time() if now is None else now) - image.created)
