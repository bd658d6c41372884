"""The command lines of a publication, as pure argv builders. Nothing secret stands in them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib import resources

from slurm_gha.images.cvmfs.settings import CvmfsSettings

_SSH_OPTIONS = (
    "-T",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=15",
    # A dead line is noticed, and a publish that says nothing for an hour is none.
    "-o",
    "ServerAliveInterval=30",
)


def step(settings: CvmfsSettings, token: str, verb: str, *arguments: str) -> list[str]:
    """One step of ``stratum.sh`` on the stratum 0; ``token`` is the word of our transaction."""
    fixed = (settings.server, settings.repository, str(settings.mount), str(settings.spool), settings.prefix, token)
    return on_stratum(settings, ["sh", "-c", script(), "sh", verb, *fixed, *arguments])


def on_stratum(settings: CvmfsSettings, argv: Sequence[str]) -> list[str]:
    """``argv`` on this machine, or by ssh: there a shell takes the words apart again, so each is quoted."""
    if settings.host is None:
        return list(argv)
    account = () if settings.user is None else ("-l", settings.user)
    return [*settings.ssh, *_SSH_OPTIONS, *account, settings.host, "--", shlex.join(argv)]


def script() -> str:
    """The text of ``stratum.sh``."""
    return resources.files("slurm_gha.images.cvmfs").joinpath("stratum.sh").read_text(encoding="utf-8")


def revision(settings: CvmfsSettings, prefix: Sequence[str]) -> list[str]:
    """Which revision a node sees. No word of it needs quoting, so that ``prefix`` may be ssh or srun alike."""
    return [*prefix, "getfattr", "-n", "user.revision", "--only-values", "--absolute-names", str(settings.mount)]


def look(path: str, prefix: Sequence[str]) -> list[str]:
    """Whether a node sees ``path``; likewise."""
    return [*prefix, "stat", "-L", "-c", "%F", path]
