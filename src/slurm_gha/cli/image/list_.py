"""``slurm-gha image list``."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from slurm_gha.cli.image.listing import bytes_in_words, known, names_by_digest
from slurm_gha.cli.image.options import find_place, place_options
from slurm_gha.cli.screen import lasting
from slurm_gha.images.catalogue import age

# Where no terminal sets a width (characters).
_WIDE = 160


@click.command(name="list")
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: Path | None, directory: Path | None, as_json: bool) -> None:
    """List the images: names, digest, size, age, the forms they are published in, and how many jobs have marked them.

    A mark is what a job leaves that uses the image; only gc asks Slurm whether the job still lives.
    """
    catalogue = find_place(config, directory).catalogue
    names = names_by_digest(catalogue)
    images = catalogue.images()
    if as_json:
        click.echo(json.dumps([known(catalogue, image, names.get(image.digest, ())) for image in images], indent=2))
        return
    if not images:
        click.echo(f"no images in {catalogue.root}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bright_black")
    for title in ("name", "digest", "size", "age", "forms", "marks"):
        table.add_column(title, justify="right" if title in ("size", "marks") else "left", overflow="fold")
    for image in images:
        table.add_row(
            Text(", ".join(names.get(image.digest, ())) or "-"),
            image.digest[:12],
            bytes_in_words(image.size),
            lasting(age(image)),
            ", ".join(catalogue.forms(image.digest)) or "-",
            str(len(catalogue.markers(image.digest)) or "-"),
        )
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)
