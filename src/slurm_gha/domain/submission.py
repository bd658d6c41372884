"""What is handed to Slurm for one runner."""

from __future__ import annotations

from dataclasses import dataclass, field

from slurm_gha.domain.pool import SlurmRequest


@dataclass(frozen=True, slots=True)
class Submission:
    """One sbatch call. ``script`` goes in on standard input and never shows in a representation.

    ``input_path`` becomes the batch script's standard input (a private file), ``output_path`` its output.
    ``signal_before_end``: seconds before the time limit at which the script is warned (USR1).
    """

    name: str
    request: SlurmRequest
    script: str = field(repr=False)
    comment: str
    output_path: str
    input_path: str | None = None
    signal_before_end: int = 60
