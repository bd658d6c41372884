"""The repository that the demo pushes: real files beside this module, and what has to become of its jobs."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

FULL_NAME = "lab/primes"
SURVEY = ".github/workflows/survey.yml"
CANCELLED_JOB = "survey"
FIRST_JOBS = ("lint (syntax)", "lint (whitespace)", "lint (length)")
"""Jobs that need nothing and take longest: while they run, no node is free for a job that wants a whole one."""

DOCKER_JOBS = ("image", "website")
"""Jobs that are skipped where no runner has Docker."""

EXPECTED = {
    "plan": "success",
    **dict.fromkeys(FIRST_JOBS, "success"),
    **{f"test ({shard})": "success" for shard in (1, 2, 3, 4)},
    "edge-cases": "failure",
    "benchmark (100000)": "success",
    "benchmark (400000)": "success",
    **dict.fromkeys(DOCKER_JOBS, "success"),
    "package": "success",
    "publish": "skipped",
    "report": "success",
    CANCELLED_JOB: "cancelled",
}
"""Every job of both workflows and its conclusion, the one that fails and the one that is cancelled among them."""


def expected(*, docker: bool) -> dict[str, str]:
    """The same, with or without a pool for the Docker jobs."""
    return EXPECTED if docker else {**EXPECTED, **dict.fromkeys(DOCKER_JOBS, "skipped")}


def files() -> dict[str, str]:
    """The repository's files by path. Its workflows lie in ``workflows`` here: packages leave out hidden folders."""
    found = _files(resources.files("slurm_gha.testing.demo") / "primes", "")
    return {f".github/{path}" if path.startswith("workflows/") else path: text for path, text in found}


def _files(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        found += _files(entry, f"{path}/") if entry.is_dir() else [(path, entry.read_text())]
    return sorted(found)
