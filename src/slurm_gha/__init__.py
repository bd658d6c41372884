"""GitHub Actions on a Slurm cluster: one ephemeral runner, one Slurm job."""

__version__ = "0.1.0"
