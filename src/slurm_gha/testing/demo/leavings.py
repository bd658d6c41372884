"""Is anything left? Asked of Slurm, GitHub, the process table and the file system themselves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_gha.testing.github.values import SimRunner
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.processes import inhabitants, mounts, processes_of
from slurm_gha.testing.runner.processes import descendants
from slurm_gha.testing.stage import Stage


@dataclass(frozen=True, slots=True)
class Check:
    """What should be so, and what speaks against it (nothing: it is so)."""

    text: str
    against: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.against


@dataclass(frozen=True, slots=True)
class Traces:
    """What the demo itself put on this machine, to be looked for when it is over."""

    directories: tuple[Path, ...]
    marks: tuple[str, ...]

    @classmethod
    def of_place(cls, place: Path) -> Traces:
        return cls((place,), (str(place),))

    @classmethod
    def of(cls, slurm: PrivateSlurm, stage: Stage | None = None) -> Traces:
        places = (slurm.directory,) if stage is None else (slurm.directory, stage.base, stage.node_dir)
        marks = (*(str(place) for place in places), f"SLURM_CLUSTER_NAME={slurm.cluster_name}")
        return cls(places, marks)

    @classmethod
    def united(cls, all_of_them: Sequence[Traces]) -> Traces:
        directories = [place for traces in all_of_them for place in traces.directories]
        marks = [mark for traces in all_of_them for mark in traces.marks]
        return cls(tuple(dict.fromkeys(directories)), tuple(dict.fromkeys(marks)))


def of_runners(stage: Stage) -> list[Check]:
    """With the service still running: nothing of any runner may be left."""
    status = stage.status()
    runners = ("the service says nothing",) if status is None else tuple(runner.name for runner in status.runners)
    return [
        Check("no Slurm job is left", _pairs(stage.live_slurm_jobs())),
        Check("no registration is left on GitHub", tuple(runner.name for runner in _registered(stage))),
        Check("no process of a runner is left", _pairs(_processes(stage))),
        Check("no process of a container is left", _pairs(inhabitants(str(stage.node_dir)))),
        Check("no file of a runner is left", tuple(_files((stage.node_dir, stage.handover_dir)))),
        Check("the service counts no runner any more", runners),
    ]


def of_everything(traces: Traces) -> list[Check]:
    """After all was taken down."""
    places = [str(place) for place in traces.directories]
    there = tuple(str(place) for place in traces.directories if place.exists())
    return [
        Check("every process of the demo has ended", _pairs(processes_of(traces.marks) | _inhabitants(traces))),
        Check("nothing of the demo is mounted", tuple(point for place in places for point in mounts(place))),
        Check("every directory of the demo is removed", there),
    ]


def slurm_jobs(stage: Stage) -> dict[str, tuple[str, str]]:
    """The id and the node of every runner's Slurm job that Slurm still remembers, by the runner's name."""
    found = {}
    try:
        listing = stage.slurm.run("squeue", "-h", "-t", "all", "-o", "%j|%A|%N", check=False).stdout
    except subprocess.TimeoutExpired:
        return {}
    for line in listing.splitlines():
        name, number, node = line.split("|", 2)
        found[name] = (number, node)
    return found


def _registered(stage: Stage) -> Sequence[SimRunner]:
    return list(stage.github.runners.values())


def _processes(stage: Stage) -> dict[int, str]:
    """Processes of the cluster's jobs: neither its daemons nor the service with the commands it has under way."""
    service = stage.service.pid if stage.service is not None else 0
    ours = {service, *descendants(service)} if service else set()
    found = {**stage.slurm.leftovers(), **processes_of([str(stage.node_dir)])}
    return {pid: line for pid, line in found.items() if pid not in ours}


def _inhabitants(traces: Traces) -> dict[int, str]:
    """Processes in containers; not all that there are, where something is still mounted on the machine itself."""
    places = [str(place) for place in traces.directories if not mounts(str(place))]
    return {pid: line for place in places for pid, line in inhabitants(place).items()}


def _files(places: Sequence[Path]) -> list[str]:
    return [
        os.path.join(path, name)
        for place in places
        for path, folders, files in os.walk(place)
        for name in (*folders, *files)
    ]


def _pairs(found: dict[int, str] | dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}: {what}" for name, what in found.items())
