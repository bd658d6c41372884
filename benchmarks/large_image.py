"""An image as large as those that sites run, made by ourselves, and kept in all the forms in which nodes can get it.

Debian, the stand-in runner, and layers of generated files as a runner's image has them: half of their bytes are random,
half are text. The seed decides everything. Making all of it takes a quarter of an hour; it is kept in
``/var/cache/slurm-gha`` until the stand-in runner or the generator is another.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.registry import LOOPBACK, registry
from benchmarks.table import say
from slurm_gha.testing import runner
from slurm_gha.testing.base_image import CACHE, base_image
from slurm_gha.testing.docker_archive import write_archive
from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.runner import directory

TOOLS = Path("/opt/slurm-gha-tools")  # where tools/install_*.sh put what Debian lacks
NAME = "runner"
REPOSITORY = "lab/runner"
PLAIN, LAZY = "1", "lazy"
SEED = 20_240_101
VERSION = 1  # of what is generated
RANDOM_SHARE = 0.5
TEXT = b"for each of the files that a tool chain brings along, there is another one that nobody has ever opened\n" * 700


@dataclass(frozen=True, slots=True)
class Size:
    """So many generated layers, with so many files and bytes in all."""

    layers: int
    files: int
    bytes: int


SIZES = {"small": Size(2, 600, 12_000_000), "real": Size(7, 46_000, 1_660_000_000)}


class ImageError(Exception):
    """A form of the image cannot be made; the text says why."""


@dataclass(frozen=True)
class LargeImage:
    """The image in its cache; made for one user, whose catalogue it is. ``blobs`` is what a registry keeps."""

    home: Path
    slurm: PrivateSlurm

    @property
    def catalogue(self) -> Path:
        return self.home / "catalogue"

    @property
    def blobs(self) -> Path:
        return self.home / "blobs"

    @property
    def directory(self) -> Path:
        """Its directory in the catalogue."""
        return (self.catalogue / "names" / NAME).resolve(strict=True)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.home / "facts.json").read_text())
        return facts

    def command(self, *words: str) -> str:
        """One verb of ``slurm-gha image``, as the user whose catalogue it is."""
        verb, *rest = words
        argv = [sys.executable, "-m", "slurm_gha", "image", verb, "--dir", str(self.catalogue), *rest]
        path = f"{TOOLS}/apptainer/bin:{self.slurm.env['PATH']}"
        return _run(self.slurm.as_user(argv), env={**self.slurm.env, "PATH": path}, cwd="/")


def large_image(size: str, slurm: PrivateSlurm, forms: Sequence[str]) -> LargeImage:
    """The image with these forms (of ``slurm-gha image publish``) and in a registry; made where it is not there yet."""
    CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = LargeImage(CACHE / f"startup-{size}-{_key(size, slurm.uid)}", slurm)
    with (CACHE / f"startup-{size}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in CACHE.glob(f"startup-{size}-*"):
            if old != made.home:
                shutil.rmtree(old)
        if not (made.home / "facts.json").exists():
            _make(made, size)
        for form in forms:
            if not (made.directory / f"{form}.env").exists():
                _publish(made, form)
    return made


def _key(size: str, uid: int) -> str:
    """Changes when the image would be another."""
    digest = hashlib.sha256(f"{VERSION} {base_image().name} {SIZES[size]} {uid}".encode())
    for file in sorted(Path(runner.__file__).parent.glob("*.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _make(made: LargeImage, size: str) -> None:
    say(f"making the image ({size}); it is kept in {made.home}")
    if made.home.exists():
        shutil.rmtree(made.home)
    made.home.mkdir(mode=0o755)
    made.catalogue.mkdir(mode=0o755)
    os.chown(made.catalogue, made.slurm.uid, made.slurm.gid)
    with tempfile.TemporaryDirectory(dir=made.home) as work:
        place = Path(work)
        place.chmod(0o755)
        layers = [base_image(), _runner_layer(place), *_generated(place, SIZES[size])]
        archive = place / "archive.tar"
        write_archive(archive, layers, f"{REPOSITORY}:{PLAIN}", {"WorkingDir": "/home/runner"})
        archive.chmod(0o644)
        facts = {
            "layers": len(layers),
            "files": sum(_count(layer) for layer in layers),
            "bytes": sum(layer.stat().st_size for layer in layers),
        }
        made.command("import", str(archive), "--name", NAME)
        with registry(LOOPBACK, made.blobs, place) as host:
            reference = f"docker://{host}/{REPOSITORY}:{PLAIN}"
            options = ("--dest-tls-verify=false", "--dest-compress-format=gzip")
            _run(["skopeo", "copy", "--quiet", *options, f"docker-archive:{archive}", reference])
            manifest = json.loads(_run(["skopeo", "inspect", "--tls-verify=false", "--raw", reference]))
    facts["compressed_bytes"] = sum(layer["size"] for layer in manifest["layers"])
    (made.home / "facts.json").write_text(json.dumps(facts))


def _publish(made: LargeImage, form: str) -> None:
    say(f"publishing it as {form}")
    if form != "estargz":
        made.command("publish", NAME, "--to", form)
        return
    with tempfile.TemporaryDirectory() as work, registry(LOOPBACK, made.blobs, Path(work)) as host:
        made.command("publish", NAME, "--to", form, "--registry", f"{host}/{REPOSITORY}:{LAZY}", "--plain-http")


def _runner_layer(place: Path) -> Path:
    """The stand-in runner with all that it needs, and a Docker client for its steps."""
    directory.build(place / "runner", carried=True)
    layer = place / "runner.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add(place / "runner", arcname="home/runner", filter=_plain)
        if (docker := shutil.which("docker", path="/usr/bin:/usr/local/bin")) is not None:
            tar.add(docker, arcname="usr/local/bin/docker", filter=_plain)
    return layer


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member


def _generated(place: Path, size: Size) -> Iterator[Path]:
    """Layers of files, most of them small and a few large, a hundred in a directory."""
    chance = random.Random(SEED)
    for number in range(size.layers):
        layer = place / f"generated-{number}.tar"
        weights = [chance.lognormvariate(0, 1.5) for _ in range(size.files // size.layers)]
        scale = size.bytes / size.layers / sum(weights)
        with tarfile.open(layer, "w") as tar:
            for index, weight in enumerate(weights):
                if index % 100 == 0:
                    folder = f"opt/tools/{number}/{index // 100:03d}"
                    tar.addfile(_member(folder, kind=tarfile.DIRTYPE, mode=0o755))
                content = _content(chance, int(weight * scale))
                tar.addfile(_member(f"{folder}/{index:05d}", len(content)), io.BytesIO(content))
        yield layer


def _member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.size = kind, mode, size
    return member


def _content(chance: random.Random, size: int) -> bytes:
    noise = chance.randbytes(int(size * RANDOM_SHARE))
    times = (size - len(noise)) // len(TEXT) + 1
    return noise + (TEXT * times)[: size - len(noise)]


def _count(layer: Path) -> int:
    with tarfile.open(layer) as tar:
        return sum(member.isreg() for member in tar)


@contextmanager
def mounted_stores(made: LargeImage, stores: Path, script: str) -> Iterator[None]:
    """Stores mounted as nodes do it, by the ``script`` for that; unmounted at the end."""
    _run(["/bin/bash", "-p", "-s"], text_in=script)
    try:
        yield
    finally:
        for mount in filter(Path.is_mount, stores.iterdir()):
            _run(["umount", str(mount)])


def _run(argv: Sequence[str], *, text_in: str = "", **options: Any) -> str:
    done = subprocess.run(argv, input=text_in, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        words = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise ImageError(f"{' '.join(argv[:8])} failed with exit status {done.returncode}: {words}")
    return done.stdout
