"""Pictures as they are shown while it runs: a live table on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from slurm_gha.observe.text import presentable
from slurm_gha.testing.demo.picture import Picture, Row

STYLES = {
    "success": "green",
    "failure": "bold red",
    "cancelled": "yellow",
    "skipped": "bright_black",
    "running": "bold cyan",
    "starting": "blue",
    "pending": "magenta",
    "needs": "bright_black",
}
# Lines beside those of the jobs: header, bar, titles, feet.
_OTHER_LINES = 7


class Screen:
    """A context manager that shows pictures as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Screen:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, picture: Picture) -> None:
        """Show it: the whole table anew, or what has changed since the one before."""
        if self._live is not None:
            self._live.update(table(picture, self._console.height), refresh=True)
            return
        for line in changes(picture, self._shown):
            self._console.print(Text(line), soft_wrap=True)
        self._shown = {row.name: row.state for row in picture.rows}

    def say(self, text: str) -> None:
        """A sentence that stays, above the table."""
        self._console.print(Text(text), soft_wrap=True)


def changes(picture: Picture, before: Mapping[str, str]) -> list[str]:
    """A line for every job whose state is not what it was."""
    news = [row for row in picture.rows if before.get(row.name) != row.state and row.state != "needs"]
    return [f"{picture.at:6.1f} s  {presentable(row.name):<20} {row.state:<10} {_detail(row)}".rstrip() for row in news]


def table(picture: Picture, height: int) -> RenderableType:
    """The whole screen; where it is too low for all jobs, those that are over go first."""
    jobs = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bright_black", expand=True)
    for title, least, ratio in (("job", 18, 0), ("size", 5, 0), ("state", 9, 0), ("slurm", 5, 0)):
        jobs.add_column(title, min_width=least, ratio=ratio or None, no_wrap=True, overflow="ellipsis")
    jobs.add_column("waited", min_width=6, justify="right", no_wrap=True)
    jobs.add_column("ran", min_width=6, justify="right", no_wrap=True)
    jobs.add_column("what", ratio=1, no_wrap=True, overflow="ellipsis")
    kept, hidden = _fitted(picture.rows, max(3, height - _OTHER_LINES))
    for row in kept:
        style = STYLES.get(row.state, "")
        name, state = Text(presentable(row.name)), Text(row.state, style=style)
        times = (seconds(row.waited), seconds(row.ran))
        detail = "" if row.over else _detail(row)
        jobs.add_row(name, row.size, state, row.slurm, *times, Text(detail, style="bright_black"))
    head = Text("slurm-gha demo", style="bold")
    head.append(f"   {picture.at:5.1f} s   {picture.done} of {len(picture.rows)} jobs are over", style="not bold")
    bar = ProgressBar(total=len(picture.rows), completed=picture.done, width=60)
    parts: list[RenderableType] = [head, bar, jobs]
    if hidden:
        parts.append(Text(f"… and {hidden} more that are over", style="bright_black"))
    return Group(*parts, Text(), *_feet(picture))


def seconds(value: float | None) -> str:
    """A length of time, short."""
    return "" if value is None else f"{max(0.0, value):.1f} s"


def _feet(picture: Picture) -> list[Text]:
    queued = sum(row.state in ("queued", "pending", "starting") for row in picture.rows)
    lines = (
        ("GitHub", f"{queued} jobs queued; {picture.counted} calls counted, {picture.uncounted} not counted"),
        ("runners", _counts(picture.runners)),
        ("Slurm", _counts(picture.slurm)),
    )
    return [
        Text.assemble((f"{name:<8}", "bright_black"), text, no_wrap=True, overflow="ellipsis") for name, text in lines
    ]


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(found.items())) or "none"


def _fitted(rows: Sequence[Row], room: int) -> tuple[list[Row], int]:
    surplus = max(0, len(rows) - room)
    surplus += surplus > 0  # the line that says so
    over = {id(row) for row in [row for row in rows if row.over][:surplus]}
    return [row for row in rows if id(row) not in over], len(over)


def _detail(row: Row) -> str:
    """What to say of a job in its state, in a few words."""
    match row.state:
        case "needs":
            return f"needs {row.detail}"
        case "pending" | "starting" | "running":
            parts = [f"Slurm job {row.slurm}" if row.slurm else "", row.detail]
        case "success" | "failure" | "cancelled":
            parts = [f"waited {seconds(row.waited)}", f"ran {seconds(row.ran)}" if row.ran is not None else "never ran"]
        case _:
            parts = [row.detail]
    return presentable(", ".join(part for part in parts if part))
