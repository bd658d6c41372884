"""Small worlds for the planner's plain cases: one scope, one or two pools, everything read a second ago."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Handover, Policy, Pool, SlurmRequest
from slurm_gha.domain.runner import Registration, Runner, RunnerRecord
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import ScopeView, SlurmView, World
from slurm_gha.planner.plan import plan

NOW = 1_000_000.0
SCOPE = "octo"


def pool(name: str, *labels: str, **settings: Any) -> Pool:
    request = SlurmRequest(cpus=1, time_seconds=600)
    return Pool(name, frozenset({SCOPE}), frozenset(labels or {"linux"}), request, "/opt/runner", **settings)


def policy(*pools: Pool, **settings: Any) -> Policy:
    return Policy("abc", pools or (pool("small"),), **settings)


def job(number: int = 1, *labels: str, status: JobStatus = JobStatus.QUEUED, **facts: Any) -> Job:
    settled = {"created_at": NOW - 1000.0 + number, **facts}
    return Job(
        number, SCOPE, "octo/repo", 1, 1, f"job {number}", "ci", frozenset(labels or {"linux"}), status, **settled
    )


def runner(
    suffix: str = "1",
    state: str | None = "PENDING",
    *labels: str,
    pool: str = "small",
    reason: str = "",
    online: bool | None = None,
    busy: bool = False,
    taken_job: int | None = None,
    slurm: dict[str, Any] | None = None,
    **record: Any,
) -> Runner:
    """A runner whose Slurm job is in ``state``. ``online`` None: it has no registration."""
    name = f"sg-abc-{pool}-{suffix}"
    offered = frozenset(labels or {"linux"})
    facts: dict[str, Any] = {"intended_at": NOW - 500.0, "slurm_id": int(suffix), **record}
    if online is not None:
        facts = {"minted_at": NOW - 400.0, "claimed_at": NOW - 400.0, "registration_id": int(suffix), **facts}
    return Runner(
        RunnerRecord(name, SCOPE, pool, offered, facts.pop("handover", Handover.CLAIM), **facts),
        None if state is None else SlurmJob(int(suffix), name, state, reason, **(slurm or {})),
        None if online is None else Registration(int(suffix), name, online, busy, offered),
        taken_job,
    )


def world(*things: Job | Runner, view: ScopeView | None = None, slurm: SlurmView | None = None, **rest: Any) -> World:
    return World(
        jobs=tuple(thing for thing in things if isinstance(thing, Job)),
        runners=tuple(thing for thing in things if isinstance(thing, Runner)),
        scopes=MappingProxyType({SCOPE: view or ScopeView(SCOPE, NOW - 1.0, NOW - 1.0)}),
        slurm=slurm or SlurmView(NOW - 1.0),
        **{key: MappingProxyType(value) if isinstance(value, dict) else value for key, value in rest.items()},
    )


def actions(seen: World, under: Policy | None = None) -> tuple[object, ...]:
    return plan(seen, under or policy(), NOW).actions


def later(seen: World, by: float) -> World:
    """The same world, as if it had been seen that much earlier."""
    return replace(seen, surplus_since=MappingProxyType({r.name: NOW - by for r in seen.runners}))
