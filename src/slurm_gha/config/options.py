"""The sbatch options that a pool may add with ``extra``: an allow-list, so that nothing else ever gets through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Argument(StrEnum):
    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Option:
    """One long option of sbatch(1): whether it takes a value, and what the value may look like."""

    argument: Argument
    pattern: re.Pattern[str] = re.compile(r"")
    example: str = ""


def _value(pattern: str, example: str) -> Option:
    return Option(Argument.REQUIRED, re.compile(pattern), example)


def _optional(pattern: str, example: str) -> Option:
    return Option(Argument.OPTIONAL, re.compile(pattern), example)


_NUMBER = r"[0-9]{1,9}"
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*"
_WORDS = rf"{_WORD}(,{_WORD})*"
_HOSTS = r"[A-Za-z0-9_][A-Za-z0-9_.,\[\]-]*"
_COUNTS = r"[A-Za-z0-9_][A-Za-z0-9_.,:/@+-]*"
_SIZE = r"[0-9]{1,9}[KMGT]?"
_FLAG = Option(Argument.NONE)

ALLOWED: dict[str, Option] = {
    "contiguous": _FLAG,
    "core-spec": _value(_NUMBER, "1"),
    "cores-per-socket": _value(_NUMBER, "8"),
    "cpu-freq": _value(_COUNTS, "medium"),
    "cpus-per-gpu": _value(_NUMBER, "4"),
    "delay-boot": _value(_NUMBER, "5"),
    "exclude": _value(_HOSTS, "node[1-4]"),
    "exclusive": _optional(r"user|mcs", "user"),
    "gpu-freq": _value(_COUNTS, "medium"),
    "gpus": _value(_COUNTS, "a100:1"),
    "gpus-per-node": _value(_COUNTS, "a100:1"),
    "hint": _value(r"compute_bound|memory_bound|multithread|nomultithread", "nomultithread"),
    "licenses": _value(_COUNTS, "matlab:1"),
    "mail-type": _value(r"[A-Z_0-9]+(,[A-Z_0-9]+)*", "FAIL"),
    "mail-user": _value(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(@[A-Za-z0-9.-]+)?", "ops@example.org"),
    "mem-per-gpu": _value(_SIZE, "16G"),
    "mincpus": _value(_NUMBER, "4"),
    "nice": _optional(r"-?[0-9]{1,10}", "100"),
    "nodelist": _value(_HOSTS, "node[1-4]"),
    "oversubscribe": _FLAG,
    "prefer": _value(r"[A-Za-z0-9_&|,.:*()\[\]-]+", "ssd"),
    "priority": _value(_NUMBER, "1000"),
    "reservation": _value(_WORDS, "ci"),
    "sockets-per-node": _value(_NUMBER, "1"),
    "switches": _value(r"[0-9]{1,6}(@[0-9:-]+)?", "1@10:00"),
    "threads-per-core": _value(_NUMBER, "1"),
    "thread-spec": _value(_NUMBER, "1"),
    "tmp": _value(_SIZE, "10G"),
    "wckey": _value(_WORD, "ci"),
}

# Options that a pool sets by a key of its own, and ones that would break the promises of this service.
_OWN_KEY = {
    "account": "account",
    "constraint": "constraint",
    "cpus-per-task": "cpus",
    "gres": "gres",
    "mem": "mem",
    "mem-per-cpu": "mem_per_cpu",
    "partition": "partition",
    "qos": "qos",
    "time": "time",
}


def parse_option(text: str) -> tuple[str, str | None]:
    """Name (without the hyphens) and value of ``--name`` or ``--name=value``.

    Raises ValueError, with the list of what is allowed, for anything that is not on the list.
    """
    match = re.fullmatch(r"--([a-z][a-z-]*)(?:=(.*))?", text, re.DOTALL)
    if match is None:
        raise ValueError('must be a long option of sbatch, such as "--nice=100" or "--exclusive"')
    name, value = match[1], match[2]
    if name in _OWN_KEY:
        raise ValueError(f'--{name} has a key of its own: write "{_OWN_KEY[name]} = …" in the pool\'s slurm table')
    option = ALLOWED.get(name)
    if option is None:
        raise ValueError(f"--{name} is not allowed; allowed are {', '.join(f'--{known}' for known in ALLOWED)}")
    if value is None and option.argument is Argument.REQUIRED:
        raise ValueError(f"--{name} needs a value, such as --{name}={option.example}")
    if value is not None:
        if option.argument is Argument.NONE:
            raise ValueError(f"--{name} takes no value")
        if option.pattern.fullmatch(value) is None:
            raise ValueError(f"the value of --{name} must look like --{name}={option.example}")
    return name, value
