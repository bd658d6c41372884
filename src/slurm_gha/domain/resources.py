"""Resources that a job asks for by its labels: what each label says, or precisely what is wrong with it. Pure.

Labels are normalised (lower case) and otherwise as GitHub gives them: whatever an author has written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.domain.labels import Labels
from slurm_gha.domain.units import parse_memory, parse_time_limit

PREFIX = "slurm-"
# What a job can ask for is far below; longer numbers are a mistake, or worse.
_NUMBER = re.compile(r"[0-9]{1,6}")
_GPUS = re.compile(r"(?:(?P<type>[a-z0-9_.-]{1,40}):)?(?P<count>[0-9]{1,6})|(?P<one>[a-z0-9_.-]{1,40})")
# Of something that is meant as a resource: "slurm", a word, and a value after it.
_KEYED = re.compile(r"(?P<key>slurm[-_. ]?(?P<word>[a-z0-9_. -]*?))\s*(?P<sign>[=:])(?P<value>.*)", re.DOTALL)
_SIZE = re.compile(
    r"slurm-runner-(?P<cpus>[0-9]{1,6})cpu-(?P<mem>[0-9]{1,6})mempercpu"
    r"(?:-(?P<time>[0-9:]{1,20})time)?(?:-(?P<tmpdisk>[0-9]{1,6})tmpdisk)?"
)
_MEANT_AS_SIZE = re.compile(r"slurm-runner-(?:[0-9]+cpu|.*mempercpu).*", re.DOTALL)
_SIZE_FORM = "slurm-runner-<CPUs>cpu-<GiB>mempercpu[-<time>time][-<GiB>tmpdisk]"


class Resource(StrEnum):
    """What can be asked for, each of every node but TIME and NODES.

    Amounts: CPUS, NODES and GPUS are counted, MEM, MEM_PER_CPU and TMPDISK are in mebibytes, TIME in seconds.
    """

    CPUS = "cpus"
    MEM = "mem"
    MEM_PER_CPU = "mempercpu"
    TIME = "time"
    NODES = "nodes"
    GPUS = "gpus"
    TMPDISK = "tmpdisk"


_EXAMPLES = {
    Resource.CPUS: "8",
    Resource.MEM: "32G",
    Resource.TIME: "2h",
    Resource.NODES: "4",
    Resource.GPUS: "a100:2",
    Resource.TMPDISK: "20G",
}
_OTHER_WORDS = {
    "cores": Resource.CPUS,
    "threads": Resource.CPUS,
    "memory": Resource.MEM,
    "ram": Resource.MEM,
    "walltime": Resource.TIME,
    "timelimit": Resource.TIME,
    "disk": Resource.TMPDISK,
    "tmp": Resource.TMPDISK,
    "scratch": Resource.TMPDISK,
    "gres": Resource.GPUS,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One resource that ``label`` asks for. ``type``: of GPUS, in lower case; empty where none is named."""

    label: str
    resource: Resource
    amount: int
    type: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a job's labels ask for. ``labels`` are those meant as resources, ``mistakes`` what is wrong, in sentences.

    ``asks`` may be relied on where there is no mistake.
    """

    asks: tuple[Ask, ...] = ()
    labels: Labels = frozenset()
    mistakes: tuple[str, ...] = ()


def read(labels: Iterable[str]) -> Reading:
    """What these labels ask for: each is read, and no resource may be asked for twice."""
    meant = sorted(label for label in labels if is_meant(label))
    asks: list[Ask] = []
    mistakes: list[str] = []
    for label in meant:
        try:
            asks += read_label(label)
        except ValueError as error:
            mistakes.append(str(error))
    for resource in Resource:
        given = [ask.label for ask in asks if _same(ask.resource) is resource]
        if len(given) > 1:
            mistakes.append(f"{resource.value} is asked for twice, by {' and by '.join(map(shown, given))}")
    return Reading(tuple(asks), frozenset(meant), tuple(mistakes))


def is_meant(label: str) -> bool:
    """Whether a label is meant as a resource, be it well written or not."""
    return (
        _KEYED.fullmatch(label) is not None
        or _MEANT_AS_SIZE.fullmatch(label) is not None
        or (label.startswith(PREFIX) and label.removeprefix(PREFIX) in _EXAMPLES)
    )


def read_label(label: str) -> tuple[Ask, ...]:
    """What a label that is meant as a resource asks for; raises ValueError with what is wrong, in a sentence."""
    if _MEANT_AS_SIZE.fullmatch(label) is not None:
        return _read_size(label)
    match = _KEYED.fullmatch(label)
    if match is None:
        raise ValueError(f"{shown(label)} has no value; it is written as {_example(Resource(_word(label)))}")
    resource = _resource(label, match["key"], match["word"])
    if match["sign"] != "=":
        raise ValueError(f'{shown(label)}: a resource is written with "=", as in {_example(resource)}')
    value = match["value"]
    if not value:
        raise ValueError(f"{shown(label)} has no value; it is written as {_example(resource)}")
    match resource:
        case Resource.MEM | Resource.TMPDISK:
            return (Ask(label, resource, _amount(label, parse_memory, value)),)
        case Resource.TIME:
            return (Ask(label, resource, _amount(label, parse_time_limit, value)),)
        case Resource.GPUS:
            return (_read_gpus(label, value),)
        case _:
            return (Ask(label, resource, _counted(label, value)),)


def shown(label: str) -> str:
    """A label as a sentence may repeat it: short, and on one line."""
    text = "".join(character if character.isprintable() else "?" for character in label)
    return text if len(text) <= 80 else text[:80] + "…"


def _read_size(label: str) -> tuple[Ask, ...]:
    """The one label for a whole size, with CPUs, GiB for each CPU, sbatch's --time, and GiB of disk.

    Source: runner_size_config.py of github.com/WATonomous/slurm-gha (once run-gha-on-slurm) at commit 554cea0, which
    hands the time to sbatch as it is, so that a bare number is minutes.
    """
    match = _SIZE.fullmatch(label)
    if match is None:
        raise ValueError(f"{shown(label)} is no size of the form {_SIZE_FORM}")
    asks = [
        Ask(label, Resource.CPUS, _counted(label, match["cpus"])),
        Ask(label, Resource.MEM_PER_CPU, _counted(label, match["mem"]) * 1024),
    ]
    if time := match["time"]:
        asks.append(Ask(label, Resource.TIME, _amount(label, parse_time_limit, time if ":" in time else f"{time}m")))
    if match["tmpdisk"]:
        asks.append(Ask(label, Resource.TMPDISK, _counted(label, match["tmpdisk"]) * 1024))
    return tuple(asks)


def _read_gpus(label: str, value: str) -> Ask:
    match = _GPUS.fullmatch(value)
    if match is None:
        raise ValueError(f'{shown(label)}: must be a number of GPUs such as "2", or a type of GPUs such as "a100:2"')
    if match["one"] is not None:
        return Ask(label, Resource.GPUS, 1, match["one"])
    return Ask(label, Resource.GPUS, _counted(label, match["count"]), match["type"] or "")


def _counted(label: str, value: str) -> int:
    if re.fullmatch(r"[0-9]+", value) is None:
        raise ValueError(f"{shown(label)} is no whole number")
    if _NUMBER.fullmatch(value) is None:
        raise ValueError(f"{shown(label)} is too large")
    if int(value) == 0:
        raise ValueError(f"{shown(label)} asks for nothing; the least is 1")
    return int(value)


def _amount(label: str, parse: Callable[[str], int], value: str) -> int:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{shown(label)}: {error}") from None


def _resource(label: str, key: str, word: str) -> Resource:
    """The resource of a label's key; raises ValueError with the nearest one there is."""
    if key == PREFIX + word and word in _EXAMPLES:
        return Resource(word)
    plain = re.sub(r"[^a-z0-9]", "", word)
    near = _OTHER_WORDS.get(plain) or next(iter(difflib.get_close_matches(plain, list(_EXAMPLES), n=1)), None)
    known = f"did you mean {PREFIX}{near}?" if near else f"there is {', '.join(PREFIX + name for name in _EXAMPLES)}"
    raise ValueError(f"{shown(label)}: there is no {shown(key)}; {known}")


def _word(label: str) -> str:
    return label.removeprefix(PREFIX)


def _example(resource: Resource) -> str:
    return f"{PREFIX}{resource.value}={_EXAMPLES[resource]}"


def _same(resource: Resource) -> Resource:
    return Resource.MEM if resource is Resource.MEM_PER_CPU else resource
