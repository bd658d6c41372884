"""``slurm-gha image import``."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.image.options import find_place, place_options
from slurm_gha.cli.image.progress import reporter
from slurm_gha.images.taking import import_archive


@click.command(name="import")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Its name in the catalogue.")
@place_options
def command(archive: Path, name: str, config: Path | None, directory: Path | None) -> None:
    """Take an image from an archive that docker save or podman save wrote, plain or compressed with gzip."""
    image = import_archive(find_place(config, directory).catalogue, archive, name, reporter())
    click.echo(f"{name} is {image.digest}")
