"""What Slurm's commands print, as values: pure functions, which never fail on a line they do not understand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from slurm_gha.domain.slurm import SlurmJob, SlurmStage, stage_of
from slurm_gha.slurm.commands import ACCOUNTING_FIELDS, LISTING_FIELDS, PARTITION_FIELDS, SEPARATOR

_NOTHING = frozenset({"", "(null)", "N/A", "Unknown", "None", "None assigned", "n/a", "NONE"})
# slurmdbd's stand-in for the name of a job that slurmctld has not fully told it about yet.
_NAME_NOT_YET_KNOWN = "allocation"
# Never \d: it matches digits of every script, and int() takes no number of more than 4,300 digits.
_JOB_ID = re.compile(r"(?P<first>[0-9]{1,18})(?:_(?:[0-9]+|\[[^\]]*\])|\+[0-9]+)?(?:\.\w+)?")
_PARSABLE_ID = re.compile(r"(?P<id>[0-9]{1,18})(?:;[\w.-]+)?")
_DIGITS = re.compile(r"[0-9]{1,18}")
_DURATION = re.compile(r"(?:(?P<days>[0-9]{1,9})-)?(?P<rest>[0-9]{1,9}(?::[0-9]{1,9}){0,2})")
_PREFIX = re.compile(r"^(?:\S*/)?(?:sbatch|squeue|sacct|scancel|scontrol|sinfo|setpriv)(?:: (?:error|fatal))?: ")
_FAILED = re.compile(r"^(?:Batch job submission failed|allocation failure|slurm_load_\w+(?: error)?): ")


class Silence(Enum):
    """Why there is no answer: the request never got to Slurm, or it may have got there."""

    NOT_ASKED = "not asked"
    UNCLEAR = "unclear"


# Texts of slurm_strerror() and of the client library, found in 22.05, 24.11 and 26.05; compared in lower case.
_SILENCES: tuple[tuple[str, Silence], ...] = (
    ("socket timed out", Silence.UNCLEAR),
    ("zero bytes were transmitted", Silence.UNCLEAR),
    ("message receive failure", Silence.UNCLEAR),
    ("insane message length", Silence.UNCLEAR),
    ("unexpected message received", Silence.UNCLEAR),
    ("connection reset by peer", Silence.UNCLEAR),
    ("slurm temporarily unable to accept job", Silence.UNCLEAR),
    ("resource temporarily unavailable", Silence.UNCLEAR),
    ("unable to contact slurm controller", Silence.NOT_ASKED),
    ("communication connection failure", Silence.NOT_ASKED),
    ("communication shutdown failure", Silence.UNCLEAR),
    ("connection refused", Silence.NOT_ASKED),
    ("connection timed out", Silence.NOT_ASKED),
    ("no route to host", Silence.NOT_ASKED),
    ("transport endpoint is not connected", Silence.NOT_ASKED),
    ("in standby mode", Silence.NOT_ASKED),
    ("protocol authentication error", Silence.NOT_ASKED),
    ("munge encode failed", Silence.NOT_ASKED),
    ("could not establish a configuration source", Silence.NOT_ASKED),
    ("unable to establish controller machine", Silence.NOT_ASKED),
    ("job submission and allocation disabled", Silence.NOT_ASKED),
    ("slurm database connection", Silence.NOT_ASKED),
    ("problem talking to the database", Silence.NOT_ASKED),
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition, for ``check``: largest CPUs and memory (MB) of a node, time limit in seconds or None."""

    name: str
    default: bool
    up: bool
    time_limit: int | None
    nodes: int
    cpus: int
    memory_mb: int
    gres: tuple[str, ...]


def cluster_name(text: str) -> str:
    """The name in ``scontrol show config``; empty if it is not there."""
    for line in text.splitlines():
        key, sign, value = line.partition("=")
        if sign and key.strip() == "ClusterName":
            return value.strip()
    return ""


def submitted_id(text: str) -> int | None:
    """The id in the answer of ``sbatch --parsable`` (``123`` or ``123;cluster``), if that is what it is."""
    for line in text.splitlines():
        found = _PARSABLE_ID.fullmatch(line.strip())
        if found is not None:
            return int(found["id"])
    return None


def job_id(text: str) -> int | None:
    """The number in ``123``, ``123_4``, ``123_[1-9%2]``, ``123+0`` or ``123.batch``, or None."""
    found = _JOB_ID.fullmatch(text.strip())
    return int(found["first"]) if found is not None else None


def listing(text: str) -> tuple[SlurmJob, ...]:
    """The jobs in squeue's answer (:data:`LISTING_FIELDS`)."""
    jobs = []
    for fields in _rows(text, len(LISTING_FIELDS)):
        slurm_id, state, reason, submitted, started, ended, node, name, comment = fields
        number = job_id(slurm_id)
        if number is None or not state:
            continue
        jobs.append(_job(number, name, state, reason, submitted, started, ended, node, "", comment))
    return tuple(jobs)


