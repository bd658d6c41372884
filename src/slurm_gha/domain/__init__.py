"""Frozen values and the pure facts about them. No I/O, no clock."""
