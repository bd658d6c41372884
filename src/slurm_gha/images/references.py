"""References of images: what registry they name, and by what other way the same image can be had. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from slurm_gha.images.errors import ImageError

_REFERENCE = re.compile(
    r"(?:(?P<registry>[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*(?::[0-9]{1,5})?)/)?"
    r"(?P<repository>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
DOCKER_HUB = "docker.io"
# The machine itself, as a process in a network of its own (slirp4netns, pasta) reaches it.
HOST_FROM_INSIDE = "10.0.2.2"
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3})(?P<port>:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference with nothing left out, as Docker fills it in."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest is not None else "")

    @property
    def short_name(self) -> str:
        """What the image is called at home."""
        return self.repository.rpartition("/")[2]

    @property
    def local(self) -> str:
        """A name for the image in an engine: one with a digest can be pulled, but not given."""
        tag = self.tag if self.tag is not None else f"sha256-{(self.digest or '').removeprefix('sha256:')[:12]}"
        return f"{self.registry}/{self.repository}:{tag}"

    def pinned(self, digest: str) -> str:
        """The very image that the registry has now."""
        return f"{self.registry}/{self.repository}@{digest}"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an image: a reference to pull, and the host that is spoken to without TLS, if it is."""

    reference: str
    insecure: str | None = None
    mirror: bool = False
    loopback: bool = False


def parse(text: str) -> Reference:
    """The reference in full; raises ImageError."""
    found = _REFERENCE.fullmatch(text.removeprefix("docker://"))
    if found is None:
        raise ImageError(f"{text[:120]!r} is no reference of an image, such as ghcr.io/owner/image:tag")
    registry, repository = found["registry"], found["repository"]
    if registry is not None and not ("." in registry or ":" in registry or registry == "localhost"):
        if registry != registry.lower():
            raise ImageError(f"{text[:120]!r} is no reference of an image: repositories have small letters only")
        registry, repository = None, f"{registry}/{repository}"  # the first part is a host if it looks like one
    if registry in (None, "index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    tag = found["tag"] if found["tag"] or found["digest"] else "latest"
    return Reference(registry, repository, tag, found["digest"])


def ways(reference: Reference, mirrors: Mapping[str, str], *, from_inside: bool) -> tuple[Way, ...]:
    """The ways to an image, the best first: through the registry's mirror, if it has one, then from itself.

    ``from_inside``: for an engine in a network of its own, in which the machine's loopback has another address.
    """
    found = []
    url = mirrors.get(reference.registry)
    if url is not None:
        parts = urlsplit(url)
        found.append(_way(reference, parts.netloc, insecure=parts.scheme == "http", mirror=True, inside=from_inside))
    plain = _LOOPBACK.fullmatch(reference.registry) is not None
    found.append(_way(reference, reference.registry, insecure=plain, mirror=False, inside=from_inside))
    return tuple(found)


def _way(reference: Reference, host: str, *, insecure: bool, mirror: bool, inside: bool) -> Way:
    local = _LOOPBACK.fullmatch(host)
    if local is not None and inside:
        host = HOST_FROM_INSIDE + (local["port"] or "")
    other = Reference(host, reference.repository, reference.tag, reference.digest)
    return Way(str(other), host if insecure else None, mirror, local is not None)
