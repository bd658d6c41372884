"""``python -m slurm_gha`` is the command ``slurm-gha``."""

from slurm_gha.cli import main

main(prog_name="slurm-gha")
