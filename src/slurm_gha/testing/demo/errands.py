"""Commands that the demo waits for, and ends when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

from slurm_gha.testing.demo.interruption import Interrupted, Interruption

# An interrupted command may tidy up for so long (seconds).
_TIDYING = 20.0
_NAP = 0.1
_WORDS = 300


class ErrandError(Exception):
    """A command failed; the text is what it said."""


def run(
    argv: Sequence[str], interruption: Interruption, env: Mapping[str, str] | None = None, words: str = ""
) -> tuple[int, str]:
    """The command's exit status and output; ``words`` go to its standard input. Raises Interrupted.

    In a session of its own, so that the terminal's ^C reaches us alone.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
        given.write(words.encode())
        given.seek(0)
        process = subprocess.Popen(
            argv, env=env, cwd="/", stdin=given, stdout=output, stderr=output, start_new_session=True
        )
        try:
            while process.poll() is None:
                interruption.pause(_NAP)
        except Interrupted:
            _end(process)
            raise
        output.seek(0)
        return process.returncode, output.read().decode(errors="replace")


def succeed(
    argv: Sequence[str], interruption: Interruption, env: Mapping[str, str] | None = None, words: str = ""
) -> None:
    """Run it; raises ErrandError with the end of its output, on one line, if it fails."""
    status, output = run(argv, interruption, env, words)
    if status != 0:
        said = "; ".join(line.strip() for line in output.splitlines() if line.strip())
        raise ErrandError(said[-_WORDS:] or f"{argv[0]} failed with exit status {status}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, _TIDYING), (signal.SIGKILL, _TIDYING)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
