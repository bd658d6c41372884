"""``slurm-gha image inspect``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from slurm_gha.cli.image.listing import bytes_in_words, disk_use, for_nodes, known, names_by_digest
from slurm_gha.cli.image.options import find_place, place_options
from slurm_gha.cli.screen import lasting
from slurm_gha.images.archive import layer_sizes, read_archive
from slurm_gha.images.catalogue import age
from slurm_gha.observe.text import presentable


@click.command()
@click.argument("name")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, config: Path | None, directory: Path | None, as_json: bool) -> None:
    """Show all that is known of an image, its layers, and what nodes will do with it. NAME is a name or a digest."""
    catalogue = find_place(config, directory).catalogue
    image = catalogue.find(name)
    names = names_by_digest(catalogue).get(image.digest, ())
    archive = read_archive(catalogue.archive(image))
    layers = layer_sizes(archive)
    forms = catalogue.forms(image.digest)
    found = {
        **known(catalogue, image, names),
        "directory": str(catalogue.directory(image.digest)),
        "markers": list(catalogue.markers(image.digest)),
        "disk": disk_use(catalogue, image.digest),
        "layers": list(layers),
        "nodes": list(for_nodes(image, forms)),
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    runner = f"in {image.runner_dir}, version {image.runner_version or 'unknown'}" if image.runner_dir else "none"
    rows = {
        "names": ", ".join(names) or "none",
        "digest": image.digest,
        "reference": image.reference,
        "pull": image.pull or "not from a registry",
        "created": f"{lasting(age(image))} ago",
        "for": image.architecture,
        "runner": runner,
        "size": f"{bytes_in_words(image.size)} in {len(layers)} layers: {', '.join(map(bytes_in_words, layers))}",
        "directory": found["directory"],
        "on disk": ", ".join(f"{form} {bytes_in_words(size)}" for form, size in found["disk"].items()),
        "forms": ", ".join(forms) or "none",
        "marked by": ", ".join(found["markers"]) or "no job",
    }
    for key, value in rows.items():
        click.echo(f"{key:<10} {presentable(str(value))}")
    click.echo("on nodes")
    for line in found["nodes"]:
        click.echo(f"  {presentable(line)}")
