"""``slurm-gha node epilog``: the clean-up after a job, for Slurm."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import click

from slurm_gha.cli.options import config_option
from slurm_gha.config.loading import load
from slurm_gha.config.schema import Settings
from slurm_gha.service import node_site
from slurm_gha.slurm.tools import epilog_script


@click.command(name="epilog")
@config_option
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME",
    help="User whose jobs are runners; may be repeated. Without it, the owner of state_dir.",
)
def command(config: Path, users: tuple[str, ...]) -> None:
    """Print an Epilog for Slurm, which removes what a runner has left behind on a node.

    An administrator puts it on all nodes, as Epilog of slurm.conf or into a directory that Epilog names. It does
    nothing after jobs of other users, and always succeeds, as Slurm drains nodes whose Epilog fails.

    \b
        slurm-gha node epilog >/etc/slurm/epilog.d/50-slurm-gha
        chmod 755 /etc/slurm/epilog.d/50-slurm-gha
    """
    settings = load(config)
    chosen = users or (_service_user(settings),)
    click.echo(epilog_script(str(settings.slurm.node_dir), chosen, node_site(settings)), nl=False)


def _service_user(settings: Settings) -> str:
    try:
        uid = settings.service.state_dir.stat().st_uid
    except OSError:
        uid = os.geteuid()
    if uid == 0:
        text = f"{settings.service.state_dir} does not tell who runs the service: name the user with --user"
        raise click.UsageError(text)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
