"""``slurm-gha drain``: no new runners; what runs goes on."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.options import config_option
from slurm_gha.config.loading import load
from slurm_gha.service import DRAIN_NAME


@click.command(name="drain")
@config_option
def command(config: Path) -> None:
    """Submit no new runners from now on; running and pending ones go on. It outlives restarts: end it with resume."""
    marker = load(config).service.state_dir / DRAIN_NAME
    try:
        marker.touch(mode=0o600)
    except OSError as error:
        raise click.ClickException(f"cannot write {marker}: {error.strerror}; run this as the service's user") from None
    click.echo("draining: no new runners are submitted")
