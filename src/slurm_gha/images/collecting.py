"""Collects what nobody needs any more: which images may go (pure), and their removal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.namespace import remove_tree
from slurm_gha.images.objects import drop_unused, unused
from slurm_gha.images.record import Image


@dataclass(frozen=True, slots=True)
class LiveJobs:
    """What Slurm lists now: jobs that have not ended, each with the time at which it started (None: not yet), and the
    name of this cluster."""

    started: Mapping[int, float | None]
    cluster: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image, and what speaks for keeping it."""

    image: Image
    names: tuple[str, ...]
    markers: tuple[str, ...]
    touched: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an image, and why."""

    image: Image
    remove: bool
    why: str


def candidates(catalogue: Catalogue) -> tuple[Candidate, ...]:
    """Every image with what speaks for it."""
    names = catalogue.names()
    found = []
    for image in catalogue.images():
        with suppress(FileNotFoundError):
            mine = tuple(name for name, digest in names.items() if digest == image.digest)
            markers = catalogue.markers(image.digest)
            found.append(Candidate(image, mine, markers, catalogue.touched(image.digest)))
    return tuple(found)


def may_go(candidate: Candidate, now: float, grace: float) -> bool:
    """Whether only a job could speak for it still. Where none may go, Slurm need not be asked."""
    return not candidate.names and now - candidate.touched >= grace


def decide(candidate: Candidate, now: float, grace: float, jobs: LiveJobs | None) -> Decision:
    """Whether an image may go. ``jobs`` is None when Slurm cannot be read: unknown is not gone."""
    image = candidate.image
    if candidate.names:
        return Decision(image, False, f"named {', '.join(candidate.names)}")
    if not may_go(candidate, now, grace):
        return Decision(image, False, "its grace is not over")
    if jobs is None:
        return Decision(image, False, "Slurm cannot be read, and jobs may use it")
    for marker in candidate.markers:
        cluster, _, number = marker.rpartition(".")
        if number.isdecimal() and int(number) in jobs.started:
            return Decision(image, False, f"Slurm job {number} uses it")
        if cluster not in ("cluster", jobs.cluster):
            return Decision(image, False, f"it is marked by Slurm job {number} of cluster {cluster}, not asked here")
    # Where nodes have the catalogue read-only they leave no marker. A job of before the image lost its last name may
    # have found it by that name.
    older = [number for number, start in jobs.started.items() if start is not None and start <= candidate.touched]
    if older:
        return Decision(image, False, f"Slurm job {min(older)} began when the image still had a name")
    return Decision(image, True, "unnamed and unused")


def remove(catalogue: Catalogue, image: Image) -> None:
    """Remove an image: first out of sight in one step, then from the disk."""
    with catalogue.work() as place:
        catalogue.take_out(image.digest, place)
        remove_tree(catalogue.root / "uses" / image.digest)


def drop_markers(catalogue: Catalogue, jobs: LiveJobs) -> int:
    """Remove markers of this cluster's jobs that have ended without doing it; how many."""
    dropped = 0
    for path in sorted((catalogue.root / "uses").glob("*/*")):
        cluster, _, number = path.name.rpartition(".")
        if number.isdecimal() and int(number) not in jobs.started and cluster == jobs.cluster:
            path.unlink(missing_ok=True)
            dropped += 1
    return dropped


def drop_objects(catalogue: Catalogue, *, dry_run: bool) -> int:
    """Remove files of trees that are gone; how many bytes."""
    if dry_run:
        return sum(size for _, size in unused(catalogue.objects))
    return drop_unused(catalogue.objects)
