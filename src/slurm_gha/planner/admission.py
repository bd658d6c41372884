"""Which uncovered jobs get a new runner now, and in a sentence why the others wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from slurm_gha.domain.allow import Answer
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.pool import Policy, Pool
from slurm_gha.domain.runner import Phase, Runner
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.domain.world import World
from slurm_gha.planner.actions import Cause, Submit, Waiting
from slurm_gha.planner.census import Census, Held, Place
from slurm_gha.planner.fairness import ELDERS_TURN, Entry, FairOrder, Kind
from slurm_gha.planner.matching import Matching, Want, job_order
from slurm_gha.planner.serving import Option, Serving
from slurm_gha.planner.verdicts import Use, Verdict


class Admission:
    """Hands out the room below the limits, in fair order.

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
        self._census = Census(world, policy, verdicts)
        self._turns = dict(world.turns)
        self._unsettled: list[Kind] = []
        # Pools in trouble that have their one runner on trial: from an earlier round, or from this one.
        self._trials = {
            runner.record.pool
            for runner in world.runners
            if (trouble := world.troubles.get(runner.record.pool)) is not None
            and runner.record.intended_at >= trouble.until
            and _on_trial(runner, verdicts[runner.name], world)
        }

    @property
    def turns(self) -> Mapping[str, int]:
        """How many runners each pool has started since the last one that went to its oldest job."""
        return MappingProxyType(dict(self._turns))

    def admit(
        self, matchings: Mapping[str, Matching], runners: Mapping[str, Runner]
    ) -> tuple[tuple[Submit, ...], tuple[Waiting, ...]]:
        """The submissions of this round, and every queued job with what it waits for."""
        covered = {job: name for matching in matchings.values() for job, name in matching.pairs.items()}
        queued = [job for job in self._world.jobs if job.status is JobStatus.QUEUED and job.scope in matchings]
        queued.sort(key=job_order)
        entries: dict[int, Entry] = {}
        kinds: dict[tuple[str, str, Want], Kind] = {}
        for place, job in enumerate(queued):
            if job.id in covered:
                continue
            key = (job.scope, job.repository, self._serving.want(job))
            if key not in kinds:
                kinds[key] = Kind(job.scope, job.repository, self._serving.options(job))
            if kinds[key].options:
                entries[place] = Entry(job, kinds[key])
        submissions, started = self._hand_out(list(entries.values()))
        self._unsettled = [entry.kind for entry in entries.values() if not entry.settled]
        waiting: list[Waiting] = []
        for place, job in enumerate(queued):
            entry = entries.get(place)
            if job.id in covered:
                name = covered[job.id]
                waiting.append(Waiting(job, _covered_by(runners[name]), name))
            elif entry is None:
                waiting.append(self._without_options(job))
            elif entry.settled:
                waiting.append(Waiting(job, f"a runner of pool {started[id(entry)]} is being submitted"))
            else:
                held = entry.kind.held or self._shut()
                assert held is not None
                waiting.append(Waiting(job, held.reason, cause=held.cause))
        return submissions, tuple(waiting)

    def crowded_out(self) -> tuple[tuple[int, tuple[frozenset[Place], ...]], ...]:
        """How many jobs one runner less would help, by the limits that it would have to count to: sets of them."""
        if self._world.draining or not self._world.slurm.readable:
            return ()
        found: list[tuple[int, tuple[frozenset[Place], ...]]] = []
        for kind, number in Counter(self._unsettled).items():
            ways = tuple(
                crowded
                for option in kind.options
                if (crowded := self._census.crowded(option.pool, kind.scope))
                and self._census.spares(option.pool, kind.scope, kind.repository)
                and self._in_trouble(option.pool) is None
            )
            if ways:
                found.append((number, ways))
        return tuple(found)

    def admit_ahead(self, pool: Pool, scope: str) -> Submit | None:
        """A runner ahead of demand, if there is room for it."""
        held = self._shut() or self._census.closed_to(scope, None) or self._held_back(pool, scope, None)
        if held is not None:
            return None
        self._start(pool, scope, None)
        return Submit(pool.name, scope, scale_set=(scope, pool.name) in self._policy.scale_sets)

    def _hand_out(self, entries: Sequence[Entry]) -> tuple[tuple[Submit, ...], Mapping[int, str]]:
        order = FairOrder(entries, self._census, self._policy)
        submissions: list[Submit] = []
        started: dict[int, str] = {}
        while self._shut() is None and (entry := order.next()) is not None:
            option = self._room(entry.kind)
            if option is None:
                continue
            if self._turns.get(option.pool.name, 0) >= ELDERS_TURN - 1:
                elder = order.elder(option.pool.name)
                if elder is not None and elder is not entry:
                    entry, option = elder, self._room(elder.kind)
                    if option is None:
                        continue
                self._turns[option.pool.name] = -1
            entry.settled = True
            self._turns[option.pool.name] = self._turns.get(option.pool.name, 0) + 1
            self._start(option.pool, entry.job.scope, entry.job.repository)
            started[id(entry)] = option.pool.name
            submissions.append(_submit(option, entry.job))
        return tuple(submissions), started

    def _start(self, pool: Pool, scope: str, repository: str | None) -> None:
        self._census.add(pool.name, scope, repository)
        if pool.name in self._world.troubles:
            self._trials.add(pool.name)

    def _without_options(self, job: Job) -> Waiting:
        ruling = self._serving.ruling(job)
        match ruling.answer:
            case Answer.REFUSED:
                return Waiting(job, ruling.reason, cause=Cause.REFUSED, ruling=ruling)
            case Answer.UNKNOWN:
                return Waiting(job, ruling.reason, cause=Cause.ORIGIN, ruling=ruling)
        cause, reason = self._serving.obstacle(job)
        return Waiting(job, reason, unservable=True, cause=cause)

    def _shut(self) -> Held | None:
        """Why nobody gets a runner now."""
        if self._world.draining:
            return Held(Cause.DRAINING, "the service is draining: no new runner is started")
        if not self._world.slurm.readable:
            return Held(Cause.SLURM, "Slurm cannot be read: no new runner is started until it can")
        return self._census.full()

    def _room(self, kind: Kind) -> Option | None:
        """The first of a kind's options that has room; without one, the kind is held."""
        closed = self._census.closed_to(kind.scope, kind.repository)
        if closed is not None:
            kind.held = closed
            return None
        found: list[Held] = []
        for option in kind.options:
            held = self._held_back(option.pool, kind.scope, kind.repository)
            if held is None:
                return option
            found.append(held)
        kind.held = Held(found[0].cause, "; ".join(held.reason for held in found))
        return None

    def _held_back(self, pool: Pool, scope: str, repository: str | None) -> Held | None:
        closed = self._census.closed(pool, scope, repository)
        return closed if closed is not None else self._in_trouble(pool)

    def _in_trouble(self, pool: Pool) -> Held | None:
        if pool.name in self._failing:
            return Held(Cause.BACKOFF, f"pool {pool.name} has just failed: {self._failing[pool.name]}")
        trouble = self._world.troubles.get(pool.name)
        if trouble is None:
            return None
        if self._now < trouble.until:
            rest = trouble.until - self._now
            return Held(Cause.BACKOFF, f"pool {pool.name} backs off for {rest:.0f} s: {trouble.reason}")
        if pool.name in self._trials:
            return Held(Cause.BACKOFF, f"pool {pool.name} tries one runner first: {trouble.reason}")
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
