"""Pull-through caches: configuration for docker-registry (distribution 2.8 or later), and whether one answers.

One process serves one upstream. Jobs know of a mirror by ``[images.mirrors]``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from slurm_gha.domain.secret import Secret

DOCKER_IO = "docker.io"
_DOCKER_HUB = "https://registry-1.docker.io"
# What a job waits for a mirror; node/mirror.sh has the same.
PATIENCE = 3.0
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(:[0-9]{1,5})?")
_UPSTREAM = re.compile(r'^  remoteurl: (".*")$', re.MULTILINE)


class MirrorError(Exception):
    """The text says what is wrong with a mirror, in one sentence."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the upstream, for what may not be read without one."""

    user: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Mirror:
    """One cache. ``ttl``: seconds until what is kept is fetched anew (distribution 3; 2.8 keeps it for a week)."""

    upstream: str
    storage: Path
    listen: str = "0.0.0.0:5000"
    ttl: int = 7 * 86400
    login: Login | None = None


def upstream_url(text: str) -> str:
    """The URL of a registry given by its host (``docker.io``) or URL; raises MirrorError."""
    if text in {DOCKER_IO, "index.docker.io", "registry-1.docker.io"}:
        return _DOCKER_HUB
    if _HOST.fullmatch(text):
        return f"https://{text}"
    parts = urlsplit(text)
    plain = parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.netloc) and not parts.path.strip("/")
    if not plain or parts.query or parts.fragment:
        raise MirrorError(f"{text!r} is no registry: write its host, such as ghcr.io, or its URL without a path")
    return f"{parts.scheme}://{parts.netloc}"


def read_login(path: Path) -> Login:
    """From a file with ``user:password`` on its first line, closed to others; raises MirrorError."""
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MirrorError(f"the credentials in {path} cannot be read: {getattr(error, 'strerror', error)}") from None
    if mode & 0o077:
        raise MirrorError(f"{path} holds a password and is open to others (mode {mode & 0o7777:04o}): chmod 600 {path}")
    user, colon, password = text.partition("\n")[0].strip().partition(":")
    if not (user and colon and password):
        raise MirrorError(f"{path} must hold user:password on its first line")
    return Login(user, Secret(password))


def _quoted(text: str) -> str:
    """A YAML text: what JSON writes is one, but for its halves of characters."""
    return json.dumps(text, ensure_ascii=False)


def registry_config(mirror: Mirror) -> str:
    """The configuration file; it holds the password, if there is one."""
    lines = [
        "# A pull-through cache for docker-registry (distribution), one process an upstream.",
        "version: 0.1",
        "log:",
        "  level: info",
        "storage:",
        "  filesystem:",
        f"    rootdirectory: {_quoted(str(mirror.storage))}",
        "  delete:",
        "    enabled: true",
        "http:",
        f"  addr: {_quoted(mirror.listen)}",
        "proxy:",
        f"  remoteurl: {_quoted(upstream_url(mirror.upstream))}",
        "  # Distribution 3 knows this key; 2.8 keeps everything for a week.",
        f"  ttl: {mirror.ttl}s",
    ]
    if mirror.login is not None:
        lines.append(f"  username: {_quoted(mirror.login.user)}")
        lines.append(f"  password: {_quoted(mirror.login.password.reveal())}")
    return "\n".join([*lines, ""])


def upstream_of(config: str) -> str:
    """The upstream in a text of :func:`registry_config`; raises MirrorError."""
    match = _UPSTREAM.search(config)
    if match is None:
        raise MirrorError("there is no upstream in it; write it with: slurm-gha image mirror write")
    return str(json.loads(match[1]))


def unit(mirror: Mirror, config: Path, program: str) -> str:
    """The text of a systemd unit that runs it."""
    return f"""[Unit]
Description=slurm-gha: pull-through cache of {urlsplit(upstream_url(mirror.upstream)).netloc}
After=network-online.target
Wants=network-online.target

[Service]
# Waits until the upstream answers: docker-registry ends at once if it does not.
ExecStart={program} image mirror serve {config}
User=slurm-gha
Restart=on-failure
RestartSec=5
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ReadWritePaths={mirror.storage}

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Health:
    """What became of one look: ``trouble`` is empty if the mirror answered as a registry does."""

    registry: str
    url: str
    seconds: float
    status: int | None = None
    trouble: str = ""


def probe(registry: str, url: str, patience: float = PATIENCE) -> Health:
    """Ask one mirror for ``/v2/``, as a job does."""
    began = time.monotonic()
    try:
        with httpx2.Client(timeout=patience, trust_env=False) as client, client.stream("GET", f"{url}/v2/") as answer:
            status = answer.status_code
    except httpx2.TimeoutException:
        return Health(registry, url, time.monotonic() - began, trouble=f"no answer within {patience:g} s")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Health(registry, url, time.monotonic() - began, trouble=f"cannot be reached: {error}")
    trouble = f"answers with HTTP status {status}" if status >= 500 else ""
    return Health(registry, url, time.monotonic() - began, status, trouble)


def probe_all(mirrors: Mapping[str, str]) -> list[Health]:
    """One look at each of ``[images.mirrors]``."""
    return [probe(registry, url) for registry, url in sorted(mirrors.items())]


def without(health: Health) -> str:
    """What a job does while that mirror is away."""
    if health.registry == DOCKER_IO:
        return "jobs start without it, and pull from docker.io itself"
    return f"jobs wait at most {PATIENCE:g} s for it, then pull from {health.registry} itself"


def pauses(longest: float = 60.0) -> Iterator[float]:
    """Growing pauses between two tries, without an end."""
    pause = 1.0
    while True:
        yield pause
        pause = min(pause * 2, longest)