def accounting(text: str) -> Mapping[int, SlurmJob]:
    """The jobs in sacct's answer (:data:`ACCOUNTING_FIELDS`), the last line of each.

    The name is empty while slurmdbd does not know it yet.
    """
    jobs = {}
    for fields in _rows(text, len(ACCOUNTING_FIELDS)):
        slurm_id, state, exit_code, submitted, started, ended, node, name, comment = fields
        number = job_id(slurm_id)
        if number is None or not state:
            continue
        known_name = "" if name == _NAME_NOT_YET_KNOWN else name
        jobs[number] = _job(number, known_name, state, "", submitted, started, ended, node, exit_code, comment)
    return jobs


def partitions(text: str) -> tuple[Partition, ...]:
    """The partitions in sinfo's answer; nodes that differ make several lines, folded into one here."""
    found: dict[str, Partition] = {}
    for fields in _rows(text, len(PARTITION_FIELDS)):
        name, available, limit, nodes, cpus, memory, gres = fields
        bare = name.removesuffix("*")
        before = found.get(bare)
        kinds = () if gres in _NOTHING else tuple(re.split(r",(?![^(]*\))", gres))
        found[bare] = Partition(
            name=bare,
            default=name.endswith("*"),
            up=available == "up",
            time_limit=seconds(limit),
            nodes=_number(nodes) + (before.nodes if before else 0),
            cpus=max(_number(cpus), before.cpus if before else 0),
            memory_mb=max(_number(memory), before.memory_mb if before else 0),
            gres=tuple(sorted({*kinds, *(before.gres if before else ())})),
        )
    return tuple(found.values())


def seconds(limit: str) -> int | None:
    """Slurm's ``[days-]hours:minutes:seconds``, ``minutes:seconds`` or ``minutes``; None if there is no limit."""
    found = _DURATION.fullmatch(limit)
    if found is None:
        return None
    numbers = [int(part) for part in found["rest"].split(":")]
    if found["days"] is not None:
        numbers += [0] * (3 - len(numbers))
    elif len(numbers) == 1:
        numbers = [0, numbers[0], 0]
    else:
        numbers = [0] * (3 - len(numbers)) + numbers
    return ((int(found["days"] or 0) * 24 + numbers[0]) * 60 + numbers[1]) * 60 + numbers[2]


def silence(text: str) -> Silence | None:
    """Whether an error text says that Slurm was not reached; UNCLEAR wins over NOT_ASKED."""
    lowered = text.lower()
    found = {kind for words, kind in _SILENCES if words in lowered}
    if Silence.UNCLEAR in found:
        return Silence.UNCLEAR
    return Silence.NOT_ASKED if found else None


def is_unknown_job(text: str) -> bool:
    """Whether an error text says that there is no such job, or that it has ended: nothing to cancel."""
    lowered = text.lower()
    return "invalid job id" in lowered or "already completing or completed" in lowered


def accounting_is_disabled(text: str) -> bool:
    return "slurm accounting storage is disabled" in text.lower()


def words(text: str) -> str:
    """Slurm's own words in an error text, on one line, without ``sbatch: error:`` and the like."""
    said: list[str] = []
    for line in text.splitlines():
        bare = _FAILED.sub("", _PREFIX.sub("", line.strip())).strip()
        if bare and bare not in said:
            said.append(bare)
    return "; ".join(said)[:1000]


def _rows(text: str, count: int) -> Iterator[list[str]]:
    """Lines of ``count`` fields. The last field keeps its separators; a line with too few is not a job's."""
    for line in text.split("\n"):
        fields = line.split(SEPARATOR, count - 1)
        if len(fields) == count:
            yield [field.strip() for field in fields]


def _job(
    number: int,
    name: str,
    state: str,
    reason: str,
    submitted: str,
    started: str,
    ended: str,
    node: str,
    exit_code: str,
    comment: str,
) -> SlurmJob:
    stage = stage_of(state, reason)
    place = _text(node)
    # For a pending job Slurm prints the start it expects, for a running one its latest end, and for one that was
    # cancelled before it ever ran the moment of that as its start.
    has_started = stage not in {SlurmStage.PENDING, SlurmStage.HELD} and bool(place)
    return SlurmJob(
        id=number,
        name=name,
        state=state,
        reason=_text(reason),
        submitted_at=_time(submitted),
        started_at=_time(started) if has_started else None,
        ended_at=_time(ended) if stage is SlurmStage.ENDED else None,
        node=place,
        exit_code=exit_code,
        comment=_text(comment),
    )


def _text(field: str) -> str:
    return "" if field in _NOTHING else field


def _time(field: str) -> float | None:
    """Seconds since the epoch, as ``SLURM_TIME_FORMAT=%s`` gives them."""
    return float(field) if _DIGITS.fullmatch(field) and field != "0" else None


def _number(field: str) -> int:
    found = _DIGITS.match(field)
    return int(found[0]) if found else 0
