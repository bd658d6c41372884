"""Runner labels: compared without regard to case, matched by superset."""

from __future__ import annotations

from collections.abc import Iterable

Labels = frozenset[str]


def normalise(labels: Iterable[str]) -> Labels:
    """The set GitHub compares: labels are case-insensitive."""
    return frozenset(label.strip().lower() for label in labels)


def satisfies(offered: Labels, wanted: Labels) -> bool:
    """Whether a runner that offers ``offered`` may take a job that wants ``wanted`` (all of its labels).

    A job without labels asks for a runner group alone, which its listing does not name: it is nobody's.
    """
    return bool(wanted) and wanted <= offered
