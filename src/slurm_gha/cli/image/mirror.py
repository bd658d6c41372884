"""``slurm-gha image mirror``: pull-through caches of registries."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from slurm_gha.cli.options import config_option
from slurm_gha.config.loading import load
from slurm_gha.domain.units import parse_address, parse_duration
from slurm_gha.images import mirror
from slurm_gha.images.mirror import Mirror, MirrorError


@click.group(name="mirror")
def command() -> None:
    """Set up, run and check pull-through caches of registries, which make pulls on nodes quick."""


@command.command(name="write")
@click.argument("upstream")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--storage",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory for what it keeps: tens of GB; made if it is missing.",
)
@click.option("--listen", default="0.0.0.0:5000", show_default=True, help="Address and port.")
@click.option("--ttl", default="7d", show_default=True, help="How long what it has counts as new (distribution 3).")
@click.option(
    "--credentials-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with user:password for the upstream on its first line, closed to others.",
)
@click.option(
    "--unit",
    "unit_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a systemd unit to this file, too.",
)
def write(
    upstream: str,
    file: Path,
    storage: Path,
    listen: str,
    ttl: str,
    credentials_file: Path | None,
    unit_file: Path | None,
) -> None:
    """Write the configuration of a cache of UPSTREAM (docker.io, ghcr.io, a URL) for docker-registry to FILE.

    With credentials, FILE holds them; it is closed to others in any case. Everybody who can reach the cache can then
    pull what these credentials can read.
    """
    file, storage = file.absolute(), storage.absolute()
    try:
        parse_address(listen)
        seconds = int(parse_duration(ttl))
    except ValueError as error:
        raise click.UsageError(f"--listen or --ttl: {error}") from None
    try:
        login = None if credentials_file is None else mirror.read_login(credentials_file)
        wanted = Mirror(upstream, storage, listen, seconds, login)
        text = mirror.registry_config(wanted)
        storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(file, text, 0o600)
        if unit_file is not None:
            _replace(unit_file.absolute(), mirror.unit(wanted, file, _program()), 0o644)
    except MirrorError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename}: {error.strerror}") from None
    click.echo(f"{file}: a cache of {mirror.upstream_url(upstream)} on {listen}; run it with:")
    click.echo(f"  slurm-gha image mirror serve {file}")
    registry = upstream.split("://")[-1].strip("/")
    click.echo("and tell jobs of it in the configuration, under [images.mirrors]:")
    click.echo(f'  "{registry}" = "http://THIS-HOST:{parse_address(listen)[1]}"')


@command.command(name="serve")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def serve(file: Path) -> None:
    """Run docker-registry with FILE, as soon as the upstream answers (it ends at once if it is started before)."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        raise click.ClickException("docker-registry is not on PATH; install the package of that name")
    try:
        upstream = mirror.upstream_of(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from None
    except (MirrorError, ValueError) as error:
        raise click.ClickException(f"{file}: {error}") from None
    for pause in mirror.pauses():
        health = mirror.probe("upstream", upstream, patience=10.0)
        if not health.trouble:
            break
        click.echo(f"upstream {upstream}: {health.trouble}; the cache starts when it answers (next try in {pause:g} s)")
        time.sleep(pause)
    sys.stdout.flush()
    os.execv(program, [program, "serve", str(file)])  # noqa: S606 - becomes it, with an argument list


@command.command(name="check")
@config_option
def check(config: Path) -> None:
    """Ask each of the configured mirrors, and say what jobs do while one is away. Exit status 1 if one is."""
    mirrors = load(config).images.mirrors
    if not mirrors:
        raise click.ClickException(f"{config} names no mirrors: table [images.mirrors]")
    down = 0
    for health in mirror.probe_all(mirrors):
        name = f"{health.registry}: {health.url}"
        if health.trouble:
            down += 1
            click.echo(f"✗ {name} {health.trouble} ({health.seconds:.1f} s); {mirror.without(health)}")
        else:
            click.echo(f"✓ {name} answers with HTTP status {health.status} within {health.seconds:.1f} s")
    sys.exit(1 if down else 0)


def _replace(path: Path, text: str, mode: int) -> None:
    """Write at once, and never open to others in between."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _program() -> str:
    found = Path(sys.argv[0]).absolute()
    return str(found) if found.name == "slurm-gha" else "/usr/local/bin/slurm-gha"
