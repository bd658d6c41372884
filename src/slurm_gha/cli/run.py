"""``slurm-gha run``: the service."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import anyio
import click

from slurm_gha.cli.options import config_option
from slurm_gha.service import run_service
from slurm_gha.store.errors import StoreError
from slurm_gha.web.serve import CannotListen


@click.command(name="run")
@config_option
def command(config: Path) -> None:
    """Run the service: watch GitHub, submit runners, take them away again.

    SIGHUP reads the configuration again; SIGTERM stops the service and touches no running job.
    """
    try:
        anyio.run(partial(run_service, config))
    except* (StoreError, CannotListen, OSError) as failures:
        for failure in _leaves(failures):
            click.echo(f"slurm-gha: {failure}", err=True)
        sys.exit(1)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
