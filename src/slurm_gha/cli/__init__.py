"""The command line. Each command lives in a module of its own, which is imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from slurm_gha import __version__
from slurm_gha.config.mistakes import ConfigError

COMMANDS = {
    "run": "Run the service: watch GitHub, submit runners, take them away again.",
    "check": "Check a configuration, and ask Slurm and GitHub whether it is true.",
    "status": "Show jobs waiting and why, runners, Slurm and GitHub on one screen.",
    "drain": "Submit no new runners; those there are go on.",
    "resume": "Submit new runners again after a drain.",
    "image": "Build, pull, publish and collect the images of runners.",
    "node": "Check and prepare compute nodes: what they lack, an Epilog, mounted stores.",
    "demo": "Run a real workflow on a private Slurm and a simulated GitHub.",
}
"""The commands and what they are for; each is ``command`` in the module of its name."""


class LazyGroup(click.Group):
    """Commands by module name: help and completion import none of them, running one imports one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"slurm_gha.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"slurm_gha.cli.{cmd_name}.command is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(str(error), err=True)
            sys.exit(1)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slurm-gha", message="%(prog)s %(version)s")
def main() -> None:
    """GitHub Actions on a Slurm cluster: one ephemeral runner per queued job, as one Slurm job."""
