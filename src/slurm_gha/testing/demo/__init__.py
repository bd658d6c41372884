"""A whole tour on one machine: real Slurm, simulated GitHub, the real service, a repository with real workflows."""
