"""The same seed, the same order of tasks: trio shuffles ready tasks on purpose, by a generator that can be seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trio._core import _run


@contextmanager
def deterministic_scheduling(seed: int) -> Iterator[None]:
    """Within this, trio runs ready tasks in an order that follows from ``seed`` alone.

    These two names are trio's own hooks for this purpose (hypothesis-trio uses them); they are put back afterwards.
    """
    run: Any = _run
    before = (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r)
    run._ALLOW_DETERMINISTIC_SCHEDULING, run._r = True, random.Random(seed)
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING, run._r = before
