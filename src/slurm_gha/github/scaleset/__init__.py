"""The runner scale-set protocol: rules of the wire without I/O, and one client."""
