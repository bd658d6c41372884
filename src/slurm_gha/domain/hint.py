"""News of demand: where to look, never what happened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at this scope; at one repository (``owner/name``) or one run of it if they are known."""

    scope: str
    repository: str | None = None
    run_id: int | None = None
