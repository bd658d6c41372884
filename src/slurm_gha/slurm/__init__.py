"""The only subprocesses: Slurm commands as argv builders and output parsers."""
