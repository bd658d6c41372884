"""That the benchmarks run, in a tiny shape; what they measure says nothing here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks import latency, scale, table, throughput

pytestmark = pytest.mark.slow


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def rows(results: Path, name: str) -> Sequence[dict[str, object]]:
    found: Sequence[dict[str, object]] = json.loads((results / f"{name}.json").read_text())["rows"]
    return found


def test_scale(results: Path) -> None:
    assert scale.main(["--repositories", "80", "--jobs", "2", "--pushes", "20"]) == 0
    seen, polled, pushed, queued, memory = rows(results, "scale")
    assert [row.get("source") for row in (polled, pushed, queued)] == ["poll", "webhook", "scaleset"]
    assert seen["jobs"] == memory["jobs"] == memory["records"] == 160
    assert polled["mints"] == polled["jobs"]
    assert polled["median_s"] is not None
    assert (queued["watching"], queued["mints"]) == (0, 0)


@pytest.mark.slurm
def test_latency(results: Path) -> None:
    assert latency.main(["--jobs", "2"]) == 0
    assert {row["source"]: row["jobs"] for row in rows(results, "latency")} == dict.fromkeys(latency.SOURCES, 2)


@pytest.mark.slurm
def test_throughput(results: Path) -> None:
    assert throughput.main(["--jobs", "10", "--repetitions", "2"]) == 0
    assert [row["jobs"] for row in rows(results, "throughput")] == [10, 10]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert latency.percentile([1.0], 50) == 1.0
    assert latency.percentile([1.0, 2.0], 50) == 1.0
    assert latency.percentile([1.0, 2.0], 99) == 2.0
    assert latency.percentile([float(n) for n in range(1, 101)], 99) == 99.0
