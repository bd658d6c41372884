"""A runner image as a site would build one: Debian, the stand-in runner in /home/runner, and a Docker client.

It is put into a catalogue of images without any engine, for tests and the demo. Run as a module,
``python -m slurm_gha.testing.runner_image FILE``, it writes the archive.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from slurm_gha.testing.base_image import CACHE, BaseImageError, base_image
from slurm_gha.testing.docker_archive import write_archive
from slurm_gha.testing.runner import directory

RUNNER_DIR = "/home/runner"


def base_archive(path: Path, reference: str = "base:1", cache: Path = CACHE) -> str:
    """Write an archive of an image that is bare Debian; its digest."""
    return write_archive(path, [base_image(cache)], reference)


def runner_archive(path: Path, reference: str = "runner:1", cache: Path = CACHE) -> str:
    """Write an archive of the runner image; its digest."""
    with tempfile.TemporaryDirectory(dir=path.parent) as parent:
        layer = Path(parent) / "layer.tar"
        directory.build(Path(parent) / "runner", carried=True)
        with tarfile.open(layer, "w") as tar:
            tar.add(Path(parent) / "runner", arcname=RUNNER_DIR.lstrip("/"), filter=_as_root)
            if (docker := _docker_client()) is not None:
                tar.add(docker, arcname="usr/local/bin/docker", filter=_as_root)
        # By itself it is a web server, so that it can also stand for the image of a service.
        serve = ["python3", "-m", "http.server", "8000"]
        return write_archive(path, [base_image(cache), layer], reference, {"WorkingDir": RUNNER_DIR, "Cmd": serve})


def add_to_catalogue(catalogue: Path, name: str, make: Callable[[Path], str]) -> Path:
    """Put the image that ``make`` writes the archive of into ``catalogue`` under ``name``; its directory there."""
    (catalogue / "names").mkdir(mode=0o755, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=catalogue))
    digest = make(made / "archive.tar")
    values = {"digest": digest, "reference": f"{name}:1", "pull": None, "runner_dir": RUNNER_DIR}
    (made / "image.json").write_text(json.dumps(values))
    (made / "image.env").write_text(f"DIGEST={digest}\nREFERENCE={name}:1\nPULL=\nRUNNER_DIR={RUNNER_DIR}\n")
    made.chmod(0o755)
    (made / "archive.tar").chmod(0o644)
    home = made.rename(catalogue / digest)
    (catalogue / "names" / name).symlink_to(f"../{digest}")
    return home


def _docker_client() -> str | None:
    return shutil.which("docker", path="/usr/bin:/usr/local/bin")


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


if __name__ == "__main__":
    try:
        runner_archive(Path(sys.argv[1]))
    except BaseImageError as error:
        sys.exit(str(error))
