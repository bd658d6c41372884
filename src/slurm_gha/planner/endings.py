"""How a runner's story is closed: when nothing of it is left, and what it is said to have come to."""

from __future__ import annotations

from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import Runner
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Action, Deregister, Forget
from slurm_gha.planner.verdicts import registration_gone

# How long a claim that never came to a registration is given to do so after all (seconds).
CLAIM_IN_FLIGHT = 30.0
# Slurm's times are whole seconds, rounded down.
SLURM_ROUNDING = 1.0

_ENDS_BY_SLURM = {
    "TIMEOUT": "time limit",
    "NODE_FAIL": "node failure",
    "PREEMPTED": "preempted",
    "OUT_OF_MEMORY": "out of memory",
    "BOOT_FAIL": "node did not boot",
    "DEADLINE": "deadline passed",
}
# Not the pool's doing: no reason to slow it down.
_BLAMELESS = frozenset({"PREEMPTED"})


def close(runner: Runner, world: World, policy: Policy, now: float) -> Action | None:
    """What is left to do for a runner whose Slurm job has ended; None while GitHub has to be waited for."""
    record, registration = runner.record, runner.registration
    had_job = record.busy_at is not None
    if registration is not None and record.deregistered_at is None:
        return _deregister(runner, world, policy, now)
    if record.registration_id is None:
        claiming = record.claimed_at is not None and now - record.claimed_at < CLAIM_IN_FLIGHT
        return None if claiming else _forget(runner, had_job=had_job)
    view = world.scopes.get(record.scope)
    if record.deregistered_at is not None or view is None:
        # A scope that is no longer configured can never be asked again.
        return _forget(runner, had_job=had_job)
    ended = (runner.slurm.ended_at if runner.slurm else None) or 0.0
    if registration_gone(runner, world) and view.runners_at is not None and view.runners_at > ended:
        # An ephemeral registration that vanishes without our doing has had its job.
        return _forget(runner, had_job=True)
    return None


def _deregister(runner: Runner, world: World, policy: Policy, now: float) -> Action | None:
    record, registration, slurm = runner.record, runner.registration, runner.slurm
    assert registration is not None
    if now - world.last_tried.get(record.name, float("-inf")) < policy.retry_after:
        return None
    ended = (slurm.ended_at if slurm else None) or 0.0
    had_job = registration.busy or record.busy_at is not None or runner.taken_job is not None
    if had_job and now - ended < policy.spent_grace:
        return None
    view = world.scopes.get(record.scope)
    if view is not None and (view.runners_at is None or view.runners_at <= ended + SLURM_ROUNDING):
        # A listing from before the end says nothing of what GitHub has removed by itself since.
        return None
    return Deregister(record.scope, registration.id, record.name)


def _forget(runner: Runner, *, had_job: bool) -> Forget:
    record, slurm = runner.record, runner.slurm
    state = slurm.state.split(" ", 1)[0] if slurm else "GONE"
    exit_code = slurm.exit_code if slurm else ""
    detail = f"Slurm job {record.slurm_id} ended {state}" + (f" with exit code {exit_code}" if exit_code else "")
    if state in _ENDS_BY_SLURM:
        outcome = _ENDS_BY_SLURM[state]
    elif had_job:
        outcome = "finished"
    elif record.withdrawn_at is not None:
        return Forget(record.name, "withdrawn", record.withdrawn_because or "")
    elif state == "CANCELLED":
        outcome = "cancelled in Slurm"
    else:
        outcome = "ended without a job"
    blame = not had_job and record.withdrawn_at is None and state not in _BLAMELESS
    return Forget(record.name, outcome, detail, failure=blame)
