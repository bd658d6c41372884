"""``slurm-gha image``: images of runners. Each verb lives in a module of its own, imported only when it is used."""

from __future__ import annotations

import importlib
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from slurm_gha.images.errors import ImageError

VERBS = {
    "build": "Build an image from a Dockerfile, with a runner in it.",
    "pull": "Pull an image from a registry.",
    "import": "Take an image from an archive that docker save wrote.",
    "list": "List the images.",
    "inspect": "Show all that is known of an image.",
    "publish": "Give nodes an image in a form that starts quickly.",
    "wait": "Wait until nodes see what was published to CVMFS.",
    "mirror": "Set up, run and check pull-through caches of registries.",
    "remove": "Take away a name; the image goes when nobody uses it.",
    "gc": "Remove images that have no name and are not in use.",
}
"""The verbs and what they are for; each is ``command`` in the module of its name."""

# Names that mean something else to Python: their modules have an underscore at the end.
_TAKEN = frozenset({"import", "list"})


class LazyVerbs(click.Group):
    """Verbs by module name: help and completion import none of them, running one imports one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = f"{cmd_name}_" if cmd_name in _TAKEN else cmd_name
        command = importlib.import_module(f"slurm_gha.cli.image.{module}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"slurm_gha.cli.image.{module}.command is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
        try:
            return super().invoke(ctx)
        except ImageError as error:
            click.echo(f"slurm-gha image: {error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("slurm-gha image: interrupted; nothing in the catalogue was changed", err=True)
            sys.exit(130)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by way of every clean-up."""
    sys.exit(128 + number)


@click.group(name="image", cls=LazyVerbs)
def command() -> None:
    """Build, pull, publish and collect the images of runners.

    All of it is for the user that the service runs as, on a machine that sees the catalogue of images.
    """
