"""What `make bench-startup` reads out of a job's output, and the bars that it draws."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.phases import PhasesError, phases
from benchmarks.plot import Bar, Line, in_terminal, share, write_png
from PIL import Image

OUTPUT = """slurm-gha: started at 1763992800.100
slurm-gha: configured after 0.214 s
slurm-gha: engine up after 0.641 s
slurm-gha: image there after 0.702 s
slurm-gha: container running after 1.080 s
2025-11-24 14:00:02Z: Listening for Jobs
slurm-gha: listening after 1.934 s
"""
# The step is told before it is run, as GitHub does it.
LOG = '##[group]Run echo "first step at $(date +%s.%N)"\nfirst step at 1763992802.350000000\n'


def test_each_part_is_read() -> None:
    found = phases(OUTPUT, LOG)
    assert (found.configured, found.engine, found.image) == (0.214, 0.641, 0.702)
    assert (found.container, found.listening) == (1.080, 1.934)
    assert found.first_step == pytest.approx(2.25)


def test_without_an_engine_there_are_two_parts_less() -> None:
    lines = [line for line in OUTPUT.splitlines() if "engine" not in line and "image" not in line]
    found = phases("\n".join(lines), LOG)
    assert (found.engine, found.image, found.container) == (None, None, 1.080)


@pytest.mark.parametrize(
    "output",
    [
        OUTPUT.replace("container running", "nothing"),
        OUTPUT
        + "slurm-gha: image runner: its store is not used, since it is not mounted; getting the image in another way\n",
        "",
    ],
)
def test_another_start_than_the_one_to_be_measured_is_an_error(output: str) -> None:
    with pytest.raises(PhasesError):
        phases(output, LOG)


def test_bars_stand_on_one_scale(tmp_path: Path) -> None:
    bars = [Bar("store", 0.9, 1.4, aim=1.5), Bar("cold pull", 105.0, 106.0)]
    line = Line("two minutes", 120.0)
    rows = in_terminal(bars, line).splitlines()
    dark = [row.count("█") for row in rows[:2]]
    assert 0 < dark[0] < dark[1] == round(share(105.0) * 64)
    assert rows[0].index("┃") == rows[1].index("┃"), "the line to beat"
    write_png(tmp_path / "bars.png", "title", ("dark", "light"), bars, line)
    with Image.open(tmp_path / "bars.png") as picture:
        colours = {colour for _, colour in picture.getcolors(picture.width * picture.height) or []}
    assert {(0x1F, 0x5F, 0x8B), (0xA8, 0xC8, 0xDE)} <= colours
