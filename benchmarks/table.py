"""How every benchmark shows and keeps what it measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
WIDTH = 140

Value = str | int | float | None


@dataclass(frozen=True, slots=True)
class Column:
    """One measured quantity: its ``key`` in the JSON, its ``title`` (with the unit) and its ``digits`` in the table."""

    key: str
    title: str
    digits: int = 1


@dataclass(frozen=True, slots=True)
class Aim:
    """What was aimed at, what was measured, and whether it was met."""

    about: str
    met: bool


def show(title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Value]], aims: Sequence[Aim] = ()) -> None:
    """Print the rows as a table, and the aims below it."""
    console = _console()
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.title, justify="left" if _is_text(rows, column.key) else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(column.key), column.digits) for column in columns))
    console.print(table)
    for aim in aims:
        console.print(f"[green]met[/]     {aim.about}" if aim.met else f"[red]missed[/]  {aim.about}")


def say(text: str) -> None:
    """Print a line beside the table: how far it has come, or a figure quoted from elsewhere."""
    _console().print(text, markup=False)


def keep(name: str, rows: Sequence[Mapping[str, Value]], aims: Sequence[Aim] = (), quoted: Sequence[str] = ()) -> Path:
    """Write ``results/NAME.json``: the rows, the aims, what is quoted, and where and when they were measured."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    told = {
        "benchmark": name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "commit": _commit(),
        },
        "rows": [dict(row) for row in rows],
        "aims": [{"about": aim.about, "met": aim.met} for aim in aims],
        "quoted": list(quoted),
    }
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return path


def _console() -> Console:
    """As wide as the terminal; into a file or a pipe, wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def _cell(value: Value, digits: int) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:,.{digits}f}"
        case int():
            return f"{value:,}"
    return value


def _is_text(rows: Sequence[Mapping[str, Value]], key: str) -> bool:
    return any(isinstance(row.get(key), str) for row in rows)


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=RESULTS.parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
