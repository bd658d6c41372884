"""What each runner is worth to the queue right now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import Labels, satisfies
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import Runner
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.domain.world import ScopeView, World

# A runner that has turned busy before any listed job names it stands for one queued job, at most this long (seconds):
# its job is still listed as queued, and a second runner for the same job would be the harm.
UNIDENTIFIED_JOB = 30.0
# A listing that began this soon after a change may not show it yet (seconds).
LISTING_LAG = 5.0
# By so much may GitHub's clock be ahead of ours (seconds).
CLOCK_DIFFERENCE = 1.0


# For the queued jobs of a scope and label set: times of their listings, ascending, each with the creation (seconds
# since the epoch) of the oldest job that was listed by then; a time is left out where it brings no older job.
Oldest = Mapping[tuple[str, Labels], tuple[tuple[float, float], ...]]


class Rank(Enum):
    """How far along a free runner is, best first."""

    TAKING = 0
    IDLE = 1
    STARTING = 2
    PENDING = 3
    SUBMITTED = 4


class Use(Enum):
    """FREE may take a job; OCCUPIED has one, or had one; LEAVING is being taken away; ENDED is over in Slurm."""

    FREE = auto()
    OCCUPIED = auto()
    LEAVING = auto()
    ENDED = auto()
    LOST = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The use of a runner. ``rank``: how far along it is, where it stands for a queued job; None where it does not.

    ``spent``: it can take no job any more.
    """

    use: Use
    rank: Rank | None = None
    spent: bool = False


def judge(runner: Runner, world: World, policy: Policy, now: float, oldest: Oldest) -> Verdict:
    """The verdict on one runner, from its three observations and from how old they are.

    ``oldest`` is :func:`oldest_queued` of the same world.
    """
    record, slurm, registration = runner.record, runner.slurm, runner.registration
    taking = Rank.TAKING if _unidentified_job(runner, world, oldest, now) else None
    if slurm is not None and slurm.stage is SlurmStage.ENDED:
        return Verdict(Use.ENDED, taking, spent=True)
    if runner.taken_job is not None or (registration is not None and registration.busy):
        return Verdict(Use.OCCUPIED, taking)
    if _lost(runner, world, policy):
        return Verdict(Use.LOST, spent=True)
    ending = record.finished_at is not None or (slurm is not None and slurm.stage is SlurmStage.ENDING)
    if record.busy_at is not None or ending:
        return Verdict(Use.OCCUPIED, taking, spent=True)
    if record.withdrawn_at is not None:
        return Verdict(Use.LEAVING)
    if registration_gone(runner, world):
        return Verdict(Use.OCCUPIED, spent=True)
    if registration is not None and registration.online:
        return Verdict(Use.FREE, Rank.IDLE)
    if record.claimed_at is not None or (slurm is not None and slurm.stage is SlurmStage.RUNNING):
        return Verdict(Use.FREE, Rank.STARTING)
    return Verdict(Use.FREE, Rank.PENDING if slurm is not None else Rank.SUBMITTED)


def view_of(runner: Runner, world: World) -> ScopeView:
    """How well that is known which its runner's fate depends on."""
    record = runner.record
    return world.scopes.get(record.scope, ScopeView(record.scope)).of(record.pool, scale_set=record.scale_set)


def registration_gone(runner: Runner, world: World) -> bool:
    """Whether a complete listing, begun after the registration was made, no longer shows it."""
    minted = runner.record.minted_at
    view = view_of(runner, world)
    if minted is None or runner.registration is not None:
        return False
    return view.runners_readable and view.runners_at is not None and view.runners_at > minted + LISTING_LAG


def _unidentified_job(runner: Runner, world: World, oldest: Oldest, now: float) -> bool:
    """Whether it has turned busy (or been and gone) since the jobs were listed, so that its job still looks queued."""
    busy_at, registration = runner.record.busy_at, runner.registration
    if runner.taken_job is not None:
        return False
    if busy_at is None:
        busy_at = _ended_unseen_at(runner)
    if busy_at is None:
        return registration is not None and registration.busy
    return now - busy_at < UNIDENTIFIED_JOB and _may_be_listed(runner, oldest, busy_at)


def _may_be_listed(runner: Runner, oldest: Oldest, busy_at: float) -> bool:
    """Whether some job that still looks queued can be the one it took.

    None that was created later can, and none whose repository was listed since: there it would be in progress.
    """
    scope, offered = runner.record.scope, runner.record.labels
    return any(
        where == scope
        and satisfies(offered, wanted)
        and any(
            created <= busy_at + CLOCK_DIFFERENCE and listed_at <= busy_at + LISTING_LAG for listed_at, created in steps
        )
        for (where, wanted), steps in oldest.items()
    )


def oldest_queued(world: World) -> Oldest:
    """The oldest queued job of each scope and label set, by when it was listed."""
    by_listing: dict[tuple[str, Labels], dict[float, float]] = {}
    for job in world.jobs:
        if job.status is JobStatus.QUEUED:
            listed_at = _listed_at(job, world)
            times = by_listing.setdefault((job.scope, job.labels), {})
            times[listed_at] = min(job.created_at, times.get(listed_at, job.created_at))
    return {key: _steps(times) for key, times in by_listing.items()}


def _steps(times: Mapping[float, float]) -> tuple[tuple[float, float], ...]:
    steps: list[tuple[float, float]] = []
    for listed_at, created in sorted(times.items()):
        if not steps or created < steps[-1][1]:
            steps.append((listed_at, created))
    return tuple(steps)


def _listed_at(job: Job, world: World) -> float:
    """When the job's repository, or its scale set's queue, was last read; minus infinity where it never was."""
    view = world.scopes.get(job.scope)
    if view is None:
        return float("-inf")
    if job.scale_set is not None:
        view = view.of(job.scale_set, scale_set=True)
    at = view.repositories_at.get(job.repository, view.jobs_at)
    return float("-inf") if at is None else at


def _ended_unseen_at(runner: Runner) -> float | None:
    """When a registered runner came to a good end that nobody asked for: it can only have had a job, a short one."""
    record, slurm = runner.record, runner.slurm
    if slurm is None or slurm.state != "COMPLETED" or record.minted_at is None or record.withdrawn_at is not None:
        return None
    return slurm.ended_at


def _lost(runner: Runner, world: World, policy: Policy) -> bool:
    """An intent whose sbatch gave no answer may still have worked: it counts until Slurm has been searched for it."""
    if runner.record.slurm_id is not None or runner.slurm is not None or not world.slurm.readable:
        return False
    return world.slurm.at is not None and world.slurm.at > runner.record.intended_at + policy.unconfirmed_after
