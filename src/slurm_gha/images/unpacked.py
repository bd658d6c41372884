"""Publishes an image as a tree of files, which Apptainer runs as it is; equal files are kept once for all trees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slurm_gha.images.archive import read_archive
from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.errors import FULL, ImageError, disk_full
from slurm_gha.images.layers import Tally, Tree
from slurm_gha.images.namespace import remove_tree
from slurm_gha.images.objects import drop_unused
from slurm_gha.images.record import Image
from slurm_gha.images.reporter import Reporter, step

# Where containers get something mounted upon.
_DIRECTORIES = {"dev": 0o755, "proc": 0o755, "sys": 0o755, "tmp": 0o1777, "var/tmp": 0o1777, "run": 0o755}
_FILES = ("etc/hosts", "etc/resolv.conf", "etc/passwd", "etc/group")
_ENVIRONMENT = ".singularity.d/env/10-docker2singularity.sh"
# Right after this one, and not without it, Apptainer sets the variables that a container is given.
_BASE = ".singularity.d/env/99-base.sh"
# What keeps a meaning between double quotes.
_SPECIAL = re.compile(r'["$`\\]')
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def publish_unpacked(catalogue: Catalogue, image: Image, *, again: bool = False, reporter: Reporter) -> Tally | None:
    """Publish the tree; what it is made of, or None if it is there already.

    An interrupted run has left its objects, so the next one only links what is there.
    """
    if not again and "unpacked" in catalogue.forms(image.digest):
        return None
    archive = read_archive(catalogue.archive(image))
    with catalogue.work() as place:
        try:
            with step(reporter, "unpacking", image.size):
                tally = unpack(archive.path, place / "unpacked", catalogue.objects, place, reporter)
        except OSError as error:
            if error.errno in FULL:
                remove_tree(place / "unpacked")
                drop_unused(catalogue.objects)
                raise disk_full(catalogue.root, "unpacking") from None
            raise ImageError(f"unpacking {archive.path} failed: {error.strerror}: {error.filename}") from None
        values = {"FILES": str(tally.files), "BYTES": str(tally.size)}
        catalogue.attach(image.digest, "unpacked", place / "unpacked", values)
    return tally


def unpack(archive: Path, target: Path, objects: Path, place: Path, reporter: Reporter) -> Tally:
    """Make the tree ``target`` of an archive; its files are linked to ``objects``, all on one file system."""
    spare = place / "spare"
    spare.mkdir()
    target.mkdir(mode=0o755)
    tree = Tree(target, objects, spare)
    read = read_archive(archive)
    tree.apply(read, reporter)
    _furnish(target, read.config.get("config") or {})
    return tree.tally


def _furnish(root: Path, config: Mapping[str, Any]) -> None:
    """What Apptainer mounts upon, and the image's environment in the place where Apptainer looks for it."""
    for name, mode in _DIRECTORIES.items():
        path = root / name
        if _is_free(path, root):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
    for name in _FILES:
        path = root / name
        if _is_free(path, root) and not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o644)
    for name, script in ((_ENVIRONMENT, environment_script(config.get("Env") or ())), (_BASE, "#!/bin/sh\n")):
        path = root / name
        if _is_free(path, root) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script, encoding="utf-8")
            path.chmod(0o755)


def environment_script(variables: list[str] | tuple[str, ...]) -> str:
    """A shell script that sets the image's variables where nobody else has."""
    lines = ["#!/bin/sh"]
    for variable in variables:
        key, _, value = str(variable).partition("=")
        if _VARIABLE.fullmatch(key) is not None and "\0" not in value:
            # Double quotes: Apptainer reads this with a shell of its own, which leaves a backslash where '\'' ends.
            quoted = '"' + _SPECIAL.sub(r"\\\g<0>", value) + '"'
            # Apptainer has a PATH of its own at this moment; the image's is the one that fits it.
            lines.append(
                f"export {key}={quoted}" if key == "PATH" else f'[ -n "${{{key}+set}}" ] || export {key}={quoted}'
            )
    return "\n".join(lines) + "\n"


def _is_free(path: Path, root: Path) -> bool:
    """Whether one may write there without following a symlink of the image."""
    while path != root:
        if path.is_symlink():
            return False
        path = path.parent
    return True
