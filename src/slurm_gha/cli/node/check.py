"""``slurm-gha node check``: what does a node lack?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from slurm_gha.cli.options import config_option
from slurm_gha.config.loading import load
from slurm_gha.config.pools import PoolSettings
from slurm_gha.config.schema import Settings
from slurm_gha.domain.pool import Container, Handover, Launcher
from slurm_gha.service import node_site
from slurm_gha.slurm.script import ScriptValues
from slurm_gha.slurm.tools import Checked, check_script


@click.command(name="check")
@config_option
@click.option("--pool", "pools", multiple=True, metavar="NAME", help="Only for this pool; may be repeated.")
@click.option(
    "--launcher",
    type=click.Choice([launcher.value for launcher in Launcher]),
    help="For a launcher alone; no configuration is read.",
)
@click.option("--node-dir", default="/tmp", show_default=True, help="With --launcher: directory of the runners.")  # noqa: S108
@click.option("--try", "start", is_flag=True, help="Start each engine for real, get the image, and take it down again.")
@click.option("--print", "printed", is_flag=True, help="Print the script that checks, to run it on another node.")
def command(
    config: Path, pools: tuple[str, ...], launcher: str | None, node_dir: str, start: bool, printed: bool
) -> None:
    """Tell line by line what this node lacks for the runners of each pool.

    Run it as the service's user, on a compute node. Where slurm-gha is not installed, bash is enough:

    \b
        slurm-gha node check --print | srun -w n1 bash -s
        slurm-gha node check --print | ssh n1 bash -s

    Exit status: 0 if all is well, 1 if something is missing.
    """
    if launcher is not None:
        if pools:
            raise click.UsageError("--launcher and --pool do not go together: a pool has its launcher")
        if not node_dir.startswith("/"):
            raise click.UsageError("--node-dir must be an absolute path")
        checked = [_of_launcher(Launcher(launcher), node_dir, start)]
    else:
        checked = list(_of_pools(load(config), pools, start))
    script = check_script(checked)
    if printed:
        click.echo(script, nl=False)
        return
    done = subprocess.run(["/bin/bash", "-p", "-s"], input=script.encode(), check=False)
    sys.exit(1 if done.returncode else 0)


def _of_launcher(launcher: Launcher, node_dir: str, start: bool) -> Checked:
    container = None if launcher is Launcher.HOST else Container(image="")
    values = ScriptValues(
        name="check", handover=Handover.STDIN, runner_dir="", node_dir=node_dir, launcher=launcher, container=container
    )
    return Checked("without a pool", values, start=start)


def _of_pools(settings: Settings, names: tuple[str, ...], start: bool) -> Iterator[Checked]:
    known = {table.name: table for table in settings.pool_tables}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"there is no pool {unknown[0]}; the pools are {', '.join(known)}")
    told = False
    for table in settings.pool_tables:
        if not names or table.name in names:
            yield _of_pool(settings, table, start)
            told = True
    if not told:
        raise click.UsageError("the configuration has no pool")


def _of_pool(settings: Settings, table: PoolSettings, start: bool) -> Checked:
    pool = table.pool([scope.name for scope in settings.scope_tables])
    claims = pool.handover is Handover.CLAIM
    service = settings.service
    values = ScriptValues(
        name="check",
        # A claim needs a secret, which a check has no use for.
        handover=Handover.STDIN,
        runner_dir=pool.runner_dir,
        node_dir=str(settings.slurm.node_dir),
        launcher=pool.launcher,
        container=pool.container,
        site=node_site(settings),
    )
    return Checked(
        f"pool {pool.name}",
        values,
        node_url=(service.node_url or "") if claims else "",
        ca_file="" if service.ca_file is None or not claims else str(service.ca_file),
        hosts=tuple(dict.fromkeys(_hosts(settings, table))),
        start=start,
    )


def _hosts(settings: Settings, table: PoolSettings) -> Iterator[str]:
    """Names that a runner has to know: the service's, GitHub's, and those of registries."""
    service = settings.service
    if service.node_url is not None and table.handover is Handover.CLAIM:
        yield from _host_of(service.node_url)
    for scope in settings.scope_tables:
        if table.scopes is None or scope.name in table.scopes:
            yield from _host_of(scope.url)
    if table.launcher is Launcher.HOST:
        return
    for url in settings.images.mirrors.values():
        yield from _host_of(url)
    image = (table.image or "").removeprefix("docker://")
    first, _, rest = image.partition("/")
    if rest and first and ("." in first or ":" in first):
        yield from _host_of(f"https://{first}")


def _host_of(url: str) -> Iterator[str]:
    host = urlsplit(url).hostname
    if host:
        yield host
