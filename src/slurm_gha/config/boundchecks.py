"""Mistakes between a pool's own request, its launcher and what it lets jobs ask for. On the raw document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from slurm_gha.config.dynamic import as_list, parse_gpus
from slurm_gha.config.mistakes import KeyPath, shown
from slurm_gha.domain.pool import GpuBound
from slurm_gha.domain.resources import Resource
from slurm_gha.domain.units import parse_memory, parse_time_limit, show_duration, show_memory

Finding = tuple[KeyPath, str]
Value = TypeVar("Value")

MOST_LABELS = 100 - len(Resource)
"""Labels of a pool whose jobs bring their own: GitHub takes 100 of a runner."""

# Options of sbatch that say the same as something that a job may ask for.
_RIVALS = {"gpus": ("gpus", "gpus-per-node"), "max_mem": ("mem-per-gpu",)}


def bound_findings(place: KeyPath, pool: Mapping[str, Any]) -> Iterator[Finding]:
    """Every such mistake of the pool at ``place``."""
    request, dynamic = _table(pool, "slurm"), _table(pool, "dynamic")
    for key, table in (("nodes", request), ("max_nodes", dynamic)):
        nodes, launcher = table.get(key, 1), pool.get("launcher", "host")
        if (_number(nodes) or 1) > 1 and launcher != "host":
            yield (
                (*place, "slurm" if table is request else "dynamic", key),
                f'must be 1 with launcher = "{shown(launcher)}": in its container there is no srun, which alone '
                "reaches the other nodes",
            )
    if "dynamic" in pool and isinstance(pool["dynamic"], dict):
        yield from _defaults((*place, "dynamic"), request, dynamic)
        yield from _rivals((*place, "dynamic"), request, dynamic)
        yield from _gpu_types((*place, "dynamic", "gpus"), dynamic.get("gpus"))
        labels = pool.get("labels")
        if isinstance(labels, list) and len(labels) > MOST_LABELS:
            yield (*place, "labels"), f"must be at most {MOST_LABELS} with [pool.dynamic]: jobs' own labels are added"


def _defaults(place: KeyPath, request: Mapping[str, Any], dynamic: Mapping[str, Any]) -> Iterator[Finding]:
    """The pool's own request, against its bounds."""
    own, most = {"nodes": 1, **request}, dynamic
    for name, read, show in (
        ("cpus", _number, str),
        ("mem", _memory, show_memory),
        ("time", _time, show_duration),
        ("nodes", _number, str),
    ):
        value, bound = read(own.get(name)), read(most.get(f"max_{name}"))
        if value is not None and bound is not None and bound < value:
            yield (*place, f"max_{name}"), f"must not be below {name} in [pool.slurm] ({show(value)})"
    per_cpu, bound = _memory(request.get("mem_per_cpu")), _memory(dynamic.get("max_mem"))
    cpus = max(_number(request.get("cpus")) or 1, _number(dynamic.get("max_cpus")) or 1)
    if per_cpu is not None and bound is not None and bound < per_cpu * cpus:
        yield (
            (*place, "max_mem"),
            f"must not be below mem_per_cpu for {cpus} CPUs ({show_memory(per_cpu * cpus)}), "
            "which jobs get that ask for CPUs alone",
        )
    yield from _gres(place, request, dynamic)


def _gres(place: KeyPath, request: Mapping[str, Any], dynamic: Mapping[str, Any]) -> Iterator[Finding]:
    """The pool's own generic resources, against its bounds."""
    given = as_list(request.get("gres", []))
    tmpdisk = _memory(dynamic.get("max_tmpdisk"))
    gpus = {bound.type.lower(): bound.count for bound in _gpus(dynamic.get("gpus"))}
    for entry in given if isinstance(given, list) else ():
        name, *rest = str(entry).split(":")
        count = rest.pop() if rest and rest[-1].isdecimal() else "1"
        if name == "tmpdisk" and tmpdisk is not None and rest:
            yield (
                (*place, "max_tmpdisk"),
                f'needs tmpdisk to be counted in MB, as in gres = "tmpdisk:4096", not "{shown(entry)}"',
            )
        elif name == "tmpdisk" and tmpdisk is not None and int(count) > tmpdisk:
            yield (*place, "max_tmpdisk"), f"must not be below gres in [pool.slurm] ({shown(entry)})"
        elif name == "gpu" and gpus and int(count) > gpus.get("".join(rest).lower(), 0):
            yield (*place, "gpus"), f"must not be below gres in [pool.slurm] ({shown(entry)})"


def _rivals(place: KeyPath, request: Mapping[str, Any], dynamic: Mapping[str, Any]) -> Iterator[Finding]:
    extra = request.get("extra", [])
    names = {str(option).split("=", 1)[0].lstrip("-") for option in extra} if isinstance(extra, list) else set()
    for key, options in _RIVALS.items():
        for option in options:
            if key in dynamic and option in names:
                yield (*place, key), f"cannot be beside --{option} in extra of [pool.slurm], which says the same"


def _gpu_types(place: KeyPath, given: object) -> Iterator[Finding]:
    seen: set[str] = set()
    for bound in _gpus(given):
        kind = bound.type.lower()
        if kind in seen:
            named = f'the type "{shown(bound.type)}"' if kind else "a number without a type"
            yield place, f"has {named} twice (case does not matter in labels)"
        seen.add(kind)


def _gpus(given: object) -> list[GpuBound]:
    items = as_list(given)
    found = [_read(parse_gpus, item) for item in items] if isinstance(items, list) else []
    return [bound for bound in found if bound is not None]


def _table(pool: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = pool.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _memory(value: object) -> int | None:
    return _read(parse_memory, value)


def _time(value: object) -> int | None:
    return _read(parse_time_limit, value)


def _read(parse: Callable[[str], Value], value: object) -> Value | None:
    """The value, or None for what the schema complains about."""
    try:
        return parse(value) if isinstance(value, str) else None
    except ValueError:
        return None
