"""Takes an archive into the catalogue: the last part of build, pull and import."""

from __future__ import annotations

import time
from pathlib import Path

from slurm_gha.images.archive import contents, copy_archive, read_archive
from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.errors import FULL, ImageError, disk_full
from slurm_gha.images.record import ARCHIVE_NAME, Image, checked_name
from slurm_gha.images.reporter import Reporter, step


def local_reference(name: str) -> str:
    """What an image of ours is called in an engine; nothing can be pulled by it."""
    return f"localhost/slurm-gha/{name}:latest"


def take(catalogue: Catalogue, files: Path, name: str, reference: str, pull: str | None, reporter: Reporter) -> Image:
    """Publish the archive in ``files`` (work in progress of this catalogue) under ``name``."""
    with step(reporter, "looking through the layers"):
        archive = read_archive(files / ARCHIVE_NAME)
        found = contents(archive)
    image = Image(
        digest=archive.digest,
        reference=reference,
        created=time.time(),
        size=found.size,
        architecture=archive.architecture,
        pull=pull,
        runner_dir=found.runner_dir,
        runner_version=found.runner_version,
    )
    return catalogue.add(files, image, name)


def import_archive(catalogue: Catalogue, source: Path, name: str, reporter: Reporter) -> Image:
    """An archive that somebody else has made: what ``docker save`` wrote, perhaps compressed with gzip."""
    checked_name(name)
    if not source.is_file():
        raise ImageError(f"{source} is not a file")
    with catalogue.work() as place:
        files = new_files(place)
        try:
            with step(reporter, f"copying {source.name}"):
                copy_archive(source, files / ARCHIVE_NAME)
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(catalogue.root, f"copying {source}") from None
            raise ImageError(f"{source} cannot be copied: {error.strerror}") from None
        tags = read_archive(files / ARCHIVE_NAME, source).tags
        return take(catalogue, files, name, tags[0] if tags else local_reference(name), None, reporter)


def new_files(place: Path) -> Path:
    """The directory that will become the image's."""
    files = place / "image"
    files.mkdir(mode=0o755)
    return files
