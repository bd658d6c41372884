"""``slurm-gha node``: what compute nodes need, and whether they have it."""

from __future__ import annotations

import click

from slurm_gha.cli.node import check, epilog, stores


@click.group(name="node")
def command() -> None:
    """Check and prepare compute nodes.

    What runs on nodes is plain bash, printed by these commands: nodes need neither Python nor this program.
    """


command.add_command(check.command)
command.add_command(epilog.command)
command.add_command(stores.command)
