"""Options that the verbs share, and what they come to together with the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from slurm_gha.cli.options import DEFAULT_CONFIG
from slurm_gha.config.cvmfs import CvmfsTable
from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.cvmfs.settings import CvmfsSettings
from slurm_gha.images.engine import EngineKind

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where images are, and how to get new ones."""

    catalogue: Catalogue
    mirrors: Mapping[str, str] = field(default_factory=dict)
    cvmfs: CvmfsTable | None = None

    def cvmfs_settings(self) -> CvmfsSettings:
        """Where images are published to CVMFS."""
        if self.cvmfs is None:
            raise click.UsageError("There is no CVMFS repository: the configuration needs a table [images.cvmfs]")
        return CvmfsSettings(**self.cvmfs.model_dump(exclude={"wait"}))

    @property
    def cvmfs_wait(self) -> float:
        """How long to wait until nodes see what was published there."""
        return self.cvmfs.wait if self.cvmfs is not None else 0.0


def place_options(function: Command) -> Command:
    """``--config`` and ``--dir``; see :func:`find_place`."""
    function = click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="SLURM_GHA_IMAGES",
        show_envvar=True,
        help="The catalogue itself; no configuration is read then, unless --config names one.",
    )(function)
    return click.option(
        "--config",
        "-c",
        type=click.Path(path_type=Path),
        envvar="SLURM_GHA_CONFIG",
        show_envvar=True,
        help=f"The configuration file, whose [images] dir is the catalogue.  [default: {DEFAULT_CONFIG}]",
    )(function)


def engine_options(function: Command) -> Command:
    """Which engine builds and pulls."""
    function = click.option(
        "--docker-host", metavar="URL", help="A Docker daemon that is there already, such as unix:///run/docker.sock."
    )(function)
    return click.option(
        "--engine",
        type=click.Choice([kind.value for kind in EngineKind]),
        default=EngineKind.DOCKER.value,
        show_default=True,
        help="The private rootless engine to use.",
    )(function)


work_dir_option = click.option(
    "--work-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory on a local disk for engines to work in; without it, the catalogue's own tmp.",
)


def find_place(config: Path | None, directory: Path | None) -> Place:
    """The catalogue that ``--dir`` names, else the configuration's."""
    if directory is not None and config is None:
        return Place(Catalogue(directory.absolute()))
    from slurm_gha.config.loading import load

    images = load(config if config is not None else DEFAULT_CONFIG).images
    chosen = directory.absolute() if directory is not None else images.dir
    if chosen is None:
        raise click.UsageError("There is no catalogue: set dir in [images] of the configuration, or name one: --dir")
    return Place(Catalogue(chosen), images.mirrors, images.cvmfs)
