"""Which uncovered jobs get a new runner now, and in a sentence why the others wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from slurm_gha.domain.allow import Answer
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Policy, Pool
from slurm_gha.domain.runner import Phase, Runner
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Cause, Submit, Waiting
from slurm_gha.planner.matching import Matching, job_order
from slurm_gha.planner.serving import Option, Serving
from slurm_gha.planner.verdicts import Use, Verdict


class Admission:
    """Hands out the room below the limits, oldest job first.

    ``failing``: the pools that a runner has failed in this very round, and how. Their back-off begins with the
    round's actions, so a runner submitted along with them would be one too many.
    """

    def __init__(
        self,
        world: World,
        policy: Policy,
        serving: Serving,
        now: float,
        verdicts: Mapping[str, Verdict],
        failing: Mapping[str, str],
    ) -> None:
        self._world = world
        self._policy = policy
        self._serving = serving
        self._now = now
        self._failing = failing
        self._live = Counter(
            runner.record.pool for runner in world.runners if verdicts[runner.name].use not in (Use.ENDED, Use.LOST)
        )
        self._total = self._live.total()
        # Pools in trouble that have their one runner on trial: from an earlier round, or from this one.
        self._trials = {
            runner.record.pool
            for runner in world.runners
            if (trouble := world.troubles.get(runner.record.pool)) is not None
            and runner.record.intended_at >= trouble.until
            and _on_trial(runner, verdicts[runner.name], world)
        }

    def admit(
        self, matchings: Mapping[str, Matching], runners: Mapping[str, Runner]
    ) -> tuple[tuple[Submit, ...], tuple[Waiting, ...]]:
        """The submissions of this round, and every queued job with what it waits for."""
        covered = {job: name for matching in matchings.values() for job, name in matching.pairs.items()}
        submissions: list[Submit] = []
        waiting: list[Waiting] = []
        queued = (job for job in self._world.jobs if job.status is JobStatus.QUEUED and job.scope in matchings)
        for job in sorted(queued, key=job_order):
            name = covered.get(job.id)
            if name is not None:
                waiting.append(Waiting(job, _covered_by(runners[name]), name))
                continue
            options = self._serving.options(job)
            if not options:
                waiting.append(self._without_options(job))
                continue
            option, reason = self._room(options)
            if option is not None:
                self._live[option.pool.name] += 1
                self._total += 1
                submissions.append(_submit(option, job))
            waiting.append(Waiting(job, reason))
        return tuple(submissions), tuple(waiting)

    def _without_options(self, job: Job) -> Waiting:
        ruling = self._serving.ruling(job)
        match ruling.answer:
            case Answer.REFUSED:
                return Waiting(job, ruling.reason, cause=Cause.REFUSED, ruling=ruling)
            case Answer.UNKNOWN:
                return Waiting(job, ruling.reason, cause=Cause.ORIGIN, ruling=ruling)
        return Waiting(job, self._serving.obstacle(job), unservable=True, cause=Cause.LABELS)

    def _room(self, options: tuple[Option, ...]) -> tuple[Option | None, str]:
        if self._world.draining:
            return None, "the service is draining: no new runner is started"
        if not self._world.slurm.readable:
            return None, "Slurm cannot be read: no new runner is started until it can"
        if self._total >= self._policy.max_runners:
            return None, f"the limit of {self._policy.max_runners} runners over all pools is reached"
        reasons = []
        for option in options:
            held = self._held_back(option.pool)
            if held is None:
                return option, f"a runner of pool {option.pool.name} is being submitted"
            reasons.append(held)
        return None, "; ".join(reasons)

    def _held_back(self, pool: Pool) -> str | None:
        live = self._live[pool.name]
        if live >= pool.max_runners:
            return f"pool {pool.name} is at its limit of {pool.max_runners} runners"
        if pool.name in self._failing:
            return f"pool {pool.name} has just failed: {self._failing[pool.name]}"
        trouble = self._world.troubles.get(pool.name)
        if trouble is None:
            return None
        if self._now < trouble.until:
            return f"pool {pool.name} backs off for {trouble.until - self._now:.0f} s: {trouble.reason}"
        if pool.name in self._trials:
            return f"pool {pool.name} tries one runner first: {trouble.reason}"
        self._trials.add(pool.name)
        return None


def _submit(option: Option, job: Job) -> Submit:
    pool = option.pool
    return Submit(
        pool.name,
        job.scope,
        job,
        labels=None if option.labels == pool.labels else option.labels,
        request=None if option.request == pool.request else option.request,
        scale_set=job.scale_set is not None,
    )


def _on_trial(runner: Runner, verdict: Verdict, world: World) -> bool:
    """Until it is closed, even an ended runner may turn out a failure; unless GitHub cannot be asked about it."""
    if verdict.use is Use.ENDED:
        view = world.scopes.get(runner.record.scope)
        return view is not None and view.runners_readable
    return verdict.use is not Use.LOST


def _covered_by(runner: Runner) -> str:
    slurm = runner.slurm
    match runner.phase:
        case Phase.IDLE:
            return "a runner is ready for it"
        case Phase.BUSY | Phase.ENDED:
            return "a runner has just taken a job: probably this one"
        case Phase.STARTING:
            return "its runner is starting"
        case Phase.PENDING if slurm is not None and slurm.stage is SlurmStage.UNKNOWN:
            return f"its runner is in a Slurm state that is not known here: {slurm.state}"
        case Phase.PENDING if slurm is not None and slurm.reason not in ("", "None"):
            return f"its runner waits in Slurm: {slurm.reason}"
        case _:
            return "its runner waits in Slurm"
