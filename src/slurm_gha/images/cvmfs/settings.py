"""Where and how images are published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Method = Literal["transaction", "ingest"]

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|[0-9A-Fa-f:]+")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PATH = re.compile(r"[A-Za-z0-9._/-]+")


@dataclass(frozen=True, slots=True)
class CvmfsSettings:
    """Fits the table ``[images.cvmfs]``; the last four are for sites, and tests, with other places.

    ``host`` None: the stratum 0 is this machine. ``max_wait``: seconds to wait in all while the repository is busy.
    ``prefix``: directory of the images inside the repository. ``server``: the program ``cvmfs_server``.
    Raises ValueError for values that have no meaning.
    """

    repository: str
    host: str | None = None
    user: str | None = None
    prefix: str = "images"
    method: Method = "transaction"
    max_wait: float = 1800.0
    mount_root: str = "/cvmfs"
    spool_root: str = "/var/spool/cvmfs"
    server: str = "cvmfs_server"
    ssh: tuple[str, ...] = ("ssh",)

    def __post_init__(self) -> None:
        if _REPOSITORY.fullmatch(self.repository) is None:
            raise ValueError(f'repository must be a name such as "images.example.org", not {self.repository!r}')
        if self.host is not None and _HOST.fullmatch(self.host) is None:
            raise ValueError(f"host must be the name or address of a machine, not {self.host!r}")
        if self.user is not None and _USER.fullmatch(self.user) is None:
            raise ValueError(f"user must be the name of an account, not {self.user!r}")
        if self.user is not None and self.host is None:
            raise ValueError("user is the account on another machine: it needs host")
        if not is_prefix(self.prefix):
            raise ValueError(f'prefix must be a relative path such as "images" or "ci/images", not {self.prefix!r}')
        if self.method not in ("transaction", "ingest"):
            raise ValueError(f'method must be "transaction" or "ingest", not {self.method!r}')
        for place in (self.mount_root, self.spool_root):
            if not place.startswith("/") or _PATH.fullmatch(place) is None or ".." in place.split("/"):
                raise ValueError(f"{place!r} must be an absolute path of letters, digits and . _ -")

    @property
    def where(self) -> str:
        """The repository in words."""
        return self.repository if self.host is None else f"{self.repository} on {self.host}"

    @property
    def mount(self) -> PurePosixPath:
        """Where the repository is seen, on nodes and on the stratum 0."""
        return PurePosixPath(self.mount_root, self.repository)

    @property
    def spool(self) -> PurePosixPath:
        """The stratum 0's own directory of the repository; ``rdonly`` in it is the published revision."""
        return PurePosixPath(self.spool_root, self.repository)

    def path(self, digest: str) -> str:
        """Where nodes find the image of ``digest``."""
        return str(self.mount / self.prefix / digest)

    def named(self, name: str) -> str:
        """Where nodes find the image that ``name`` means at the moment."""
        return str(self.mount / self.prefix / "names" / name)


def is_prefix(text: str) -> bool:
    """Whether ``text`` can be the directory of the images inside a repository."""
    parts = text.split("/")
    plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", part) is not None for part in parts)
    return plain and len(text) <= 200


def is_digest(text: str) -> bool:
    """Whether ``text`` is a digest: 64 hexadecimal digits, without ``sha256:``."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def is_name(text: str) -> bool:
    """Whether ``text`` can be the name of an image."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", text) is not None
