"""When each part of one runner's start was over, by its Slurm job's output and the first step of its job."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

STEP = 'echo "first step at $(date +%s.%N)"'
_STARTED = re.compile(r"^slurm-gha: started at ([0-9.]+)$", re.MULTILINE)
_MARK = re.compile(r"^slurm-gha: (.*) after ([0-9.]+) s$", re.MULTILINE)
_STEP = re.compile(r"first step at ([0-9]+\.[0-9]+)")
# What the node says when it does not take the way that is to be measured.
_ANOTHER_WAY = ("in another way", "pulling from")


class PhasesError(Exception):
    """A runner did not start in the way that was to be measured; the text holds its output."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds since the first line of the batch script. ``engine`` and ``image`` are None where there is neither."""

    started_at: float
    configured: float
    engine: float | None
    image: float | None
    container: float
    listening: float
    first_step: float


def phases(output: str, log: str) -> Phases:
    """From the output of the Slurm job and the job's log on GitHub; raises PhasesError."""
    started, step = _STARTED.search(output), _STEP.search(log)
    marks = {what: float(after) for what, after in _MARK.findall(output)}
    lacking = {"configured", "container running", "listening"} - marks.keys()
    if started is None or step is None or lacking or any(words in output for words in _ANOTHER_WAY):
        raise PhasesError(f"this is not the start that was to be measured:\n{output[-3000:]}\n{log[-1000:]}")
    at = float(started[1])
    return Phases(
        started_at=at,
        configured=marks["configured"],
        engine=marks.get("engine up"),
        image=marks.get("image there"),
        container=marks["container running"],
        listening=marks["listening"],
        first_step=float(step[1]) - at,
    )


def median(found: Sequence[Phases], name: str) -> float | None:
    """The median of one part; None if there is no such part."""
    values = [value for each in found if (value := getattr(each, name)) is not None]
    return statistics.median(values) if values else None
