"""``slurm-gha image remove``."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.image.options import find_place, place_options


@click.command()
@click.argument("name")
@place_options
def command(name: str, config: Path | None, directory: Path | None) -> None:
    """Take away a name. The image itself goes with gc, when it has no other name and no job uses it."""
    find_place(config, directory).catalogue.drop_name(name)
    click.echo(f"{name} is no longer a name; slurm-gha image gc frees the space")
