"""What the verbs show of images, as plain values and words."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from slurm_gha.images.catalogue import FORMS, Catalogue, age
from slurm_gha.images.record import Image


def known(catalogue: Catalogue, image: Image, names: tuple[str, ...]) -> dict[str, Any]:
    """All that JSON output says of an image."""
    return {
        **asdict(image),
        "names": list(names),
        "age": round(age(image), 1),
        "forms": catalogue.forms(image.digest),
        "in_use": len(catalogue.markers(image.digest)),
    }


def names_by_digest(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, digest in catalogue.names().items():
        found[digest] = (*found.get(digest, ()), name)
    return found


def disk_use(catalogue: Catalogue, digest: str) -> dict[str, int]:
    """Bytes on disk of the archive and of each form that is one file."""
    directory = catalogue.directory(digest)
    files = {"archive": "archive.tar", **{form: name for form in FORMS for name in FORMS[form] if "." in name}}
    sizes = {label: _allocated(directory / name) for label, name in files.items()}
    for name in FORMS["store"]:
        sizes["store"] = max(sizes.get("store", 0), _allocated(directory / name))
    return {label: size for label, size in sizes.items() if size}


def bytes_in_words(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def for_nodes(image: Image, forms: dict[str, dict[str, str]]) -> tuple[str, ...]:
    """What the launchers do with the image, one line each."""
    store, podman = forms.get("store"), forms.get("podman")
    load = "load the archive" + (f", or pull {image.pull}" if image.pull else "")
    lines = []
    if store is not None:
        lines.append(
            f"docker: mounted store ({store.get('FORMAT')}) with dockerd {store.get('ENGINE_VERSION')}, "
            f"uid {store.get('UID')}, ids from {store.get('SUBUID')}; where that does not fit, {load}"
        )
    else:
        lines.append(f"docker: {load}; publish --to store makes this quick")
    if podman is not None:
        lines.append(
            f"podman: additional store for uid {podman.get('UID')}, ids from {podman.get('SUBUID')}, "
            f"made by podman {podman.get('ENGINE_VERSION')}; where that does not fit, {load}"
        )
    else:
        lines.append(f"podman: {load}; publish --to podman makes this quick")
    ready = [form for form in ("unpacked", "sif", "cvmfs") if form in forms]
    if ready:
        lines.append(f"apptainer: runs {', '.join(ready)}")
    else:
        lines.append("apptainer: builds from the archive, slowly; publish --to unpacked or --to sif makes this quick")
    stargz = forms.get("estargz")
    lines.append(f"stargz: pulls {stargz['PULL']} lazily" if stargz else "stargz: needs publish --to estargz first")
    return tuple(lines)


def _allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
