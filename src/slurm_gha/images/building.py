"""Builds the image of a runner from a Dockerfile: ours, or the site's."""

from __future__ import annotations

import shutil
import struct
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from slurm_gha.images import references
from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.engine import EngineKind
from slurm_gha.images.errors import FULL, ImageError, MissingTool, disk_full
from slurm_gha.images.process import run, search_path
from slurm_gha.images.pulling import engine_place, fetch, opened_for
from slurm_gha.images.record import ARCHIVE_NAME, Image, checked_name
from slurm_gha.images.reporter import Reporter, step
from slurm_gha.images.taking import local_reference, new_files, take

DEFAULT_BASE = "docker.io/library/debian:bookworm-slim"
_PT_INTERP = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build. ``runner``: a tarball or directory of actions/runner. ``base``: a reference, or with
    ``base_archive`` a tar of a root file system. ``context``: what the Dockerfile may copy besides ``runner/`` and
    ``docker/``. ``docker_cli``: a static Docker client; without one, this machine's."""

    name: str
    runner: Path | None
    base: str | None = None
    base_archive: Path | None = None
    file: Path | None = None
    context: Path | None = None
    docker_cli: Path | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)


def build(
    catalogue: Catalogue,
    recipe: Recipe,
    *,
    mirrors: Mapping[str, str] | None = None,
    engine: EngineKind = EngineKind.DOCKER,
    docker_host: str | None = None,
    work_dir: Path | None = None,
    reporter: Reporter,
) -> Image:
    """Build an image and publish it under its name."""
    _check(recipe)
    with catalogue.work() as place, engine_place(place, work_dir) as room:
        files = new_files(place)
        with step(reporter, "assembling the build context"):
            context = _assemble(recipe, room / "context")
        base = None
        if recipe.base_archive is None and (recipe.base is not None or recipe.file is None):
            base = references.parse(recipe.base or DEFAULT_BASE)
        arguments = dict(recipe.arguments)
        reference = local_reference(recipe.name)
        wanted = (base,) if base is not None else ()
        opened = opened_for(room, wanted, mirrors or {}, engine, docker_host, reporter)
        with _dockerfile(recipe) as dockerfile, opened as running:
            if recipe.base_archive is not None:
                arguments["BASE"] = f"localhost/slurm-gha/base-of-{recipe.name}:latest"
                with step(reporter, f"importing {recipe.base_archive.name}"):
                    running.take_rootfs(recipe.base_archive, arguments["BASE"])
            elif base is not None:
                fetch(running, base, mirrors or {}, reporter)
                arguments["BASE"] = base.local
            with step(reporter, "building"):
                running.build(context, dockerfile, reference, arguments)
            with step(reporter, "saving"):
                running.save(reference, files / ARCHIVE_NAME)
        return take(catalogue, files, recipe.name, reference, None, reporter)


def _check(recipe: Recipe) -> None:
    checked_name(recipe.name)
    if recipe.runner is None and recipe.file is None:
        raise ImageError(
            "name an actions/runner with --runner: a tarball from https://github.com/actions/runner/releases, or a "
            "directory in which one is unpacked"
        )
    if recipe.base is not None and recipe.base_archive is not None:
        raise ImageError("--base and --base-archive exclude each other")
    for path in (recipe.base_archive, recipe.file, recipe.docker_cli):
        if path is not None and not path.is_file():
            raise ImageError(f"{path} is not a file")
    if recipe.context is not None and not recipe.context.is_dir():
        raise ImageError(f"{recipe.context} is not a directory")


def _assemble(recipe: Recipe, context: Path) -> Path:
    """The build context: the site's own files, the runner in runner/, the Docker client in docker/."""
    try:
        if recipe.context is not None:
            run(["cp", "-a", "--reflink=auto", f"{recipe.context}/.", str(_made(context))], "copying", writes=context)
        else:
            context.mkdir()
        (context / "docker").mkdir(exist_ok=True)
        (context / "runner").mkdir(exist_ok=True)
        if recipe.runner is not None:
            _place_runner(recipe.runner, context / "runner")
        if recipe.runner is not None or recipe.docker_cli is not None:
            shutil.copy2(_docker_cli(recipe.docker_cli), context / "docker/docker")
            (context / "docker/docker").chmod(0o755)
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(context.parent, "assembling the build context") from None
        raise ImageError(f"the build context cannot be made: {error.strerror}: {error.filename}") from None
    return context


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _place_runner(runner: Path, target: Path) -> None:
    if runner.is_dir():
        run(
            ["cp", "-a", "--reflink=auto", "--no-preserve=ownership", f"{runner}/.", str(target)],
            "copying the runner",
            writes=target,
        )
    elif runner.is_file() and tarfile.is_tarfile(runner):
        run(["tar", "-xf", str(runner), "--no-same-owner", "-C", str(target)], "unpacking the runner", writes=target)
    else:
        raise ImageError(f"{runner} is neither a directory nor a tarball with an actions/runner")
    if not (target / "run.sh").is_file():
        raise ImageError(f"{runner} holds no actions/runner: it has no run.sh at its top")


def _docker_cli(given: Path | None) -> Path:
    """A Docker client that runs in any image: a static one."""
    found = shutil.which("docker", path=search_path())
    path = given if given is not None else Path(found).resolve() if found is not None else None
    if path is None:
        raise MissingTool("there is no docker command on this machine to put into the image; name one: --docker-cli")
    if not _is_static(path):
        raise ImageError(
            f"{path} is not a statically linked program, and would not run in every image; name one with --docker-cli "
            "(the tarballs of https://download.docker.com/linux/static/ have it)"
        )
    return path


def _is_static(path: Path) -> bool:
    """Whether an ELF file asks for no interpreter."""
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64 or header[:4] != b"\x7fELF" or header[4] != 2:
            return False
        order = "<" if header[5] == 1 else ">"
        (offset,) = struct.unpack_from(f"{order}Q", header, 32)
        size, number = struct.unpack_from(f"{order}HH", header, 54)
        file.seek(offset)
        table = file.read(size * number)
    return all(struct.unpack_from(f"{order}I", table, i * size)[0] != _PT_INTERP for i in range(len(table) // size))


@contextmanager
def _dockerfile(recipe: Recipe) -> Iterator[Path]:
    if recipe.file is not None:
        yield recipe.file.absolute()
    else:
        with resources.as_file(resources.files("slurm_gha.images") / "Dockerfile") as path:
            yield path
