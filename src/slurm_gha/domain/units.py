"""Durations, time limits and amounts of memory as people write them, in settings and in labels. Pure.

Every function raises ValueError with a text that says what is allowed.
"""

from __future__ import annotations

import re

_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_SECONDS = (86400, 3600, 60, 1)
LONGEST = 366 * 86400
"""The longest duration that is taken for meant, in seconds."""

# The forms of sbatch --time, without the bare number (minutes there, seconds elsewhere: a trap).
_SLURM_TIME = (
    re.compile(r"(?P<m>[0-9]{1,9}):(?P<s>[0-9]{1,2})"),
    re.compile(r"(?P<h>[0-9]{1,9}):(?P<m>[0-9]{1,2}):(?P<s>[0-9]{1,2})"),
    re.compile(r"(?P<d>[0-9]{1,9})-(?P<h>[0-9]{1,2})(?::(?P<m>[0-9]{1,2})(?::(?P<s>[0-9]{1,2}))?)?"),
)
_MEMORY = re.compile(r"([0-9]{1,12})([KMGT])", re.IGNORECASE)
_KIBIBYTES = {"K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``5m``, ``2h``, ``1d`` or several in that falling order (``1h30m``).

    A bare number is refused: Slurm would take it for minutes, a programmer for seconds.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError('must be a duration with its unit, such as "90s", "5m", "2h", "1d" or "1h30m"')
    seconds = sum(int(number) * unit for number, unit in zip(match.groups(), _SECONDS, strict=True) if number)
    if seconds > LONGEST:
        raise ValueError('must be at most "366d"')
    return float(seconds)


def parse_time_limit(text: str) -> int:
    """Seconds of a time limit: a duration, or Slurm's ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M``, ``D-H:M:S``."""
    for pattern in _SLURM_TIME:
        match = pattern.fullmatch(text)
        if match is not None:
            parts = {unit: int(number) for unit, number in match.groupdict().items() if number}
            seconds = sum(parts.get(unit, 0) * size for unit, size in zip("dhms", _SECONDS, strict=True))
            break
    else:
        try:
            seconds = int(parse_duration(text))
        except ValueError:
            raise ValueError(
                'must be a time limit such as "30m", "1h30m", "1:30:00" (hours:minutes:seconds) or "2-00:00" '
                '(days-hours:minutes), at most "366d"'
            ) from None
    if not 60 <= seconds <= LONGEST:
        raise ValueError('must be from "1m" to "366d"; Slurm counts in minutes')
    return seconds


def parse_memory(text: str) -> int:
    """Mebibytes of ``512M``, ``2G``, ``1T`` or ``2097152K`` (Slurm's units, powers of 1024), rounded up."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise ValueError('must be a whole number with K, M, G or T, such as "512M" or "2G"')
    mebibytes = -(-int(match[1]) * _KIBIBYTES[match[2].upper()] // 1024)
    if not 1 <= mebibytes <= 2**40:
        raise ValueError('must be from "1M" to "1048576T"')
    return mebibytes


def show_memory(mebibytes: int) -> str:
    """An amount of memory as :func:`parse_memory` reads it."""
    amount, unit = mebibytes, "M"
    for larger in "GT":
        if amount % 1024:
            break
        amount, unit = amount // 1024, larger
    return f"{amount}{unit}"


def show_duration(seconds: float) -> str:
    """A duration as :func:`parse_duration` reads it."""
    rest = int(seconds)
    parts = []
    for name, unit in zip("dhms", _SECONDS, strict=True):
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


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
