"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

DEFAULT_CONFIG = Path("/etc/slurm-gha/config.toml")

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    envvar="SLURM_GHA_CONFIG",
    show_envvar=True,
    help="The configuration file.",
)
