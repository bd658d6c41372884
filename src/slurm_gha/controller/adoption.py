"""Looking after a running Slurm job again whose record is lost, from what it says of itself."""

from __future__ import annotations

from dataclasses import replace

from slurm_gha.controller.comment import SCALE_SET, parse_comment
from slurm_gha.domain.pool import Handover, Policy
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.world import World


def in_scale_set(slurm: SlurmJob) -> str | None:
    """The scope of the scale set that the Slurm job's runner belongs to; None for a runner registered over REST."""
    told = parse_comment(slurm.comment)
    return told.get("scope") if told.get("registered") == SCALE_SET else None


def adopted(
    slurm: SlurmJob, policy: Policy, world: World, now: float, registration_id: int | None = None
) -> RunnerRecord | None:
    """The record to open for a Slurm job with our name; None where it does not tell a scope that we serve.

    ``registration_id``: of a runner of a scale set, which no listing shows.
    """
    told = parse_comment(slurm.comment)
    pool = policy.pools_by_name.get(told.get("pool", ""))
    scope = told.get("scope", "")
    if scope not in world.scopes:
        return None
    registration = next((o.registration for o in world.orphans if o.registration.name == slurm.name), None)
    submitted = slurm.submitted_at if slurm.submitted_at is not None else now
    record = RunnerRecord(
        name=slurm.name,
        scope=scope,
        pool=told.get("pool", ""),
        labels=pool.labels if pool is not None else frozenset(),
        handover=pool.handover if pool is not None else Handover.CLAIM,
        intended_at=submitted,
        repository=told.get("repository"),
        slurm_id=slurm.id,
        submitted_at=submitted,
        scale_set=in_scale_set(slurm) is not None,
    )
    if registration is None and registration_id is None:
        return record
    started = slurm.started_at if slurm.started_at is not None else now
    return replace(
        record,
        labels=(registration.labels if registration is not None else None) or record.labels,
        claimed_at=started,
        minted_at=started,
        registration_id=registration.id if registration is not None else registration_id,
    )
