"""What a runner of a pool asks of Slurm for a job that asks for a size of its own, within the pool's bounds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from slurm_gha.domain.pool import Bounds, Pool, SlurmRequest
from slurm_gha.domain.resources import Ask, Resource, shown
from slurm_gha.domain.units import show_duration, show_memory


@dataclass(frozen=True, slots=True)
class Size:
    """The request that a pool makes of what is asked; or, where it cannot, every bound that stands in the way."""

    request: SlurmRequest
    beyond: tuple[str, ...] = ()


def size(pool: Pool, asks: Iterable[Ask]) -> Size:
    """The pool's own request with what is asked in its place, each resource against its bound."""
    if pool.dynamic is None:
        return Size(pool.request, (f"pool {pool.name} takes no resource labels",))
    sizer = _Sizer(pool, pool.dynamic)
    # Memory for each CPU can only be told once the CPUs are known.
    for ask in sorted(asks, key=lambda ask: (ask.resource is not Resource.CPUS, ask.resource)):
        sizer.take(ask)
    return Size(sizer.request, tuple(sizer.beyond))


def largest(pool: Pool) -> tuple[tuple[str, SlurmRequest], ...]:
    """The largest requests that the pool's bounds let through, each in words: one for each type of GPU."""
    bounds = pool.dynamic
    if bounds is None:
        return ()
    amounts = {
        Resource.CPUS: bounds.cpus,
        Resource.MEM: bounds.memory_mb,
        Resource.TIME: bounds.time_seconds,
        Resource.NODES: bounds.nodes,
        Resource.TMPDISK: bounds.tmpdisk_mb,
    }
    asks = [Ask("", resource, amount) for resource, amount in amounts.items() if amount is not None]
    found = []
    for gpus in bounds.gpus or (None,):
        of_gpus = [] if gpus is None else [Ask("", Resource.GPUS, gpus.count, gpus.type)]
        all_asks = [*asks, *of_gpus]
        found.append((", ".join(map(_shown, all_asks)), size(pool, all_asks).request))
    return tuple(found)


class _Sizer:
    """Makes one request, resource by resource."""

    def __init__(self, pool: Pool, bounds: Bounds) -> None:
        self._pool = pool
        self._bounds = bounds
        self.request = pool.request
        self.beyond: list[str] = []

    def take(self, ask: Ask) -> None:
        bounds, request = self._bounds, self.request
        match ask.resource:
            case Resource.CPUS if self._within(ask, "max_cpus", bounds.cpus):
                per_cpu = bounds.memory_per_cpu_mb
                memory = request.memory_mb if per_cpu is None else per_cpu * ask.amount
                self.request = replace(request, cpus=ask.amount, memory_mb=memory)
            case Resource.MEM if self._within(ask, "max_mem", bounds.memory_mb):
                self.request = replace(request, memory_mb=ask.amount)
            case Resource.MEM_PER_CPU:
                total = replace(ask, resource=Resource.MEM, amount=ask.amount * request.cpus)
                # Beyond max_cpus, this would only be the same complaint again, about another number.
                if not self.beyond and self._within(total, "max_mem", bounds.memory_mb):
                    self.request = replace(request, memory_mb=total.amount)
            case Resource.TIME if self._within(ask, "max_time", bounds.time_seconds) and self._lasts(ask):
                self.request = replace(request, time_seconds=ask.amount)
            case Resource.NODES if self._within(ask, "max_nodes", bounds.nodes):
                self.request = replace(request, nodes=ask.amount)
            case Resource.TMPDISK if self._within(ask, "max_tmpdisk", bounds.tmpdisk_mb):
                self._gres("tmpdisk", f"tmpdisk:{ask.amount}")
            case Resource.GPUS:
                self._gpus(ask)

    def _within(self, ask: Ask, key: str, bound: int | None) -> bool:
        if bound is None:
            self.beyond.append(f"pool {self._pool.name} has no {key}, so {shown(ask.label)} cannot be asked of it")
        elif ask.amount > bound:
            allowed, asked = (_shown(replace(ask, amount=amount)) for amount in (bound, ask.amount))
            self.beyond.append(
                f"{shown(ask.label)} asks for {asked}, and pool {self._pool.name} allows at most {allowed} ({key})"
            )
        return bound is not None and ask.amount <= bound

    def _lasts(self, ask: Ask) -> bool:
        least = self._bounds.least_seconds
        if ask.amount <= least:
            self.beyond.append(
                f"{shown(ask.label)} is too short for pool {self._pool.name}: "
                f"its runners are told to stop {show_duration(least)} before their limit"
            )
        return ask.amount > least

    def _gpus(self, ask: Ask) -> None:
        allowed, name = self._bounds.gpus, self._pool.name
        if not allowed:
            self._within(ask, "gpus", None)
            return
        # Without a type, where there is one only, that one is meant.
        fitting = [bound for bound in allowed if bound.type.lower() == ask.type.lower()]
        if not fitting and not ask.type and len(allowed) == 1:
            fitting = list(allowed)
        if not fitting:
            types = ", ".join(bound.type or "any type" for bound in allowed)
            lacking = f"names a type that pool {name} does not offer" if ask.type else "names no type"
            self.beyond.append(f"{shown(ask.label)} {lacking}; pool {name} offers: {types} (gpus)")
        elif self._within(replace(ask, type=fitting[0].type), "gpus", fitting[0].count):
            self._gres("gpu", ":".join(filter(None, ("gpu", fitting[0].type, str(ask.amount)))))

    def _gres(self, name: str, gres: str) -> None:
        kept = tuple(entry for entry in self.request.gres if entry.split(":", 1)[0] != name)
        self.request = replace(self.request, gres=(*kept, gres))


def _shown(ask: Ask) -> str:
    match ask.resource:
        case Resource.CPUS:
            return f"{ask.amount} CPU{'s' * (ask.amount != 1)}"
        case Resource.NODES:
            return f"{ask.amount} node{'s' * (ask.amount != 1)}"
        case Resource.GPUS:
            return f"{ask.amount} GPU{'s' * (ask.amount != 1)}" + (f" of type {ask.type}" if ask.type else "")
        case Resource.TIME:
            return show_duration(ask.amount)
        case Resource.TMPDISK:
            return f"{show_memory(ask.amount)} of tmpdisk"
        case _:
            return f"{show_memory(ask.amount)} of memory"
