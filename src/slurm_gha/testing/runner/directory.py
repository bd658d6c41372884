"""Makes a directory like an unpacked actions/runner, with a Python behind its listener."""

from __future__ import annotations

import shlex
import sys
from importlib import resources
from pathlib import Path

from slurm_gha.testing.runner.carry import carry

_LISTENER = """#!/bin/sh
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
exec {python} -P -m slurm_gha.testing.runner.main "$root" "$@"
"""
_CARRIED = """#!/bin/sh
root=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd)
python={python}
command -v "$python" >/dev/null || {{
  echo "There is no $python here. This runner brings everything it needs but that." >&2
  exit 1
}}
exec "$python" -I -S -B "$root/bin/Runner.Listener.py" "$root" {version} "$@"
"""
_CONFIG = """#!/bin/sh
echo 'This runner takes its configuration from --jitconfig or ACTIONS_RUNNER_INPUT_JITCONFIG only.' >&2
exit 1
"""


def build(path: Path | str, python: str | None = None, *, carried: bool = False) -> None:
    """Make the directory at ``path`` (its parents too).

    ``python`` must have this package with its testing extra; without one it is this Python. With ``carried`` the
    packages and act are in ``externals``: the directory works wherever there is a Python of the same minor version,
    which is ``python`` or the ``python3`` on the runner's PATH.

    Nothing in it is ever written but by a runner that is started in it, so it can be shared read-only and copied.
    """
    root = Path(path)
    for folder in (root, root / "bin", root / "externals"):
        folder.mkdir(parents=True, exist_ok=True)
    _write(root / "run.sh", _shipped("run.sh"))
    _write(root / "config.sh", _CONFIG)
    listener = root / "bin" / "Runner.Listener"
    if not carried:
        _write(listener, _LISTENER.format(python=shlex.quote(python or sys.executable)))
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    _write(listener, _CARRIED.format(python=shlex.quote(python or "python3"), version=version))
    _write(root / "bin" / "Runner.Listener.py", _shipped("listener.py"))
    carry(root / "externals" / "python", root / "externals" / "bin")


def _shipped(name: str) -> str:
    return resources.files("slurm_gha.testing.runner").joinpath(name).read_text()


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
