"""What goes wrong, and how slowly it goes: a file that tests write and the stand-in reads at each step.

    {"web_server": "down",                 transactions find no whitelist
     "hold": true,                         a publish goes on until this is taken away
     "fail": {"publish": 2, …},            so many of these commands fail, each in its own way
     "kill": {"publish": "sync", …},       the next such command is killed (KILL) at that point, once
     "grace": 0.2}                         seconds that `publish -f` leaves to readers; 60 if not said

Points of a publish: ``start`` (locked, nothing done), ``sync`` (its cvmfs_swissknife is at work and lives on),
``committed`` (the new revision is out, but not mounted here). Of a transaction: ``start``, ``open``. Of an abort:
``start``, ``done``. Of an ingest: ``start``, ``sync``.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "control.json"
DEFAULT_GRACE = 60.0


@dataclass(frozen=True, slots=True)
class Control:
    """The control file in a stand-in's directory."""

    root: Path

    def set(self, **values: Any) -> None:
        """Replace what the file says."""
        with self._locked():
            self._write(values)

    def read(self) -> dict[str, Any]:
        """What it says now."""
        try:
            content: dict[str, Any] = json.loads((self.root / FILE_NAME).read_text())
        except FileNotFoundError:
            return {}
        return content

    def fails(self, command: str) -> bool:
        """Whether this command is to fail; counts down."""
        with self._locked():
            content = self.read()
            left = content.get("fail", {}).get(command, 0)
            if left:
                content["fail"][command] = left - 1
                self._write(content)
        return bool(left)

    def pass_point(self, command: str, point: str) -> None:
        """Die here, if that is what the file says."""
        with self._locked():
            content = self.read()
            doomed = content.get("kill", {}).get(command) == point
            if doomed:
                del content["kill"][command]
                self._write(content)
        if doomed:
            os.kill(os.getpid(), signal.SIGKILL)

    def _write(self, content: dict[str, Any]) -> None:
        fresh = self.root / f"{FILE_NAME}.new"
        fresh.write_text(json.dumps(content))
        fresh.replace(self.root / FILE_NAME)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / f"{FILE_NAME}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
