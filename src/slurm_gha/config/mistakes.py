"""Mistakes in the configuration, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]

# What GitHub's tokens and JIT configurations look like: never repeated, wherever they were put by mistake.
_TOKEN = re.compile(r"(gh[a-z]_|github_pat_|eyJ|ghs_)[A-Za-z0-9_.\-]*|[0-9a-f]{40,}", re.IGNORECASE)


def shown(value: object, *, longest: int = 60) -> str:
    """A value as a message may repeat it: one short line, without control characters, without anything like a token."""
    text = value if isinstance(value, str) else type(value).__name__ if isinstance(value, (dict, list)) else str(value)
    text = "".join(character if character.isprintable() else "?" for character in _TOKEN.sub("***", text))
    return text if len(text) <= longest else text[:longest] + "…"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. ``line`` counts from 1; 0 means the file as a whole; ``key`` is empty where there is none."""

    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigError(Exception):
    """The configuration cannot be used; the text has one line a mistake."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))
