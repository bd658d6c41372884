"""A stand-in for actions/runner: it speaks the same protocol, and runs a job's real steps with act."""
