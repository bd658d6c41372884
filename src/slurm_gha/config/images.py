"""The table ``[images]``: images of runners, and what makes them quick to get."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from slurm_gha.config.cvmfs import CvmfsTable
from slurm_gha.config.fields import AbsolutePath, MirrorUrl, RegistryHost
from slurm_gha.config.table import Table


class ImageSettings(Table):
    """Images of runners: where they are, and what makes them quick to get. Only for container launchers."""

    dir: AbsolutePath | None = Field(
        default=None,
        description="The catalogue of images that `slurm-gha image` keeps, on a filesystem that nodes share.",
    )
    stores_dir: AbsolutePath = Field(
        default=Path("/run/slurm-gha/stores"), description="Where nodes have the images' read-only stores mounted."
    )
    mirrors: dict[RegistryHost, MirrorUrl] = Field(
        default_factory=dict,
        description="Pull-through caches by registry. One that does not answer costs a direct pull, not the job.",
    )
    cvmfs: CvmfsTable | None = Field(default=None, description="Table `[images.cvmfs]`, see below.")
