"""What the commands answer, read into verdicts. Pure: exit codes and texts in, values out.

cvmfs_server says some things on its standard output and others on its standard error, and gives exit code 1 for
most; so both streams are read as one text, and the exit code counts where it means one thing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from slurm_gha.images.cvmfs.settings import CvmfsSettings

BUSY_EXIT = 17
WEB_SERVER_EXIT = 5
USAGE_EXIT = 3
SSH_FAILED_EXIT = 255
NO_SPOOL_EXIT = 91
NOT_OURS_EXIT = 92


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said; a negative ``exit_code`` is the signal that killed it."""

    exit_code: int
    output: str = ""
    errors: str = ""

    @property
    def text(self) -> str:
        """Both streams."""
        return f"{self.errors}\n{self.output}"

    @property
    def words(self) -> str:
        """The last lines of both, as part of a sentence."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return "; ".join(lines[-3:])[:400] or f"exit code {self.exit_code}, without a word"


class Verdict(enum.Enum):
    """What an answer means for what comes next."""

    DONE = "done"
    BUSY = "busy"  # somebody's transaction or publish is there: wait
    BROKEN = "broken"  # our transaction lost its writable mount: mount it again
    GONE = "gone"  # there is no transaction, or it is not ours
    UNREACHABLE = "unreachable"  # ssh did not get through; what happened there is not known
    REFUSED = "refused"  # needs an administrator
    FAILED = "failed"  # anything else


@dataclass(frozen=True, slots=True)
class Reading:
    """A verdict with its reason, the end of a sentence."""

    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What is published: the revision if it can be told, digests with the time they came, names with their digest."""

    revision: int | None = None
    images: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def opening(settings: CvmfsSettings, answer: Answer) -> Reading:
    """What the answer to ``transaction`` means (and to ``ingest``, which opens one)."""
    text = answer.text
    if answer.exit_code == 0:
        return Reading(Verdict.DONE)
    if answer.exit_code == BUSY_EXIT or "another transaction is already open" in text:
        return Reading(Verdict.BUSY, "another transaction is open")
    if "Another publish process is active" in text:
        return Reading(Verdict.BUSY, "another publish is going on")
    if answer.exit_code == 1 and "is not mounted read/write" in text:
        return Reading(Verdict.BUSY, "another transaction is being published, or was broken off")
    return _common(settings, answer)


def publishing(settings: CvmfsSettings, answer: Answer) -> Reading:
    """What the answer to ``publish`` means."""
    text = answer.text
    if answer.exit_code == 0:
        return Reading(Verdict.DONE)
    if answer.exit_code == NOT_OURS_EXIT:
        return Reading(Verdict.GONE, "the open transaction is not ours")
    if "Another publish process is active" in text:
        return Reading(Verdict.BUSY, "another publish is going on")
    if "cannot be repaired" in text:
        return Reading(Verdict.BROKEN, "an earlier publish was killed")
    if "is not in a transaction" in text:
        return Reading(Verdict.GONE, "there is no open transaction")
    if "Current working directory is in" in text:
        return Reading(
            Verdict.REFUSED,
            f"cvmfs_server finds its current directory inside {settings.mount}; make logins there start elsewhere",
        )
    if "Open writable file descriptors" in text:
        return Reading(
            Verdict.REFUSED,
            f"a process holds a file below {settings.mount} open for writing; find and end it with lsof",
        )
    return _common(settings, answer)


def step(settings: CvmfsSettings, answer: Answer) -> Reading:
    """What the answer of any other step means."""
    if answer.exit_code == 0:
        return Reading(Verdict.DONE)
    if answer.exit_code == NOT_OURS_EXIT:
        return Reading(Verdict.GONE, "the open transaction is not ours")
    return _common(settings, answer)


def listing(text: str) -> Listing:
    """The answer of the step ``list``; lines that are no such thing are left out."""
    revision: int | None = None
    images: dict[str, int] = {}
    names: dict[str, str] = {}
    for line in text.splitlines():
        match line.split(" "):
            case ["revision", number] if number.isdecimal():
                revision = int(number)
            case ["image", digest, when] if when.isdecimal():
                images[digest] = int(when)
            case ["name", name, target] if target.startswith("../"):
                names[name] = target.removeprefix("../")
    return Listing(revision, images, names)


def leftover(text: str) -> str | None:
    """The answer of the step ``leftover``: the token of an open transaction that a killed publication has left."""
    for line in text.splitlines():
        match line.split(" "):
            case ["leftover", token]:
                return token
    return None


def kept(text: str) -> int | None:
    """How many bytes the step ``receive`` has kept."""
    for line in text.splitlines():
        match line.split(" "):
            case ["kept", size] if size.isdecimal():
                return int(size)
    return None


def revision(text: str) -> int | None:
    """The answer of getfattr."""
    word = text.strip()
    return int(word) if word.isdecimal() and word.isascii() else None


def _common(settings: CvmfsSettings, answer: Answer) -> Reading:
    text, code = answer.text, answer.exit_code
    place = "this machine" if settings.host is None else settings.host
    account = "the user that publishes" if settings.user is None else settings.user
    if code == SSH_FAILED_EXIT and settings.host is not None:
        return Reading(Verdict.UNREACHABLE, f"ssh to {settings.host} failed: {answer.words}")
    reason = None
    if "No space left on device" in text or "Disk quota exceeded" in text:
        reason = f"there is no space left on {place}"
    elif "Unable to find the configuration file" in text or "does not exist" in text:
        reason = (
            f"{place} has no repository of that name: check repository and host, or create it with cvmfs_server mkfs"
        )
    elif "No write permission" in text or "is_publishing.lock" in text:
        reason = f"{account} does not own it: publish as the user that was given to cvmfs_server mkfs -o"
    elif code == WEB_SERVER_EXIT or "cannot load whitelist" in text:
        reason = "its web server does not answer (cannot load whitelist): start it, or renew the whitelist"
    elif code == NO_SPOOL_EXIT:
        reason = f"{settings.spool}/rdonly is not there: set spool_root to where CVMFS_SPOOL_DIR lies"
    elif code == USAGE_EXIT:
        reason = f"its cvmfs_server does not know an option that is used: {answer.words}"
    elif code in (126, 127):
        reason = f"a command cannot be run on {place}: {answer.words}"
    if reason is not None:
        return Reading(Verdict.REFUSED, reason)
    return Reading(Verdict.FAILED, f"killed by signal {-code}" if code < 0 else answer.words)
