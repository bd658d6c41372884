"""What belongs together: from a runner's name to its Slurm job, its GitHub job, repository, pool and scope."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.observe.events import Event

# Runners remembered: beyond any limit on runners, with room for stragglers' news of closed ones.
REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a runner; None where it is not. ``job_id`` is the demand that caused it until it has a job."""

    slurm_id: int | None = None
    job_id: int | None = None
    repository: str | None = None
    pool: str | None = None
    scope: str | None = None


_FIELDS = tuple(field.name for field in fields(Context))
_NOTHING = Context()


class Correlation:
    """Learns from events, as each says a little, and completes those that say less."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._contexts: OrderedDict[str, Context] = OrderedDict()

    def seed(self, records: Iterable[RunnerRecord]) -> None:
        """Begin with what the journal knows, as after a restart."""
        for record in records:
            self._keep(
                record.name,
                Context(record.slurm_id, record.job_id, record.repository, record.pool, record.scope),
            )

    def of(self, name: str) -> Context:
        """What is known of a runner."""
        return self._contexts.get(name, _NOTHING)

    def learn(self, event: Event) -> Mapping[str, int | str]:
        """Take in one event; gives all identifiers that go with it: runner, slurm_id, job_id, repository, pool, scope.

        What the event itself says goes before what was known.
        """
        name = getattr(event, "name", None) or getattr(event, "runner_name", None)
        said = {field: value for field in _FIELDS if (value := getattr(event, field, None)) is not None}
        if name is None:
            return MappingProxyType(said)
        known = self._contexts.get(name)
        if known is not None or "pool" in said or "slurm_id" in said:  # not for names that a stranger made up
            known = replace(known or _NOTHING, **said)
            self._keep(name, known)
        complete = known if known is not None else replace(_NOTHING, **said)
        told: dict[str, int | str] = {"runner": name}
        told.update((field, value) for field in _FIELDS if (value := getattr(complete, field)) is not None)
        return MappingProxyType(told)

    def _keep(self, name: str, context: Context) -> None:
        self._contexts[name] = context
        self._contexts.move_to_end(name)
        if len(self._contexts) > self._limit:
            self._contexts.popitem(last=False)
