"""``slurm-gha image publish``."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.image.options import find_place, place_options, work_dir_option
from slurm_gha.cli.image.progress import reporter

FORMS = ("store", "podman", "sif", "unpacked", "estargz", "cvmfs")


@click.command()
@click.argument("name")
@click.option("--to", "form", type=click.Choice(FORMS), required=True, help="The form, as above.")
@place_options
@click.option(
    "--format",
    "store_format",
    type=click.Choice(["erofs", "squashfs"]),
    default="erofs",
    show_default=True,
    help="store: the file system in the file. erofs starts faster, squashfs is smaller.",
)
@click.option("--registry", metavar="HOST/REPOSITORY", help="estargz: where to push it.")
@click.option("--plain-http", is_flag=True, help="estargz: speak to the registry without TLS.")
@click.option("--again", is_flag=True, help="Make the form anew, though it is there.")
@work_dir_option
def command(
    name: str,
    form: str,
    config: Path | None,
    directory: Path | None,
    store_format: str,
    registry: str | None,
    plain_http: bool,
    again: bool,
    work_dir: Path | None,
) -> None:
    """Give nodes an image in a form that starts quickly. NAME is a name or a digest.

    \b
    store     read-only data-root of a Docker daemon, mounted once a node (launcher docker)
    podman    directory for Podman's additionalimagestores (launcher podman)
    sif       a SIF file (launcher apptainer)
    unpacked  a tree of files; equal files are kept once (launcher apptainer)
    estargz   in a registry, for lazy pulling (launcher stargz)
    cvmfs     a tree in the repository of [images.cvmfs] (launcher apptainer)
    """
    place = find_place(config, directory)
    catalogue = place.catalogue
    image = catalogue.find(name)
    told = reporter()
    if form == "store":
        from slurm_gha.images.stores import StoreFormat, publish_store

        chosen = StoreFormat(store_format)
        done = publish_store(catalogue, image, format=chosen, work_dir=work_dir, again=again, reporter=told)
    elif form == "podman":
        from slurm_gha.images.stores import publish_podman

        done = publish_podman(catalogue, image, work_dir=work_dir, again=again, reporter=told)
    elif form == "sif":
        from slurm_gha.images.sif import publish_sif

        done = publish_sif(catalogue, image, work_dir=work_dir, again=again, reporter=told)
    elif form == "unpacked":
        from slurm_gha.images.unpacked import publish_unpacked

        done = publish_unpacked(catalogue, image, again=again, reporter=told) is not None
    elif form == "cvmfs":
        from slurm_gha.images.to_cvmfs import publish_cvmfs

        known = name if name in catalogue.names() else None
        done = publish_cvmfs(catalogue, image, known, place.cvmfs_settings(), reporter=told).changed
    else:
        from slurm_gha.images.estargz import publish_estargz

        if registry is None:
            raise click.UsageError("--to estargz needs --registry HOST/REPOSITORY, where the image is to be pushed")
        done = publish_estargz(
            catalogue,
            image,
            registry=registry,
            plain_http=plain_http,
            work_dir=work_dir,
            again=again,
            reporter=told,
        )
    click.echo(f"{name} is published as {form}" if done else f"{name} was published as {form} already")
