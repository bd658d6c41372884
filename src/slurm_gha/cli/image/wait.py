"""``slurm-gha image wait``."""

from __future__ import annotations

from pathlib import Path

import click

from slurm_gha.cli.image.options import find_place, place_options
from slurm_gha.cli.image.progress import reporter
from slurm_gha.domain.units import parse_duration
from slurm_gha.images.cvmfs.wait import DEFAULT_TIMEOUT, HERE, Node
from slurm_gha.images.to_cvmfs import wait_cvmfs

_VIA = {"ssh": ("ssh",), "srun": ("srun", "--nodes=1", "--ntasks=1", "--nodelist")}


@click.command()
@click.argument("name")
@place_options
@click.option("--node", "nodes", multiple=True, help="A node to look from; may be repeated.  [default: this machine]")
@click.option("--via", type=click.Choice(list(_VIA)), default="ssh", show_default=True, help="How to get to the nodes.")
@click.option("--timeout", help="How long to wait.  [default: wait of the configuration]")
def command(
    name: str, config: Path | None, directory: Path | None, nodes: tuple[str, ...], via: str, timeout: str | None
) -> None:
    """Wait until nodes see an image that was published to CVMFS. NAME is a name or a digest.

    A node looks for a new revision when the repository's time to live is over (four minutes by default). Until then
    its jobs get the image in another way, so nothing has to wait for this. Exit status: 1 if time ran out.
    """
    place = find_place(config, directory)
    settings = place.cvmfs_settings()
    try:
        seconds = parse_duration(timeout) if timeout is not None else place.cvmfs_wait or DEFAULT_TIMEOUT
    except ValueError as error:
        raise click.UsageError(f"--timeout {timeout}: {error}") from None
    bad = [node for node in nodes if node.startswith("-") or not node]
    if bad:
        raise click.UsageError(f"--node {bad[0]!r}: is not the name of a node")
    found = wait_cvmfs(
        place.catalogue,
        place.catalogue.find(name),
        settings,
        nodes=[Node(node, (*_VIA[via], node)) for node in nodes] or [HERE],
        timeout=seconds,
        reporter=reporter(),
    )
    click.echo(f"{found} is there")
