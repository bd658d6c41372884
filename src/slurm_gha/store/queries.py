"""The SQL, read from the files that are shipped beside this module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """The statements that lead from schema ``number - 1`` to ``number``."""

    number: int
    file: str
    sql: str


def queries() -> Mapping[str, str]:
    """Every named statement: what stands between one ``-- name:`` line and the next."""
    found: dict[str, str] = {}
    for file in sorted(files("slurm_gha.store").joinpath("sql").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
            found.update(zip(parts[::2], parts[1::2], strict=True))
    return found


def migrations() -> tuple[Migration, ...]:
    """The numbered migrations, in order."""
    folder = files("slurm_gha.store").joinpath("sql", "migrations")
    found = (
        Migration(int(match[1]), file.name, file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := _MIGRATION.fullmatch(file.name)) is not None
    )
    return tuple(sorted(found, key=lambda migration: migration.number))
