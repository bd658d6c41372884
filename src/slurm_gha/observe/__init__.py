"""Frozen events; logs, metrics and history listen."""
