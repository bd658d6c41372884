"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from slurm_gha.observe.text import presentable

# Characters of a program's line that are shown beside the bar.
_SHOWN = 60


class Bars:
    """A :class:`slurm_gha.images.reporter.Reporter` for a terminal: one line that moves, and one for each step done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, step: str, total: int | None = None) -> None:
        measured = [BarColumn(), DownloadColumn()] if total else []
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            *measured,
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", markup=False, style="bright_black"),
            console=self._console,
        )
        self._progress.start()
        self._task = self._progress.add_task(step, total=total or None, said="")

    def advance(self, number: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, number)

    def line(self, text: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, said=presentable(text, _SHOWN))

    def end(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, said="")
            self._progress.stop()
        self._progress = self._task = None


class Lines:
    """The same for a file or pipe: a line for each step, and what programs say."""

    def begin(self, step: str, total: int | None = None) -> None:
        click.echo(step, err=True)

    def advance(self, number: int) -> None: ...

    def line(self, text: str) -> None:
        click.echo(f"  {presentable(text, 400)}", err=True)

    def end(self) -> None: ...


def reporter() -> Bars | Lines:
    """The one that fits standard error."""
    console = Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines()
