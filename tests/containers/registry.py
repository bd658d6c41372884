"""A registry at the far end of the test network, filled with images that lie in Docker archives."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slurm_gha.testing.network import Network

PORT = 5000
# A step that makes an image with a shell and next to nothing else: it is there at once.
TINY = (
    "tar -ch /bin/sh /bin/cat /bin/sleep /lib/x86_64-linux-gnu/libc.so.6 /lib64/ld-linux-x86-64.so.2 2>/dev/null"
    " | docker import - tiny:1 > /dev/null; "
)
_CONFIGURATION = """version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http:
  addr: "{address}:{port}"
"""
_TLS = """  tls: {{certificate: {directory}/ca.crt, key: {directory}/ca.key}}
"""


@contextmanager
def registry(network: Network, directory: Path, *, port: int = PORT, secure: bool = False) -> Iterator[str]:
    """Its host and port. ``directory`` holds its blobs, and if it speaks HTTPS the certificate, ``ca.crt``."""
    host = f"{network.address}:{port}"
    configuration = directory / "registry.yml"
    text = _CONFIGURATION.format(directory=directory / "blobs", address=network.address, port=port)
    if secure:
        files = ("-keyout", str(directory / "ca.key"), "-out", str(directory / "ca.crt"))
        names = ("-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{network.address}")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *names)
        text += _TLS.format(directory=directory)
    configuration.write_text(text)
    with (directory / "log").open("wb") as log:
        argv = network.inside(["docker-registry", "serve", str(configuration)])
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        url = f"{'https' if secure else 'http'}://{host}/v2/"
        while run("curl", "-skf", url, check=False).returncode != 0:
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)
        yield host
    finally:
        process.kill()
        process.wait()


def push(archive: Path, reference: str) -> None:
    """Put the image of a Docker archive into a registry that speaks HTTP."""
    options = ("--dest-tls-verify=false", "--dest-compress-format=gzip", "--dest-compress-level=1")
    run("skopeo", "copy", "--quiet", *options, f"docker-archive:{archive}", f"docker://{reference}")


def run(*argv: str, check: bool = True, seconds: float = 600) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0 or not check, f"{argv}: {done.stdout}{done.stderr}"
    return done
