"""What long work tells of itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Reporter(Protocol):
    """Told of steps; one step at a time."""

    def begin(self, step: str, total: int | None = None) -> None:
        """A step begins; ``total``: its bytes, if they are known."""

    def advance(self, number: int) -> None:
        """So many more bytes of the step are done."""

    def line(self, text: str) -> None:
        """Something a program said meanwhile."""

    def end(self) -> None:
        """The step is done, or given up."""


class Silent:
    """Says nothing."""

    def begin(self, step: str, total: int | None = None) -> None: ...

    def advance(self, number: int) -> None: ...

    def line(self, text: str) -> None: ...

    def end(self) -> None: ...


@contextmanager
def step(reporter: Reporter, text: str, total: int | None = None) -> Iterator[None]:
    """One step, ended whatever happens."""
    reporter.begin(text, total)
    try:
        yield
    finally:
        reporter.end()
