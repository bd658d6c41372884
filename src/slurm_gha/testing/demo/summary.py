"""The demo's last word: what became of each job, what it cost, and whether anything is left."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slurm_gha.observe.text import presentable
from slurm_gha.testing.demo.leavings import Check
from slurm_gha.testing.demo.picture import Picture
from slurm_gha.testing.demo.show import STYLES, seconds

_SAMPLE = re.compile(r'^slurm_gha_slurm_command_seconds_count\{command="([a-z]+)"\} (\S+)$', re.MULTILINE)
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z ")
_EXCERPT = 8


@dataclass(frozen=True, slots=True)
class Summary:
    """``slurm``: a runner's Slurm job and its node, by the runner's name. ``routes``: counted and uncounted calls.

    ``commands``: how often each of Slurm's commands was called. ``log`` is that of the job that failed.
    """

    picture: Picture
    expected: Mapping[str, str]
    slurm: Mapping[str, tuple[str, str]]
    routes: Mapping[str, tuple[int, int]]
    commands: Mapping[str, int]
    failed: str
    log: str

    def unexpected(self) -> list[str]:
        """Jobs that ended otherwise than they should have, as sentences."""
        got = {row.name: row.state for row in self.picture.rows}
        names = sorted({*got, *self.expected})
        found = [
            f"{name}: {got.get(name, 'never seen')}, and not {self.expected.get(name, 'expected at all')}"
            for name in names
            if got.get(name) != self.expected.get(name)
        ]
        ran = [row.name for row in self.picture.rows if row.state == "cancelled" and row.ran is not None]
        return found + [f"{name}: was to be cancelled while queued, and had begun" for name in ran]


def commands(metrics: str) -> dict[str, int]:
    """How often each of Slurm's commands was called, from the service's metrics."""
    return {name: int(float(number)) for name, number in _SAMPLE.findall(metrics)}


def excerpt(log: str) -> list[str]:
    """The lines of a job's log around its first error."""
    lines = [presentable(_TIME.sub("", line)) for line in log.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("##[group]", "##[endgroup]"))]
    error = next((number for number, line in enumerate(lines) if line.startswith("##[error]")), len(lines) - 1)
    return lines[max(0, error - _EXCERPT + 1) : error + 1]


def print_jobs(console: Console, summary: Summary) -> None:
    """Each job, the log of the one that failed, and what it all cost."""
    _heading(console, "Jobs")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bright_black")
    for title in ("job", "size", "conclusion"):
        table.add_column(title, no_wrap=True)
    for title in ("waited", "ran", "Slurm job"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("node", no_wrap=True)
    for row in summary.picture.rows:
        number, node = summary.slurm.get(row.runner, ("", "")) if row.ran is not None else ("", "")
        conclusion = Text(row.state, style=STYLES.get(row.state, ""))
        times = (seconds(row.waited), seconds(row.ran))
        table.add_row(Text(presentable(row.name)), row.size, conclusion, *times, number, node)
    console.print(table)
    _heading(console, f"Log of {summary.failed}, which is meant to fail")
    for line in excerpt(summary.log):
        _line(console, f"  {line}")
    counted = sum(pair[0] for pair in summary.routes.values())
    uncounted = sum(pair[1] for pair in summary.routes.values())
    _heading(console, f"Calls to GitHub: {counted} counted, {uncounted} not counted (304)")
    for route, (yes, no) in sorted(summary.routes.items(), key=lambda item: -sum(item[1])):
        _line(console, f"  {yes:>4} + {no:<4} {route}")
    calls = ", ".join(f"{number} {name}" for name, number in sorted(summary.commands.items())) or "none counted"
    _heading(console, f"Calls to Slurm: {sum(summary.commands.values())}")
    _line(console, f"  {calls}")


def print_checks(console: Console, title: str, checks: Sequence[Check]) -> bool:
    """One line for each check; whether all hold."""
    _heading(console, title)
    for check in checks:
        mark, style = (_mark(console, "✓", "ok"), "green") if check.holds else (_mark(console, "✗", "NO"), "bold red")
        console.print(Text.assemble("  ", (mark, style), f" {check.text}"), soft_wrap=True)
        for line in check.against:
            _line(console, f"      {presentable(line)}")
    return all(check.holds for check in checks)


def _mark(console: Console, mark: str, plain: str) -> str:
    """The mark, or a word for it where the output's encoding has none."""
    try:
        mark.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return plain
    return mark


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(presentable(text), style="bold"), soft_wrap=True)


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
