"""Read-only stores: what an engine has made of an image, so that the engines of jobs need not make it again.

Their layout is the engine's own and no interface of it, and the owners of files are written into them. So each says
which engine made it and for which ids; a job looks, and pulls or loads where one does not fit.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.engine import Engine, EngineKind, daemon_version, podman, podman_version, private_daemon
from slurm_gha.images.errors import CommandFailed, ImageError
from slurm_gha.images.namespace import Ids, own_ids, remove_tree, with_own_ids
from slurm_gha.images.process import find, run
from slurm_gha.images.pulling import engine_place
from slurm_gha.images.record import Image
from slurm_gha.images.reporter import Reporter, step


class StoreFormat(StrEnum):
    EROFS = "erofs"
    SQUASHFS = "squashfs"


def publish_store(
    catalogue: Catalogue,
    image: Image,
    *,
    format: StoreFormat = StoreFormat.EROFS,  # noqa: A002 – what the option is called
    work_dir: Path | None = None,
    again: bool = False,
    reporter: Reporter,
) -> bool:
    """Make the read-only store of a Docker data-root; whether there was anything to do."""
    ids = own_ids()
    values = {
        "FORMAT": str(format),
        "ENGINE": "docker",
        "ENGINE_VERSION": daemon_version(),
        "DRIVER": "overlay2",
        **ids.fields(),
    }
    if not again and catalogue.forms(image.digest).get("store") == values:
        return False
    maker = find("mkfs.erofs" if format is StoreFormat.EROFS else "mksquashfs", f"make a store of format {format}")
    with catalogue.work() as place, engine_place(place, work_dir) as room:
        with private_daemon(room) as (sock, root):
            docker = (find("docker", "load the image"),)
            env = {"DOCKER_HOST": f"unix://{sock}"}
            engine = Engine(EngineKind.DOCKER, docker, env, room, private=True, reporter=reporter)
            with step(reporter, "loading the image into a fresh daemon"):
                engine.load(catalogue.archive(image))
        target = place / f"store.{format}"
        tree = _only_layers(root, room / "tree", ids)
        with step(reporter, f"writing {target.name}"):
            run(with_own_ids(ids, maker, *_arguments(format, target, tree)), f"writing {target.name}", writes=target)
        target.chmod(0o644)
        catalogue.attach(image.digest, "store", target, values)
    return True


def publish_podman(
    catalogue: Catalogue, image: Image, *, again: bool = False, reporter: Reporter, work_dir: Path | None = None
) -> bool:
    """Make the directory for Podman's ``additionalimagestores``; whether there was anything to do."""
    ids = own_ids()
    values = {"ENGINE": "podman", "ENGINE_VERSION": podman_version(), "DRIVER": "overlay", **ids.fields()}
    if not again and catalogue.forms(image.digest).get("podman") == values:
        return False
    with catalogue.work() as place, engine_place(place, work_dir) as room:
        engine = podman(room, "podman", reporter)
        with step(reporter, "loading the image into a fresh storage"):
            engine.load(catalogue.archive(image))
        made = room / "podman"
        for rest in (
            "libpod",
            "tmp",
            "db.sql",
            "defaultNetworkBackend",
            "overlay-containers",
            "storage.lock",
            "userns.lock",
        ):
            remove_tree(made / rest)
        with step(reporter, "writing the store"):
            made = _onto(made, place / "store" / "podman", ids)
        catalogue.attach(image.digest, "podman", made, values)
    return True


def _only_layers(root: Path, tree: Path, ids: Ids) -> Path:
    """The two parts of a data-root that belong to images."""
    tree.mkdir(mode=0o755)
    for part in ("image", "overlay2"):
        run(with_own_ids(ids, "mv", str(root / part), str(tree / part)), "sorting the layers", writes=tree)
    return tree


def _arguments(format: StoreFormat, target: Path, tree: Path) -> list[str]:  # noqa: A002
    if format is StoreFormat.EROFS:
        return ["--quiet", str(target), str(tree)]
    options = ["-noappend", "-no-progress", "-quiet", "-comp", "zstd", "-Xcompression-level", "3"]
    return [str(tree), str(target), *options]


def _onto(made: Path, target: Path, ids: Ids) -> Path:
    """Bring a tree, with its owners, onto the catalogue's file system."""
    target.parent.mkdir(mode=0o755)
    try:
        if os.stat(made).st_dev == os.stat(target.parent).st_dev:
            made.rename(target)
        else:
            argv = ["cp", "-a", "--one-file-system", str(made), str(target)]
            run(with_own_ids(ids, *argv), "copying the store", writes=target.parent)
            remove_tree(made)
    except CommandFailed as error:
        raise ImageError(
            f"{error}; a store for Podman keeps files of subordinate ids, which the catalogue's file system must allow "
            "(NFS does not): use the store for Docker, or unpacked, there"
        ) from None
    return target
