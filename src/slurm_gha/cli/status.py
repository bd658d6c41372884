"""``slurm-gha status``: what waits and why, what runs, and how Slurm and GitHub do, on one screen."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from slurm_gha.cli.options import DEFAULT_CONFIG
from slurm_gha.cli.screen import Frame, screen
from slurm_gha.observe.status import Status, StatusError, read, to_json
from slurm_gha.store.errors import StoreError
from slurm_gha.store.lock import is_held

# Between two looks at the file (seconds).
PERIOD = 1.0
# Where no terminal sets a width: lines for a file or a pipe (characters).
WIDE = 160


@click.command()
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    envvar="SLURM_GHA_CONFIG",
    show_envvar=True,
    help=f"The configuration file, which names the state directory.  [default: {DEFAULT_CONFIG}]",
)
@click.option(
    "--state-dir", type=click.Path(path_type=Path), help="The state directory itself; no configuration is read."
)
@click.option("--watch", "-w", is_flag=True, help="Keep looking, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch, one line for each change.")
def command(config: Path | None, state_dir: Path | None, watch: bool, as_json: bool) -> None:
    """Show jobs waiting and why, runners, Slurm and GitHub on one screen.

    It reads what the service wrote last, also when the service does not run, and asks neither Slurm nor GitHub.
    Exit status: 0 if there was something to show, 1 if not.
    """
    place = state_dir if state_dir is not None else _state_dir(config or DEFAULT_CONFIG)
    if watch and not as_json and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; use --watch --json for a program.")
    try:
        if not watch:
            _show_once(place, as_json)
        elif as_json:
            _follow(place)
        else:
            _watch(place)
    except StatusError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        pass


def _state_dir(config: Path) -> Path:
    from slurm_gha.config.loading import load

    return load(config).service.state_dir


def _show_once(place: Path, as_json: bool) -> None:
    status = read(place)
    if as_json:
        click.echo(document(status, is_running(place), time.time(), indent=2))
        return
    console = Console()
    height = console.height - 1 if console.is_terminal else None  # the last line is the prompt's
    if height is None and "COLUMNS" not in os.environ:
        console.width = WIDE
    console.print(screen(status, Frame(time.time(), is_running(place), console.width, height)))


def _watch(place: Path) -> None:
    """Redraw in place, in the terminal's second screen: what was there before comes back at the end."""
    console = Console()
    status = read(place)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            frame = Frame(time.time(), is_running(place), console.width, console.height)
            live.update(screen(status, frame), refresh=True)
            time.sleep(PERIOD)
            status = read(place)


def _follow(place: Path) -> None:
    for status in _changes(place):
        click.echo(document(status, is_running(place), time.time()))


def _changes(place: Path) -> Iterator[Status]:
    before = None
    while True:
        status = read(place)
        if status != before:
            yield status
        before = status
        time.sleep(PERIOD)


def is_running(place: Path) -> bool | None:
    """Whether a service holds the state directory; None if this user cannot tell."""
    try:
        return is_held(place)
    except StoreError:
        return None


def document(status: Status, running: bool | None, now: float, indent: int | None = None) -> str:
    """The status as JSON in ASCII, with two fields before it: ``running``, and its ``age`` in seconds."""
    fields: dict[str, Any] = {"running": running, "age": round(max(0.0, now - status.at), 3)}
    return json.dumps({**fields, **json.loads(to_json(status))}, indent=indent)
