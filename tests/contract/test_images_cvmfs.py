"""The form ``cvmfs`` of an image, through the stand-in for cvmfs_server: from the catalogue into the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.containers.images_scene import entry, layer
from tests.unit.cvmfs_bench import NAME

from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.images.errors import ImageError
from slurm_gha.images.record import Image
from slurm_gha.images.reporter import Silent
from slurm_gha.images.taking import import_archive
from slurm_gha.images.to_cvmfs import collect_cvmfs, publish_cvmfs, wait_cvmfs
from slurm_gha.images.unpacked import publish_unpacked
from slurm_gha.testing.cvmfs_server.directory import Stage
from slurm_gha.testing.docker_archive import write_archive


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "cat")


def taken(catalogue: Catalogue, tmp_path: Path, content: bytes = b"x") -> Image:
    members = [entry("bin", mode=0o755), entry("bin/tool", content, mode=0o755), entry("gone", b"")]
    layers = [layer(tmp_path / "1.tar", members), layer(tmp_path / "2.tar", [entry(".wh.gone", b"")])]
    write_archive(tmp_path / "a.tar", layers, "localhost/x:latest")
    return import_archive(catalogue, tmp_path / "a.tar", "tools", Silent())


def published(stage: Stage) -> Path:
    return stage.repository(NAME).spool / "rdonly" / "images"


@pytest.mark.parametrize("unpacked_first", [True, False])
def test_the_tree_gets_there_with_its_name_and_the_catalogue_knows_its_path(
    stage: Stage, settings: CvmfsSettings, catalogue: Catalogue, tmp_path: Path, unpacked_first: bool
) -> None:
    image = taken(catalogue, tmp_path)
    if unpacked_first:
        publish_unpacked(catalogue, image, reporter=Silent())
    done = publish_cvmfs(catalogue, image, "tools", settings, reporter=Silent())
    assert done.changed
    assert done.path == settings.path(image.digest)
    assert (published(stage) / image.digest / "bin/tool").read_bytes() == b"x"
    assert not (published(stage) / image.digest / "gone").exists()
    assert Path(os.readlink(published(stage) / "names/tools")).name == image.digest
    assert catalogue.forms(image.digest)["cvmfs"]["PATH_IN_CVMFS"] == done.path
    assert not publish_cvmfs(catalogue, image, "tools", settings, reporter=Silent()).changed
    assert not list(catalogue.tmp.glob("sg-image-*"))


def test_the_repository_keeps_what_the_catalogue_has(
    stage: Stage, settings: CvmfsSettings, catalogue: Catalogue, tmp_path: Path
) -> None:
    images = [taken(catalogue, tmp_path, content) for content in (b"1", b"2", b"3")]
    for image in images:
        publish_cvmfs(catalogue, image, "tools", settings, reporter=Silent())
    with catalogue.work() as place:
        catalogue.take_out(images[0].digest, place)
    assert collect_cvmfs(catalogue, settings, 0.0, dry_run=True, reporter=Silent()) == (images[0].digest,)
    assert collect_cvmfs(catalogue, settings, 0.0, dry_run=False, reporter=Silent()) == (images[0].digest,)
    assert not (published(stage) / images[0].digest).exists()
    assert (published(stage) / images[1].digest).is_dir()


def test_what_goes_wrong_is_one_sentence_and_the_catalogue_promises_nothing(
    settings: CvmfsSettings, catalogue: Catalogue, tmp_path: Path
) -> None:
    image = taken(catalogue, tmp_path)
    with pytest.raises(ImageError, match="is not published to CVMFS"):
        wait_cvmfs(catalogue, image, settings, nodes=[], timeout=0.0, reporter=Silent())
    other = CvmfsSettings(
        "absent.example.org", server=settings.server, mount_root=str(tmp_path), spool_root=str(tmp_path)
    )
    with pytest.raises(ImageError):
        publish_cvmfs(catalogue, image, "tools", other, reporter=Silent())
    assert catalogue.forms(image.digest) == {}
