"""Puts all that the listener needs, but for Python itself, into a directory that works on other machines too.

What that is comes from the installed packages' own metadata: those that the listener has loaded once it is imported,
and whatever they require.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePath

from slurm_gha.testing.runner.execute import find_act

OURS, EXTRA = "slurm-gha", "testing"
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_LOADED = "import json, sys, slurm_gha.testing.runner.main; print(json.dumps(sorted(sys.modules)))"
_LEFT_OUT = {"__pycache__", "test", "tests"}
_KINDS_LEFT_OUT = {".pyc", ".pyi", ".c", ".h", ".pxd", ".pyx", ".typed"}


class CarryError(Exception):
    """This Python's packages are not as they should be."""


def carry(packages: Path, programs: Path) -> None:
    """Fill ``packages`` with what the listener imports, and ``programs`` with what it runs.

    Files are hard links where the file system allows it: who changes their owner or mode changes the installed ones.
    """
    for name in _needed():
        for relative, file in _files(name):
            _place(file, packages / relative)
    package = Path(__file__).parents[2]
    for file in package.rglob("*"):
        relative = file.relative_to(package.parent)
        if file.is_file() and "__pycache__" not in relative.parts:
            _place(file, packages / relative)
    _place(Path(find_act()), programs / "act")


def _needed() -> list[str]:
    """The distributions to carry, but for our own, by their normalised names."""
    done = subprocess.run([sys.executable, "-P", "-c", _LOADED], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CarryError(f"the listener cannot be imported by {sys.executable}: {done.stderr.strip()}")
    loaded = {str(name).partition(".")[0] for name in json.loads(done.stdout)}
    providers = metadata.packages_distributions()
    imported = {_normal(provider) for name in loaded for provider in providers.get(name, ())}
    allowed = _closure([(OURS, frozenset({EXTRA}))])
    return sorted(_closure((name, frozenset()) for name in imported & allowed if name != OURS))


def _closure(wanted: Iterable[tuple[str, frozenset[str]]]) -> set[str]:
    """The installed distributions among ``wanted`` (name, extras) and all that they require."""
    pending, seen = list(wanted), set[tuple[str, frozenset[str]]]()
    found: set[str] = set()
    while pending:
        name, extras = item = pending.pop()
        if item in seen:
            continue
        seen.add(item)
        try:
            required = metadata.requires(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python: a marker says so
        found.add(name)
        pending += [each for text in required or () for each in _requirement(text, extras)]
    return found


def _requirement(text: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """The name and extras that a line of Requires-Dist asks for; nothing if it is for an extra not wanted."""
    before, _, marker = text.partition(";")
    match = _REQUIREMENT.match(before.strip())
    extra = _EXTRA.search(marker)
    if match is not None and (extra is None or extra[1] in extras):
        yield _normal(match[1]), frozenset(each.strip() for each in (match[2] or "").split(",") if each.strip())


def _files(name: str) -> Iterator[tuple[PurePath, Path]]:
    """A distribution's files that may be needed at run time, with their places below site-packages."""
    listed = metadata.distribution(name).files
    if listed is None:
        raise CarryError(f"package {name} does not list its files: install it with pip")
    for entry in listed:
        about = entry.parts[0].endswith(".dist-info")
        if entry.parts[0] in ("..", "/") or entry.suffix in _KINDS_LEFT_OUT or _LEFT_OUT.intersection(entry.parts):
            continue
        if not about or entry.name == "METADATA":
            yield PurePath(*entry.parts), Path(str(entry.locate()))


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or another's file
        shutil.copy2(source, target)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
