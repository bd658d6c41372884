"""``slurm-gha image pull``."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.image.options import engine_options, find_place, place_options, work_dir_option
from slurm_gha.cli.image.progress import reporter
from slurm_gha.images.engine import EngineKind
from slurm_gha.images.pulling import pull


@click.command()
@click.argument("reference")
@place_options
@click.option("--name", help="Its name in the catalogue.  [default: the last part of the repository's]")
@engine_options
@work_dir_option
def command(
    reference: str,
    config: Path | None,
    directory: Path | None,
    name: str | None,
    engine: str,
    docker_host: str | None,
    work_dir: Path | None,
) -> None:
    """Pull an image from a registry into the catalogue.

    It comes through the registry's mirror if the configuration names one, and from the registry itself if that fails.
    The registry's digest is kept: nodes that pull get the very same image. Credentials are those of docker login.
    """
    place = find_place(config, directory)
    image = pull(
        place.catalogue,
        reference,
        name=name,
        mirrors=place.mirrors,
        engine=EngineKind(engine),
        docker_host=docker_host,
        work_dir=work_dir,
        reporter=reporter(),
    )
    names = [known for known, digest in place.catalogue.names().items() if digest == image.digest]
    click.echo(f"{', '.join(names)} is {image.digest}")
