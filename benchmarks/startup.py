"""From a Slurm job's start to its runner's container and first step, for each way in which a node can get the image.

Everything is real but GitHub and its runner: Slurm, the service, the batch script, the engines. GitHub and the registry
are at the far end of a link of 100 Mbit/s.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from benchmarks.large_image import SIZES, LargeImage, large_image
from benchmarks.phases import STEP, Phases, PhasesError, median, phases
from benchmarks.plot import Bar, Line, in_terminal, write_png
from benchmarks.table import RESULTS, Aim, Column, Value, keep, say, show
from benchmarks.ways import LABEL, PROJECT, WAYS, Site, inhabitants, lacking, site, stage_of
from slurm_gha.testing.github.values import Run
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.rootless import prepare_machine
from slurm_gha.testing.stage import Stage, StageError

RATE = "100mbit"
PATIENCE = 1500.0
TOGETHER = 3
TIMES_ONE = 2.0
ORIGINAL_SECONDS = 120.0
ORIGINAL = "The original's own figure, an image pulled for every job: two minutes"
COLUMNS = (
    Column("way", "way"),
    Column("launcher", "launcher"),
    Column("runs", "runs"),
    Column("configured_s", "claimed, s", 2),
    Column("engine_s", "engine up", 2),
    Column("image_s", "image there", 2),
    Column("container_s", "container running", 2),
    Column("worst_container_s", "at worst", 2),
    Column("listening_s", "listening", 2),
    Column("first_step_s", "first step", 2),
)
CROWD = (
    Column("way", "way"),
    Column("together", "at once"),
    Column("together_runs", "runs"),
    Column("container_s", "one: container running, s", 2),
    Column("together_container_s", "last of them", 2),
    Column("together_times", "ratio", 2),
    Column("first_step_s", "one: first step", 2),
    Column("together_first_step_s", "last of them", 2),
)


def main(arguments: Sequence[str]) -> int:
    """Measure the ways, print tables and bars, write the JSON and the PNG."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="real", help="of the image: about 2 GB, or small for a try")
    parser.add_argument("--way", choices=WAYS, action="append", help="only this one (may be repeated)")
    parser.add_argument("--runs", type=int, default=5, help="of each quick way (default 5); the slow ones have one")
    options = parser.parse_args(arguments)
    if not 1 <= options.runs <= 50:
        parser.error("--runs must be 1 to 50")
    keys = [key for key in WAYS if not options.way or key in options.way]
    if os.geteuid() != 0:
        sys.exit("startup makes networks and mounts stores: run it as root")
    if missing := lacking(keys):
        sys.exit(f"not installed: {', '.join(missing)}; make bench-startup installs what is lacking")
    # So that all is taken down again, whoever ends it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with PrivateSlurm(nodes=1, cpus=8) as slurm:
        prepare_machine(slurm.user)
        image = large_image(options.size, slurm, [form for key in keys if (form := WAYS[key].form) is not None])
        with site(slurm, image, RATE) as there:
            rows = [row for key in keys if (row := _tried(there, key, options.runs)) is not None]
    if rows:
        tell(options.size, image, rows)
    return 0 if len(rows) == len(keys) else 1


def _tried(there: Site, key: str, runs: int) -> dict[str, Value] | None:
    """The row of one way; None, and a word, if it could not be measured."""
    try:
        return measured(there, key, runs)
    except (PhasesError, StageError) as error:
        say(f"{WAYS[key].title}: not measured: {error}")
        return None


def measured(there: Site, key: str, runs: int) -> dict[str, Value]:
    """The row of one way."""
    way = WAYS[key]
    with stage_of(there, key) as stage:
        single: list[Phases] = []
        crowds: list[list[Phases]] = []
        for _ in range(1 if way.slow else runs):
            single += start(stage, 1)
            last = single[-1]
            say(
                f"{way.title}: container running after {last.container:.2f} s, first step after {last.first_step:.2f} s"
            )
        for _ in range(runs if way.crowded else 0):
            crowds.append(start(stage, TOGETHER))
            slowest = max(each.container for each in crowds[-1])
            say(f"{way.title}, {TOGETHER} at once: the last container running after {slowest:.2f} s")
    row: dict[str, Value] = {"key": key, "way": way.title, "launcher": way.launcher, "runs": len(single)}
    parts = ("configured", "engine", "image", "container", "listening", "first_step")
    row |= {f"{part}_s": median(single, part) for part in parts}
    row["worst_container_s"] = max(each.container for each in single)
    if crowds:
        last_container = statistics.median(max(each.container for each in crowd) for crowd in crowds)
        row |= {
            "together": TOGETHER,
            "together_runs": len(crowds),
            "together_container_s": last_container,
            "together_first_step_s": statistics.median(max(each.first_step for each in crowd) for crowd in crowds),
            "together_times": last_container / float(row["container_s"] or 0),
        }
    return row


