"""Whole days of the production controller in seconds: virtual clock, simulated GitHub and Slurm, one seed."""
