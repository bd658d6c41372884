"""Registries as processes: one that holds images, and one that is a cache of another (a mirror)."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slurm_gha.images.mirror import Mirror, registry_config
from slurm_gha.testing.stage import free_port

LOOPBACK = "127.0.0.1"
PATIENCE = 30.0
_CONFIGURATION = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {blobs}}}}}
http: {{addr: "{host}"}}
"""


class RegistryError(Exception):
    """A registry does not start; the text holds its words."""


@contextmanager
def registry(
    address: str,
    blobs: Path,
    work: Path,
    port: int | None = None,
    inside: Callable[[Sequence[str]], list[str]] = list,
) -> Iterator[str]:
    """One that keeps its images in ``blobs``; its host and port. ``inside`` makes the command that runs elsewhere."""
    host = f"{address}:{port or free_port()}"
    with _running(_CONFIGURATION.format(blobs=blobs, host=host), host, work / "registry", inside):
        yield host


@contextmanager
def mirror(address: str, upstream: str, storage: Path, work: Path) -> Iterator[str]:
    """A pull-through cache of ``upstream`` (a URL), configured as ``slurm-gha image mirror write`` does; its URL."""
    host = f"{address}:{free_port()}"
    text = registry_config(Mirror(upstream, storage, host))
    with _running(text, host, work / "mirror", list):
        yield f"http://{host}"


@contextmanager
def _running(text: str, host: str, path: Path, inside: Callable[[Sequence[str]], list[str]]) -> Iterator[None]:
    configuration, log = path.with_suffix(".yml"), path.with_suffix(".log")
    configuration.write_text(text)
    argv = inside(["docker-registry", "serve", str(configuration)])
    with log.open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(host):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RegistryError(f"the registry at {host} does not answer: {log.read_text()[-1000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host}/v2/", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
