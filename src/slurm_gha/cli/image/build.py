"""``slurm-gha image build``."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.image.options import engine_options, find_place, place_options, work_dir_option
from slurm_gha.cli.image.progress import reporter
from slurm_gha.images.building import DEFAULT_BASE, Recipe, build
from slurm_gha.images.engine import EngineKind

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@place_options
@click.option("--name", default="runner", show_default=True, help="Its name in the catalogue.")
@click.option("--runner", type=click.Path(path_type=Path), help="actions/runner: its tarball, or a directory.")
@click.option(
    "--base", metavar="REFERENCE", help=f"What to build upon (build argument BASE).  [default: {DEFAULT_BASE}]"
)
@click.option("--base-archive", type=_FILE, help="A tar of a root file system to build upon; needs no registry.")
@click.option("--file", "dockerfile", type=_FILE, help="Your own Dockerfile in place of the one that ships.")
@click.option("--context", type=click.Path(path_type=Path), help="Directory of what your Dockerfile copies.")
@click.option("--docker-cli", type=_FILE, help="Static Docker client for the image.  [default: this machine's]")
@click.option("--build-arg", "arguments", metavar="KEY=VALUE", multiple=True, help="Build argument; may be repeated.")
@engine_options
@work_dir_option
def command(
    config: Path | None,
    directory: Path | None,
    name: str,
    runner: Path | None,
    base: str | None,
    base_archive: Path | None,
    dockerfile: Path | None,
    context: Path | None,
    docker_cli: Path | None,
    arguments: tuple[str, ...],
    engine: str,
    docker_host: str | None,
    work_dir: Path | None,
) -> None:
    """Build an image from a Dockerfile, with a runner in it.

    The Dockerfile that ships makes of a Debian or Ubuntu base an image with actions/runner in /home/runner, a Docker
    client, git and common tools (build argument PACKAGES). The build context has the runner in runner/ and the Docker
    client in docker/, for a Dockerfile of your own, too. Build arguments stay in the image: no secrets.
    """
    pairs = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or not key:
            raise click.UsageError(f"--build-arg {argument}: needs the form KEY=VALUE")
        pairs[key] = value
    place = find_place(config, directory)
    recipe = Recipe(name, runner, base, base_archive, dockerfile, context, docker_cli, pairs)
    image = build(
        place.catalogue,
        recipe,
        mirrors=place.mirrors,
        engine=EngineKind(engine),
        docker_host=docker_host,
        work_dir=work_dir,
        reporter=reporter(),
    )
    click.echo(f"{name} is {image.digest}")
