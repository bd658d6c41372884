"""Pulls an image from a registry into the catalogue, through the registry's mirror where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from slurm_gha.images import references
from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.engine import Engine, EngineKind, open_engine
from slurm_gha.images.errors import CommandFailed
from slurm_gha.images.record import ARCHIVE_NAME, Image, checked_name
from slurm_gha.images.references import Reference
from slurm_gha.images.reporter import Reporter, step
from slurm_gha.images.taking import new_files, take
from slurm_gha.images.work import work


def pull(
    catalogue: Catalogue,
    text: str,
    *,
    name: str | None = None,
    mirrors: Mapping[str, str] | None = None,
    engine: EngineKind = EngineKind.DOCKER,
    docker_host: str | None = None,
    work_dir: Path | None = None,
    reporter: Reporter,
) -> Image:
    """Pull ``text``, a reference. ``name``: in the catalogue; without one, the last part of the repository's."""
    reference = references.parse(text)
    known = checked_name(name if name is not None else reference.short_name)
    with catalogue.work() as place, engine_place(place, work_dir) as room:
        files = new_files(place)
        opened = opened_for(room, (reference,), mirrors or {}, engine, docker_host, reporter)
        with opened as running:
            digest = fetch(running, reference, mirrors or {}, reporter)
            with step(reporter, f"saving {reference}"):
                running.save(reference.local, files / ARCHIVE_NAME)
        pinned = reference.pinned(digest) if digest is not None else str(reference)
        return take(catalogue, files, known, reference.local, pinned, reporter)


def fetch(engine: Engine, reference: Reference, mirrors: Mapping[str, str], reporter: Reporter) -> str | None:
    """Have the engine pull a reference by one of the ways to it, and give it its local name. The registry's digest."""
    ways = references.ways(reference, mirrors, from_inside=engine.has_own_network)
    for number, way in enumerate(ways):
        try:
            with step(reporter, f"pulling {way.reference}"):
                engine.pull(way)
        except CommandFailed as error:
            if number == len(ways) - 1:
                raise
            reporter.line(f"the mirror failed; pulling from {reference.registry} itself ({error})")
            continue
        digest = engine.registry_digest(way.reference)
        if way.reference != reference.local:
            engine.tag(way.reference, reference.local)
        return digest
    return None


def opened_for(
    room: Path,
    wanted: tuple[Reference, ...],
    mirrors: Mapping[str, str],
    kind: EngineKind,
    docker_host: str | None,
    reporter: Reporter,
) -> AbstractContextManager[Engine]:
    """An engine that can reach the registries of the references, and their mirrors."""
    ways = [way for reference in wanted for way in references.ways(reference, mirrors, from_inside=True)]
    return open_engine(
        room,
        kind=kind,
        docker_host=docker_host,
        insecure=sorted({way.insecure for way in ways if way.insecure is not None}),
        host_loopback=any(way.loopback for way in ways),
        reporter=reporter,
    )


@contextmanager
def engine_place(place: Path, work_dir: Path | None) -> Iterator[Path]:
    """Where an engine keeps its data: in ``work_dir``, or else with the rest of the work."""
    if work_dir is None:
        yield place
    else:
        with work(work_dir) as room:
            yield room
