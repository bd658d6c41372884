"""Which jobs are for scale sets, and which scale set has them: announced, assigned, taken back, run, over.

A queued job whose labels a scale set of one of its scopes has, all of them, is for scale sets alone. It waits until
one with a session has room for it; runners may take it only while it is assigned to theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.labels import satisfies
from slurm_gha.testing.github.scalesets import wire
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.github.scalesets.queue import Queues
from slurm_gha.testing.github.scalesets.values import Claim, ClaimState, ScaleSet, Statistics
from slurm_gha.testing.github.timers import Timers
from slurm_gha.testing.github.values import Repository, SimJob, SimRunner

FIRST_REQUEST = 40_000_001


class Claims:
    """All claims of jobs. ``offer`` is told of a job that runners may take from now on."""

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        queues: Queues,
        sets: Mapping[int, ScaleSet],
        behaviour: Callable[[], ScaleSetBehaviour],
        scopes_of: Callable[[Repository], frozenset[str]],
        offer: Callable[[SimJob], None],
    ) -> None:
        self._clock, self._timers, self._queues = clock, timers, queues
        self._sets, self._behaviour = sets, behaviour
        self._scopes_of, self._offer = scopes_of, offer
        self._made = 0
        self.claims: dict[int, Claim] = {}

    def admits(self, runner: SimRunner, job: SimJob) -> bool:
        """Whether the runner may take the job, as far as scale sets are concerned."""
        claim = self.claims.get(job.id)
        if claim is None:
            return runner.scale_set_id is None
        return (
            claim.state is ClaimState.ASSIGNED
            and claim.scale_set is not None
            and claim.scale_set.id == runner.scale_set_id
        )

    def statistics(self, scale_set: ScaleSet) -> Statistics:
        """The scale set in numbers, as they are now."""
        states = [claim.state for claim in scale_set.claims.values()]
        running, waiting = states.count(ClaimState.RUNNING), states.count(ClaimState.ASSIGNED)
        runners = scale_set.runners.values()
        return Statistics(
            available=states.count(ClaimState.AVAILABLE) + sum(1 for _ in self._ready(scale_set)),
            assigned=waiting + running,
            running=running,
            registered=len(runners),
            busy=sum(runner.busy for runner in runners),
            idle=sum(runner.online and not runner.busy and not runner.done for runner in runners),
        )

    # What happens to jobs

    def queued(self, job: SimJob) -> None:
        """A job is queued: from now on it is for scale sets, if one fits, and goes to one that has room."""
        if job.id in self.claims or not self._fitting(job):
            return
        self._made += 1
        self.claims[job.id] = Claim(job, FIRST_REQUEST + self._made, since=self._clock.now())
        self._place(self.claims[job.id])

    def started(self, job: SimJob) -> None:
        """A runner has taken the job."""
        claim = self.claims.get(job.id)
        if claim is None or claim.scale_set is None:
            return
        claim.state, claim.since = ClaimState.RUNNING, self._clock.now()
        self._tell("JobStarted", claim, runnerId=job.runner_id, runnerName=job.runner_name)
        early = self._behaviour().completed_early
        if early is not None:
            self._timers.at(claim.since + early, lambda: self._complete_early(claim))

    def completed(self, job: SimJob) -> None:
        """The job is over, by whatever way; its place is free."""
        claim = self.claims.pop(job.id, None)
        if claim is None or claim.scale_set is None:
            return
        del claim.scale_set.claims[job.id]
        if not claim.completion_told:
            self._tell_completed(claim, wire.result(job.conclusion))
        claim.scale_set.wake()
        self.fill(claim.scale_set)

    def acquire(self, scale_set: ScaleSet, request_ids: Iterable[int]) -> list[int]:
        """Assign announced jobs to the scale set; the ids of those that are its now."""
        wanted = set(request_ids)
        got = []
        for claim in list(scale_set.claims.values()):
            if claim.request_id in wanted and claim.state is ClaimState.AVAILABLE:
                self._assign(claim)
                got.append(claim.request_id)
        return got

    def fill(self, scale_set: ScaleSet) -> None:
        """Give the scale set what waits for it, oldest first, as far as there is room."""
        if not self._has_room(scale_set):
            return
        for claim in list(self._ready(scale_set)):
            if not self._has_room(scale_set):
                return
            claim.scale_set, claim.since = scale_set, self._clock.now()
            scale_set.claims[claim.job.id] = claim
            if self._behaviour().acquire:
                self._announce(claim)
            else:
                self._assign(claim)

    # What happens to scale sets

    def reconsider(self, scale_set: ScaleSet, queued: Iterable[SimJob]) -> None:
        """The scale set is new, has other labels, or is gone: what is for scale sets, and for which, may have changed.

        Jobs that run, or that runners are offered just now, stay where they are.
        """
        for claim in list(scale_set.claims.values()):
            stays = claim.state is ClaimState.RUNNING or claim.job.assignment is not None
            if not stays and not self._fits(scale_set, claim.job):
                self._take_back(claim, delay=0.0)
        for claim in list(self.claims.values()):
            if claim.state is ClaimState.WAITING and not self._fitting(claim.job):
                del self.claims[claim.job.id]
                self._offer(claim.job)
        for job in list(queued):
            if job.assignment is None:
                self.queued(job)
        for each in self._sets.values():
            self.fill(each)

    def _fits(self, scale_set: ScaleSet, job: SimJob) -> bool:
        return (
            scale_set.id in self._sets
            and scale_set.scope in self._scopes_of(job.repository)
            and satisfies(scale_set.offered, job.wanted)
        )

    def _fitting(self, job: SimJob) -> list[ScaleSet]:
        return [each for each in self._sets.values() if self._fits(each, job)]

    def _ready(self, scale_set: ScaleSet) -> Iterable[Claim]:
        now = self._clock.now()
        return (
            claim
            for claim in self.claims.values()
            if claim.state is ClaimState.WAITING and claim.not_before <= now and self._fits(scale_set, claim.job)
        )

    def _has_room(self, scale_set: ScaleSet) -> bool:
        if scale_set.session is None or not scale_set.polled:
            return False
        return scale_set.capacity is None or len(scale_set.claims) < scale_set.capacity

    def _place(self, claim: Claim) -> None:
        """To the fitting scale set that has least to do, if one has room."""
        for scale_set in sorted(self._fitting(claim.job), key=lambda each: (len(each.claims), each.id)):
            if claim.state is ClaimState.WAITING:
                self.fill(scale_set)
                scale_set.wake()

    def _announce(self, claim: Claim) -> None:
        claim.state = ClaimState.AVAILABLE
        assert claim.scale_set is not None
        url = f"_apis/runtime/runnerscalesets/{claim.scale_set.id}/acquirejobs"
        self._tell("JobAvailable", claim, acquireJobUrl=url)
        since = claim.since
        self._timers.at(since + self._behaviour().available_timeout, lambda: self._announcement_check(claim, since))

    def _assign(self, claim: Claim) -> None:
        now = self._clock.now()
        claim.state, claim.since, claim.assigned_at = ClaimState.ASSIGNED, now, now
        self._tell("JobAssigned", claim)
        self._timers.at(now + self._behaviour().assignment_timeout, lambda: self._assignment_check(claim, now))
        self._offer(claim.job)

    def _take_back(self, claim: Claim, delay: float) -> None:
        """Not the scale set's any longer: told so if it was assigned, and placed anew after a while."""
        scale_set = claim.scale_set
        assert scale_set is not None
        if claim.state is ClaimState.ASSIGNED:
            self._tell_completed(claim, "canceled")
        del scale_set.claims[claim.job.id]
        claim.state, claim.scale_set, claim.assigned_at = ClaimState.WAITING, None, None
        claim.not_before = self._clock.now() + delay
        self._timers.at(claim.not_before, lambda: self._place_again(claim))
        self.fill(scale_set)

    def _place_again(self, claim: Claim) -> None:
        if self.claims.get(claim.job.id) is claim and claim.state is ClaimState.WAITING:
            self._place(claim)

    # What happens by itself

    def _announcement_check(self, claim: Claim, since: float) -> None:
        if self._stands(claim, ClaimState.AVAILABLE, since):
            self._take_back(claim, delay=0.0)

    def _assignment_check(self, claim: Claim, since: float) -> None:
        if not self._stands(claim, ClaimState.ASSIGNED, since):
            return
        behaviour = self._behaviour()
        if claim.refused >= len(behaviour.requeue_delays):
            return
        if claim.job.assignment is not None:  # a runner is about to take it
            self._timers.at(self._clock.now() + 1.0, lambda: self._assignment_check(claim, since))
            return
        claim.refused += 1
        self._take_back(claim, delay=behaviour.requeue_delays[claim.refused - 1])

    def _complete_early(self, claim: Claim) -> None:
        if self.claims.get(claim.job.id) is claim and claim.state is ClaimState.RUNNING:
            claim.completion_told = True
            self._tell_completed(claim, "canceled")

    def _stands(self, claim: Claim, state: ClaimState, since: float) -> bool:
        return self.claims.get(claim.job.id) is claim and claim.state is state and claim.since == since

    # News

    def _tell_completed(self, claim: Claim, result: str) -> None:
        job = claim.job
        self._tell("JobCompleted", claim, result=result, runnerId=job.runner_id or 0, runnerName=job.runner_name or "")

    def _tell(self, kind: str, claim: Claim, **more: Any) -> None:
        scale_set, behaviour = claim.scale_set, self._behaviour()
        if scale_set is not None and scale_set.id in self._sets:
            request_id = claim.request_id if behaviour.request_ids or behaviour.acquire else 0
            run_id = claim.job.run_id if behaviour.run_ids else 0
            self._queues.put(scale_set, wire.item(kind, claim, request_id=request_id, run_id=run_id, **more))
