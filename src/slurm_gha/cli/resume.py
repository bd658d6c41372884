"""``slurm-gha resume``: the end of a drain."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.options import config_option
from slurm_gha.config.loading import load
from slurm_gha.service import DRAIN_NAME


@click.command(name="resume")
@config_option
def command(config: Path) -> None:
    """Submit new runners again after a drain."""
    marker = load(config).service.state_dir / DRAIN_NAME
    try:
        marker.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(
            f"cannot remove {marker}: {error.strerror}; run this as the service's user"
        ) from None
    click.echo("resumed: new runners are submitted again")
