"""``slurm-gha demo``: a real workflow on a private Slurm and a simulated GitHub, on this machine."""

from __future__ import annotations

import importlib
import sys

import click


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running at the end, to play with, until Ctrl-C.")
def command(keep: bool) -> None:
    """Run a real workflow on a private Slurm and a simulated GitHub.

    Everything runs on this machine, as an unprivileged user, in directories of its own below /tmp, and is taken down
    again. Slurm, the service, the runners and the jobs' steps are real; GitHub is a simulation of it.
    Exit status: 0 if every job ended as it should and nothing is left.
    """
    try:
        # By name: what is only for tests and tours must not become something that the command line is built upon.
        play = importlib.import_module("slurm_gha.testing.demo.play")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("slurm_gha"):
            raise
        click.echo(f"The demo needs {error.name}; pip install 'slurm-gha[testing]' brings it.", err=True)
        sys.exit(1)
    sys.exit(play.play(play.console_for_output(), keep=keep))