def start(stage: Stage, jobs: int) -> list[Phases]:
    """So many jobs, which Slurm starts at once; returns when nothing is left of them."""
    workflow = {
        "name": "Startup",
        "on": "push",
        "jobs": {f"j{number}": {"runs-on": ["self-hosted", LABEL], "steps": [{"run": STEP}]} for number in range(jobs)},
    }
    # Until all of them are submitted, the partition starts none.
    _partition(stage, "DOWN")
    (run,) = stage.github.push(PROJECT, files={".github/workflows/startup.yml": json.dumps(workflow)})
    stage.until(lambda: len(stage.live_slurm_jobs()) == jobs, PATIENCE, f"{jobs} runners are submitted")
    names = list(stage.live_slurm_jobs())
    known = {*names, *_outputs(stage)}
    _partition(stage, "UP")
    stage.until(lambda: _over(stage, run, known), PATIENCE, "the run is over")
    stage.until(lambda: not stage.leftovers() and not inhabitants(stage.node_dir), PATIENCE, "nothing is left")
    return _told(stage, run, names)


def _outputs(stage: Stage) -> dict[str, Path]:
    """The output of every Slurm job so far, by the runner's name. Slurm itself is not asked: that takes time."""
    return {file.stem: file for file in stage.output_dir.glob("*.log")}


def _over(stage: Stage, run: Run, known: Set[str]) -> bool:
    """Whether the run is; raises PhasesError once a runner had to be replaced."""
    outputs = _outputs(stage)
    if outputs.keys() - known:
        words = "\n".join(outputs[name].read_text()[-1000:] for name in sorted(outputs))
        raise PhasesError(f"a runner ended without its job: {words}")
    return run.status == "completed"


def _told(stage: Stage, run: Run, names: Sequence[str]) -> list[Phases]:
    """What each runner told of its start."""
    done = {str(job.runner_name): job for job in stage.github.present_jobs(run)}
    if done.keys() != set(names) or any(job.conclusion != "success" for job in done.values()):
        raise PhasesError(f"not every job succeeded: {[(name, job.conclusion, job.log) for name, job in done.items()]}")
    outputs = _outputs(stage)
    return [phases(outputs[name].read_text(), done[name].log) for name in names]


def _partition(stage: Stage, state: str) -> None:
    stage.slurm.run("scontrol", "update", "partitionname=ci", f"state={state}")


def tell(size: str, image: LargeImage, rows: Sequence[Mapping[str, Value]]) -> None:
    """Tables, bars, JSON and PNG."""
    facts = image.facts()
    about = (
        f"image: {facts['layers']} layers, {facts['files']:,} files, {facts['bytes'] / 1e9:.2f} GB, "
        f"{facts['compressed_bytes'] / 1e6:,.0f} MB compressed; link: {RATE}"
    )
    aims = [aim for row in rows for aim in _aims(row)]
    show(f"startup: seconds since the Slurm job's start ({about})", COLUMNS, rows, aims)
    if crowds := [row for row in rows if "together" in row]:
        show(f"startup: {TOGETHER} at once on a node", CROWD, crowds)
    bars = [_bar(row) for row in rows]
    line = Line("the original: two minutes", ORIGINAL_SECONDS)
    say(in_terminal(bars, line))
    name = "startup" if size == "real" else f"startup-{size}"
    path = keep(name, rows, aims, quoted=[ORIGINAL, about])
    picture = RESULTS / f"{name}.png"
    legend = ("to the running container", "to the job's first step")
    write_png(picture, f"Start of a runner: {about.split(';')[0].removeprefix('image: ')}", legend, bars, line)
    say(f"{ORIGINAL}.\nwritten: {path}, {picture}")


def _aims(row: Mapping[str, Value]) -> list[Aim]:
    way = WAYS[str(row["key"])]
    container = float(row["container_s"] or 0)
    aims = []
    if way.aim is not None:
        text = f"{way.title}: container running after {container:.2f} s (aim: {way.aim:g} s)"
        aims.append(Aim(text, container <= way.aim))
    if "together" in row:
        times = float(row["together_times"] or 0)
        text = f"{way.title}: {TOGETHER} at once take {times:.2f} times as long as one (aim: {TIMES_ONE:g})"
        aims.append(Aim(text, times <= TIMES_ONE))
    return aims


def _bar(row: Mapping[str, Value]) -> Bar:
    way = WAYS[str(row["key"])]
    return Bar(way.title, float(row["container_s"] or 0), float(row["first_step_s"] or 0), way.aim)
