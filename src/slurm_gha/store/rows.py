"""Rows of the journal and the values they stand for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.world import Trouble, TroubleKind

# Words of GitHub, Slurm and nodes are kept to this many characters.
LONGEST_TEXT = 4000

_PLAIN = tuple(f.name for f in fields(RunnerRecord) if f.name not in ("labels", "handover", "scale_set"))


@dataclass(frozen=True, slots=True)
class Report:
    """What a node said of its runner; ``at`` is by the node's clock, seconds since the epoch."""

    event: str
    at: float
    detail: str


@dataclass(frozen=True, slots=True)
class ClosedRunner:
    """A runner whose story is over. ``finished_detail`` is the node's word on how its runner ended."""

    record: RunnerRecord
    closed_at: float
    outcome: str
    detail: str
    node: str | None = None
    finished_detail: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How many runners the journal holds: open ones, closed ones, and the closed ones by outcome."""

    open: int
    closed: int
    outcomes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


def text(value: str) -> str:
    """A text as it can be stored: bounded, and valid Unicode, which GitHub's JSON escapes need not be."""
    return value[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")


def optional_text(value: str | None) -> str | None:
    return None if value is None else text(value)


def record_of(row: sqlite3.Row) -> RunnerRecord:
    """The record that a row of ``runner`` stands for."""
    return RunnerRecord(
        labels=frozenset(json.loads(row["labels"])),
        handover=Handover(row["handover"]),
        scale_set=bool(row["scale_set"]),
        **{name: row[name] for name in _PLAIN},
    )


def columns_of(record: RunnerRecord) -> dict[str, object]:
    """A record as named parameters."""
    columns: dict[str, object] = {name: getattr(record, name) for name in _PLAIN}
    columns["repository"] = optional_text(record.repository)
    columns["withdrawn_because"] = optional_text(record.withdrawn_because)
    columns["labels"] = json.dumps(sorted(record.labels))
    columns["handover"] = record.handover.value
    columns["scale_set"] = record.scale_set
    return columns


def closed_of(row: sqlite3.Row) -> ClosedRunner:
    return ClosedRunner(
        record_of(row), row["closed_at"], row["outcome"], row["detail"], row["node"], row["finished_detail"]
    )


def trouble_of(row: sqlite3.Row) -> Trouble:
    return Trouble(row["pool"], row["failures"], row["until"], row["reason"], TroubleKind(row["kind"]))
