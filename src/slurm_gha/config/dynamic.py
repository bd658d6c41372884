"""The table ``[pool.dynamic]``: what jobs may ask for by their labels, and how far."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, Strict

from slurm_gha.config.fields import Memory, TimeLimit, Written, from_text
from slurm_gha.config.table import Table
from slurm_gha.domain.pool import Bounds, GpuBound

_GPUS = re.compile(r"(?:([A-Za-z0-9_.-]{1,40}):)?([1-9][0-9]{0,5})")


def parse_gpus(text: str) -> GpuBound:
    """``a100:4``, or ``4`` of any type; raises ValueError with what is allowed."""
    match = _GPUS.fullmatch(text)
    if match is None:
        raise ValueError('must be a type of GPUs and their most, such as "a100:4", or their most alone, such as "4"')
    return GpuBound(int(match[2]), match[1] or "")


def as_list(value: object) -> object:
    """Several in one text, with commas between them."""
    return value.split(",") if isinstance(value, str) else value


GpuBounds = Annotated[
    tuple[Annotated[GpuBound, Written("text"), from_text(parse_gpus)], ...], Strict(False), BeforeValidator(as_list)
]


class DynamicSettings(Table):
    """Bounds of what jobs may ask for by labels such as `slurm-cpus=8`. What has no bound may not be asked for."""

    max_cpus: int | None = Field(default=None, ge=1, le=65_536, description="Most CPUs on each node (`slurm-cpus=8`).")
    max_mem: Memory | None = Field(default=None, description="Most memory on each node (`slurm-mem=32G`).")
    max_time: TimeLimit | None = Field(default=None, description="Longest time limit (`slurm-time=2h`).")
    max_nodes: int | None = Field(
        default=None, ge=1, le=65_536, description="Most nodes (`slurm-nodes=4`); for the launcher `host`."
    )
    gpus: GpuBounds = Field(
        default=(),
        description='Most GPUs on each node, by type in Slurm\'s spelling: `["a100:4", "v100:2"]` '
        '(`slurm-gpus=a100:2`); or `"4"` where GPUs have no type (`slurm-gpus=2`).',
    )
    max_tmpdisk: Memory | None = Field(
        default=None,
        description="Most of the generic resource `tmpdisk`, counted in MB, on each node (`slurm-tmpdisk=20G`).",
    )

    def bounds(self, memory_per_cpu: int | None, least_seconds: float) -> Bounds:
        """The bounds in the domain's words."""
        return Bounds(
            cpus=self.max_cpus,
            memory_mb=self.max_mem,
            time_seconds=self.max_time,
            nodes=self.max_nodes,
            gpus=self.gpus,
            tmpdisk_mb=self.max_tmpdisk,
            memory_per_cpu_mb=memory_per_cpu,
            least_seconds=int(least_seconds),
        )
