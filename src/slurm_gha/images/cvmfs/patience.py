"""Waiting while the repository is busy: pauses that grow, a line for each, an end."""

from __future__ import annotations

from collections.abc import Callable

from slurm_gha.domain.units import show_duration
from slurm_gha.images.cvmfs.errors import StillBusy
from slurm_gha.images.cvmfs.runner import Edge

Say = Callable[[str], None]
"""Shows a line to whoever waits."""

SHORTEST = 1.0
LONGEST = 60.0


class Patience:
    """One publication's patience; ``limit`` seconds in all, however many things are waited for."""

    def __init__(self, edge: Edge, say: Say, where: str, limit: float) -> None:
        self._edge = edge
        self._say = say
        self._where = where
        self._limit = limit
        self._left = limit
        self._pause = SHORTEST

    def wait(self, reason: str, remedy: str = "") -> None:
        """Let a pause pass because of ``reason``; raises StillBusy, with ``remedy``, when patience is at its end."""
        if self._left <= 0:
            text = f"{self._where}: {reason}, still after {show_duration(self._limit)}"
            raise StillBusy(f"{text}; {remedy}" if remedy else text)
        pause = min(self._pause, self._left)
        self._say(
            f"{self._where}: {reason}; trying again in {show_duration(max(pause, 1))}, "
            f"for another {show_duration(max(self._left, 1))} at most"
        )
        self._left -= pause
        self._pause = min(self._pause * 2, LONGEST)
        self._edge.sleep(pause)
