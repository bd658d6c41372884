"""What an administrator writes with a unit, or as an address. Every function raises ValueError with what is allowed."""

from __future__ import annotations

import re

from slurm_gha.domain.units import LONGEST, parse_duration, parse_memory, parse_time_limit, show_duration, show_memory

__all__ = [
    "LONGEST",
    "parse_address",
    "parse_clock",
    "parse_duration",
    "parse_memory",
    "parse_time_limit",
    "show_duration",
    "show_memory",
]


def parse_clock(text: str) -> int:
    """Minutes since midnight of ``08:00``; ``24:00`` is the day's end."""
    match = re.fullmatch(r"([0-9]{2}):([0-9]{2})", text)
    if match is None or int(match[2]) > 59 or int(match[1]) * 60 + int(match[2]) > 24 * 60:
        raise ValueError('must be a time of day from "00:00" to "24:00"')
    return int(match[1]) * 60 + int(match[2])


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[IPv6]:port``."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", text)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise ValueError('must be host:port, such as "0.0.0.0:8480" or "[::]:8480", with a port from 1 to 65535')
    return match[1].strip("[]"), int(match[2])
