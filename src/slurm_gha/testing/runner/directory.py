"""Makes a directory like an unpacked actions/runner, with this Python behind its listener."""

from __future__ import annotations

import shlex
import sys
from importlib import resources
from pathlib import Path

_LISTENER = """#!/bin/sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
exec {python} -P -m slurm_gha.testing.runner.main "$root" "$@"
"""
_CONFIG = """#!/bin/sh
echo 'This runner takes its configuration from --jitconfig or ACTIONS_RUNNER_INPUT_JITCONFIG only.' >&2
exit 1
"""


def build(path: Path | str, python: str = sys.executable) -> None:
    """Make the directory at ``path`` (its parents too). ``python`` must have this package with its testing extra.

    Nothing in it is ever written but by a runner that is started in it, so it can be shared read-only and copied.
    """
    root = Path(path)
    for folder in (root, root / "bin", root / "externals"):
        folder.mkdir(parents=True, exist_ok=True)
    run = resources.files("slurm_gha.testing.runner").joinpath("run.sh").read_text()
    _write(root / "run.sh", run)
    _write(root / "config.sh", _CONFIG)
    _write(root / "bin" / "Runner.Listener", _LISTENER.format(python=shlex.quote(python)))


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
