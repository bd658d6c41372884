"""What the catalogue knows of an image, and how it is written down: JSON for us, KEY=VALUE lines for bash."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from slurm_gha.images.errors import ImageError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_KEY = re.compile(r"[A-Z][A-Z0-9_]*")
# What bash reads back unquoted, and neither splits nor expands.
_VALUE = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")

JSON_NAME = "image.json"
ENV_NAME = "image.env"
ARCHIVE_NAME = "archive.tar"


@dataclass(frozen=True, slots=True)
class Image:
    """One image. ``digest``: that of its configuration, which is its id for Docker and Podman alike.

    ``pull``: where nodes can get it from a registry, with the registry's own digest. ``size``: bytes of its layers,
    unpacked. ``created``: seconds since the epoch at which it came into the catalogue.
    """

    digest: str
    reference: str
    created: float
    size: int
    architecture: str
    pull: str | None = None
    runner_dir: str | None = None
    runner_version: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    def to_env(self) -> str:
        return env_text(
            {
                "DIGEST": self.digest,
                "REFERENCE": self.reference,
                "PULL": self.pull or "",
                "RUNNER_DIR": self.runner_dir or "",
            }
        )


def from_json(text: str, where: Path) -> Image:
    """The image that ``to_json`` wrote; raises ImageError. Fields that a later version added are left out."""
    try:
        found = json.loads(text)
        known = {field.name: found[field.name] for field in fields(Image) if field.name in found}
        image = Image(**known)
        good = is_digest(image.digest) and isinstance(image.reference, str)
        numbers = isinstance(image.created, int | float) and isinstance(image.size, int)
    except (ValueError, TypeError, KeyError):
        good = numbers = False
    if not (good and numbers):
        raise ImageError(f"{where} is damaged; remove {where.parent} and make the image again")
    return image


def is_digest(text: object) -> bool:
    """Whether this is 64 hex digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def checked_name(name: str) -> str:
    """The name, if it can be one in the catalogue; raises ImageError."""
    if _NAME.fullmatch(name) is None or is_digest(name):
        raise ImageError(
            f"{name[:80]!r} cannot be the name of an image: small letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit, at most 63"
        )
    return name


def env_text(values: Mapping[str, str]) -> str:
    """``KEY=VALUE`` lines; raises ImageError for a value that bash would not read back as it is."""
    for key, value in values.items():
        if _KEY.fullmatch(key) is None or _VALUE.fullmatch(value) is None:
            raise ImageError(f"{value[:80]!r} cannot be used as {key}: a blank or a special character is in it")
    return "".join(f"{key}={value}\n" for key, value in values.items())


def read_env(path: Path) -> dict[str, str] | None:
    """The values of such a file; None if it is not there."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    lines = (line.partition("=") for line in text.splitlines())
    return {key: value for key, _, value in lines if _KEY.fullmatch(key) is not None}
