"""Plain bash that runs on the compute node."""
