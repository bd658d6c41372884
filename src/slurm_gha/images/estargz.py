"""Publishes an image as eStargz in a registry: layers of which nodes fetch only the files that are read."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurm_gha.images import references
from slurm_gha.images.catalogue import Catalogue
from slurm_gha.images.errors import CommandFailed, ImageError
from slurm_gha.images.namespace import as_container_root, own_ids
from slurm_gha.images.process import environment, failure, find, run, started
from slurm_gha.images.pulling import engine_place
from slurm_gha.images.record import Image
from slurm_gha.images.reporter import Reporter, step
from slurm_gha.images.work import sockets

_PATIENCE = 30.0
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def publish_estargz(
    catalogue: Catalogue,
    image: Image,
    *,
    registry: str,
    plain_http: bool = False,
    work_dir: Path | None = None,
    again: bool = False,
    reporter: Reporter,
) -> bool:
    """Convert and push to ``registry`` (``HOST/REPOSITORY``, perhaps with a tag); whether there was anything to do."""
    own_ids()
    reference = references.parse(registry)
    if reference.registry == references.DOCKER_HUB and not registry.startswith(references.DOCKER_HUB):
        raise ImageError(f"--registry {registry}: name the host as well, such as registry.example:5000/runner")
    if reference.tag == "latest" and not registry.endswith(":latest"):
        reference = references.Reference(reference.registry, reference.repository, image.digest[:12], None)
    known = catalogue.forms(image.digest).get("estargz", {}).get("PULL", "")
    if not again and known.startswith(f"{reference.registry}/{reference.repository}@"):
        return False
    with catalogue.work() as place, engine_place(place, work_dir) as room, _containerd(room) as ctr:

        def tell(*words: str, doing: str) -> str:
            return run([*ctr, *words], doing, writes=room, env={"TMPDIR": str(room)}, reporter=reporter)

        source = "localhost/source:latest"
        with step(reporter, "reading the image"):
            tell("images", "import", "--no-unpack", "--index-name", source, str(catalogue.archive(image)),
                 doing="reading the image")  # fmt: skip
        with step(reporter, "converting the layers"):
            tell("images", "convert", "--estargz", "--oci", source, str(reference), doing="converting the layers")
        plain = ["--plain-http"] if plain_http else []
        with step(reporter, f"pushing {reference}"):
            tell("images", "push", *plain, str(reference), doing=f"pushing {reference}")
        listed = tell("images", "list", f"name=={reference}", doing="asking for the digest")
        digest = _DIGEST.search(listed)
        if digest is None:
            raise CommandFailed(f"the digest of {reference} cannot be told from what containerd says: {listed[:200]}")
        catalogue.attach(image.digest, "estargz", None, {"PULL": reference.pinned(digest[0])})
    return True


@contextmanager
def _containerd(room: Path) -> Iterator[tuple[str, ...]]:
    """A private containerd, for its store of content and its converter alone; the command line that speaks to it."""
    containerd = find("containerd", "convert images to eStargz")
    client = find("ctr-remote", "convert images to eStargz (Debian's package stargz-snapshotter has it)")
    short = sockets(room)
    sock, log, config = short / "c.sock", room / "containerd.log", room / "containerd.toml"
    config.write_text(
        f'version = 2\nroot = "{room}/containerd"\nstate = "{short}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{sock}"\n[ttrpc]\naddress = "{short}/t.sock"\n',
        encoding="utf-8",
    )
    unshare = as_container_root(containerd, "--config", str(config))
    dash = unshare.index("--")
    argv = [*unshare[:dash], "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL", *unshare[dash:]]
    with (
        log.open("w", encoding="utf-8") as out,
        started(argv, env=environment(), cwd=Path("/"), stdout=out, stderr=out) as process,
    ):
        enter = (client, "--address", str(sock))
        _await(process, enter, log)
        yield enter


def _await(process: subprocess.Popen[str], enter: tuple[str, ...], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        asked = subprocess.run([*enter, "version"], env=environment(), capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return
        if process.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise failure(["containerd"], process.returncode, lines, "starting a private containerd", log.parent)
        if time.monotonic() > deadline:
            raise CommandFailed(f"the private containerd did not answer within {_PATIENCE:g} s: {shlex.join(enter)}")
        time.sleep(0.05)
