"""Slurm's command lines, as pure argv builders. Argv is public: nothing secret may stand in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.submission import Submission

LISTING_FIELDS = ("%A", "%T", "%r", "%V", "%S", "%e", "%N", "%j", "%k")
"""Of squeue: id (one number, for array tasks and parts of heterogeneous jobs too), state, reason, times of
submission, start and end, nodes, and last what others may choose freely: name and comment."""

ACCOUNTING_FIELDS = ("JobIDRaw", "State", "ExitCode", "Submit", "Start", "End", "NodeList", "JobName", "Comment")
"""Of sacct, in the same order of trust."""

SEPARATOR = "|"

PARTITION_FIELDS = ("%P", "%a", "%l", "%D", "%c", "%m", "%G")

_IDS_PER_COMMAND = 500
_OPTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# sbatch's --signal takes at most 65535 seconds.
_LATEST_WARNING = 65535


def sbatch(submission: Submission) -> list[str]:
    """Submit ``submission``; the script goes in on standard input, the id comes out.

    ``--export=ALL`` means the environment of sbatch itself, which :func:`environment` has made from nothing.
    (``NONE`` would have slurmd start a login shell of the user on the node, and ``NIL`` is no word of 22.05.)
    ``--no-requeue``: a job that Slurm starts a second time could not get its runner a second time.
    """
    argv = [
        "sbatch",
        "--parsable",
        "--no-requeue",
        "--export=ALL",
        "--chdir=/tmp",
        f"--job-name={submission.name}",
        f"--comment={submission.comment}",
        f"--output={submission.output_path}",
        f"--signal=B:USR1@{max(0, min(submission.signal_before_end, _LATEST_WARNING))}",
        *_request(submission.request),
    ]
    if submission.input_path is not None:
        argv.append(f"--input={submission.input_path}")
    return _checked(argv)


def sbatch_test(request: SlurmRequest) -> list[str]:
    """Ask whether ``request`` could run, without submitting anything; a script is needed all the same."""
    return _checked(["sbatch", "--test-only", "--export=ALL", "--chdir=/tmp", *_request(request)])


def squeue() -> list[str]:
    """Every job of the calling user that slurmctld knows, ended ones too."""
    return ["squeue", "--noheader", "--states=all", "--me", f"--format={SEPARATOR.join(LISTING_FIELDS)}"]


def squeue_jobs(ids: Collection[int]) -> list[str]:
    """What slurmctld knows of these jobs; unknown ones are missing from the answer."""
    listing = f"--format={SEPARATOR.join(LISTING_FIELDS)}"
    return ["squeue", "--noheader", "--states=all", f"--jobs={_comma(ids)}", listing]


def sacct(ids: Collection[int]) -> list[str]:
    """What the accounting database knows of these jobs: one line a job, no steps."""
    return [
        "sacct",
        "--noheader",
        "--parsable2",
        f"--delimiter={SEPARATOR}",
        "--allocations",
        f"--jobs={_comma(ids)}",
        f"--format={','.join(ACCOUNTING_FIELDS)}",
    ]


def scancel(ids: Sequence[int]) -> list[str]:
    """TERM to the batch script, KILL to what is left after KillWait."""
    return ["scancel", *(str(int(slurm_id)) for slurm_id in ids)]


def sinfo() -> list[str]:
    """The partitions."""
    return ["sinfo", "--noheader", f"--format={SEPARATOR.join(PARTITION_FIELDS)}"]


def configuration() -> list[str]:
    """The configuration of slurmctld, of which the cluster's name is a part."""
    return ["scontrol", "show", "config"]


def version() -> list[str]:
    return ["sbatch", "--version"]


def batches(ids: Collection[int]) -> Iterator[tuple[int, ...]]:
    """Sorted ids, in as many groups as a command line can bear."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), _IDS_PER_COMMAND):
        yield tuple(ordered[start : start + _IDS_PER_COMMAND])


def environment(
    *, home: str, user: str, conf: Path | str | None, epoch_times: bool, bin_dir: Path | str | None = None
) -> dict[str, str]:
    """The whole environment of a Slurm command, and with ``--export=ALL`` that of the job.

    Made from nothing, so that no secret of the service's own environment, and no ``SBATCH_…`` default, can get in.
    ``epoch_times``: for commands whose times we read; a job need not inherit it. ``bin_dir``: where Slurm's commands
    are, last on PATH: steps of jobs want srun.
    """
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    made = {
        "PATH": path if bin_dir is None else f"{path}:{bin_dir}",
        "LANG": "C.UTF-8",
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
    }
    if conf is not None:
        made["SLURM_CONF"] = str(conf)
    if epoch_times:
        made["SLURM_TIME_FORMAT"] = "%s"
    return made


def duration(seconds: int) -> str:
    """Seconds as Slurm's ``days-hours:minutes:seconds``. Slurm itself rounds a time limit up to minutes."""
    minutes, rest = divmod(max(1, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{rest:02}"


def _request(request: SlurmRequest) -> list[str]:
    # As many tasks as nodes, so one on each: what a step's srun starts if it is told nothing else. --ntasks-per-node
    # would say it too, but gets a warning out of every srun that is told something else.
    argv = [
        f"--nodes={request.nodes}",
        f"--ntasks={request.nodes}",
        f"--cpus-per-task={request.cpus}",
        f"--time={duration(request.time_seconds)}",
    ]
    if request.memory_mb is not None:
        argv.append(f"--mem={request.memory_mb}M")
    if request.gres:
        argv.append(f"--gres={','.join(request.gres)}")
    for option in ("partition", "account", "qos", "constraint"):
        value = getattr(request, option)
        if value is not None:
            argv.append(f"--{option}={value}")
    for option, value in request.extra:
        if _OPTION.fullmatch(option) is None:
            raise ValueError(f"not the name of an sbatch option: {option!r}")
        argv.append(f"--{option}" if value is None else f"--{option}={value}")
    return argv


def _checked(argv: list[str]) -> list[str]:
    for argument in argv:
        if "\0" in argument or "\n" in argument:
            raise ValueError(f"an argument of {argv[0]} holds a line break or a NUL: {argument[:60]!r}")
    return argv


def _comma(ids: Collection[int]) -> str:
    return ",".join(str(int(slurm_id)) for slurm_id in sorted(ids))
