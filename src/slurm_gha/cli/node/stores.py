"""``slurm-gha node stores``: the mounting of stores, for root on nodes."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.options import config_option
from slurm_gha.config.loading import load
from slurm_gha.service import node_site
from slurm_gha.slurm.tools import stores_script


@click.command(name="stores")
@config_option
def command(config: Path) -> None:
    """Print a script that mounts the read-only stores of the catalogue, for root on each node.

    At boot, by a timer (packaging/slurm-gha-stores.timer), or as Slurm's Prolog. It mounts what is missing, unmounts
    what nobody needs any more, and says nothing if all is as it should be.

    \b
        slurm-gha node stores >/usr/local/sbin/slurm-gha-stores
        chmod 755 /usr/local/sbin/slurm-gha-stores
    """
    settings = load(config)
    if settings.images.dir is None:
        raise click.UsageError(f"{config} names no catalogue of images: dir in [images]")
    click.echo(stores_script(str(settings.slurm.node_dir), node_site(settings)), nl=False)
