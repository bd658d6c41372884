"""Publishes an image as a tree in a CVMFS repository, and waits until nodes see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.cvmfs.errors import CvmfsError
from slurm_gha.images.cvmfs.gc import collect
from slurm_gha.images.cvmfs.publish import Published
from slurm_gha.images.cvmfs.publish import publish as publish_tree
from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.images.cvmfs.wait import Node
from slurm_gha.images.cvmfs.wait import wait as wait_for
from slurm_gha.images.errors import ImageError, NoSuchImage
from slurm_gha.images.record import Image
from slurm_gha.images.reporter import Reporter, step
from slurm_gha.images.unpacked import unpack


def publish_cvmfs(
    catalogue: Catalogue, image: Image, name: str | None, settings: CvmfsSettings, *, reporter: Reporter
) -> Published:
    """Publish the image's tree, and move ``name`` to it. Nodes that do not see it yet get the image in another way."""
    with _source(catalogue, image, reporter) as source, _sentences(), step(reporter, f"publishing to {settings.where}"):

        def progress(size: int, entries: int) -> None:
            reporter.line(f"{size // 1_000_000} MB, {entries} files")

        published = publish_tree(
            source, image.digest, name, settings, state_dir=catalogue.tmp, progress=progress, say=reporter.line
        )
    values = {"PATH_IN_CVMFS": published.path}
    if published.revision is not None:
        values["REVISION"] = str(published.revision)
    if published.changed or "cvmfs" not in catalogue.forms(image.digest):
        catalogue.attach(image.digest, "cvmfs", None, values)
    return published


def wait_cvmfs(
    catalogue: Catalogue,
    image: Image,
    settings: CvmfsSettings,
    *,
    nodes: Sequence[Node],
    timeout: float,
    reporter: Reporter,
) -> str:
    """Return the image's path when all ``nodes`` see it."""
    values = catalogue.forms(image.digest).get("cvmfs")
    if values is None:
        raise NoSuchImage(f"image {image.digest[:12]} is not published to CVMFS; publish --to cvmfs does it")
    revision = values.get("REVISION", "")
    published = Published(values.get("PATH_IN_CVMFS", ""), int(revision) if revision.isdecimal() else None, True)
    with _sentences(), step(reporter, f"waiting until nodes see {published.path}"):
        wait_for(published, settings, nodes=nodes, timeout=timeout, say=reporter.line)
    return published.path


def collect_cvmfs(
    catalogue: Catalogue, settings: CvmfsSettings, grace: float, *, dry_run: bool, reporter: Reporter
) -> tuple[str, ...]:
    """Remove from the repository what the catalogue no longer has: whatever a job may use is still in the catalogue."""
    here = {image.digest for image in catalogue.images()}
    with _sentences(), step(reporter, f"collecting in {settings.where}"):
        return collect(
            settings,
            grace,
            here.__contains__,
            state_dir=catalogue.tmp,
            dry_run=dry_run,
            say=reporter.line,
        )


@contextmanager
def _source(catalogue: Catalogue, image: Image, reporter: Reporter) -> Iterator[Path]:
    """The unpacked tree: the published one, or one for the moment."""
    if "unpacked" in catalogue.forms(image.digest):
        yield catalogue.directory(image.digest) / "unpacked"
        return
    with catalogue.work() as place:
        with step(reporter, "unpacking", image.size):
            unpack(catalogue.archive(image), place / "unpacked", catalogue.objects, place, reporter)
        yield place / "unpacked"


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except CvmfsError as error:
        raise ImageError(str(error)) from None
