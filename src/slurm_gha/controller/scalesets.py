"""What is known of this installation's scale sets: told by the source, kept in the journal, seen by the planner."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from slurm_gha.controller.origins import Origins
from slurm_gha.controller.queue_reading import Reading, Standing, assigned, over, taker, view
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.job import Job
from slurm_gha.domain.labels import Labels, satisfies
from slurm_gha.domain.pool import Handover
from slurm_gha.domain.runner import Registration, Runner, RunnerRecord
from slurm_gha.domain.scaleset import AssignedJob, JobNews, Message, NewsKind, Place, ScaleSet, Statistics, as_job
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.world import ScopeView
from slurm_gha.observe import events
from slurm_gha.observe.events import Bus
from slurm_gha.observe.status import ScaleSetStatus
from slurm_gha.planner.level import level
from slurm_gha.store.journal import Journal
from slurm_gha.store.scalesets import ScaleSetStore

# A runner that has a job is named by a message soon; one that is not stands for a waiting job no longer (seconds).
UNNAMED_FOR = 120.0
# Slurm's times are whole seconds, rounded down.
ENDS_ROUNDED = 1.0
# Runners whose registration is this old are online, if anything can be told of them at all (seconds).
SURELY_ONLINE = 60.0


class ScaleSetBook:
    """One reading for each place that is followed. ``may_run``: whether a runner is started for a job, if it waits.
    ``grace``: seconds for which a job that GitHub took back is counted on to come again.

    ``origins``: of the runs that were looked at because a message does not tell whether their jobs may run.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        bus: Bus,
        may_run: Callable[[Job], bool] = lambda job: True,
        grace: Callable[[], float] = lambda: 600.0,
    ) -> None:
        self._grace = grace
        self.origins = Origins(clock)
        self._may_run = may_run
        self._store = ScaleSetStore(journal)
        self._clock = clock
        self._bus = bus
        self._readings: dict[Place, Reading] = {}
        self._done = self._store.done_names()

    def follow(self, names: Mapping[Place, str]) -> None:
        """Exactly these places have scale sets, of these names. What the journal knows of a new one is read."""
        for place in self._readings.keys() - names.keys():
            del self._readings[place]
        new = sorted(names.keys() - self._readings.keys())
        if not new:
            return
        known, jobs, sessions = self._store.scale_sets(), self._store.jobs(), self._store.sessions()
        for place in new:
            self._readings[place] = Reading(
                place,
                names[place],
                known.get(place),
                session_id=sessions.get(place),
                jobs=dict(jobs.get(place, {})),
            )

    @property
    def readings(self) -> Collection[Reading]:
        return tuple(self._readings.values())

    def scopes(self) -> frozenset[str]:
        """The scopes that have scale sets."""
        return frozenset(place.scope for place in self._readings)

    # What the source tells

    def session_of(self, place: Place) -> str | None:
        """The session that an earlier life of the service may have left open."""
        return self._readings[place].session_id

    def found(self, place: Place, scale_set: ScaleSet, wanted: Labels, *, made: bool) -> None:
        """The scale set is there, with the labels that GitHub keeps."""
        reading = self._readings[place]
        dropped = wanted - scale_set.labels
        now = self._clock.now()
        if reading.scale_set is not None and reading.scale_set.id != scale_set.id:
            self._store.forget(place)
            reading.jobs.clear()
            reading.session_id = None
        self._store.set_scale_set(place, scale_set)
        if made or reading.scale_set is None:
            self._bus.emit(
                events.ScaleSetReady(at=now, scope=place.scope, pool=place.pool, scale_set=scale_set.name, made=made)
            )
        if dropped and (dropped != reading.dropped or made):
            self._bus.emit(
                events.LabelsDropped(
                    at=now,
                    scope=place.scope,
                    pool=place.pool,
                    scale_set=scale_set.name,
                    kept=tuple(sorted(scale_set.labels)),
                    dropped=tuple(sorted(dropped)),
                )
            )
        reading.scale_set, reading.dropped = scale_set, dropped

    def vanished(self, place: Place) -> None:
        """The scale set is gone from GitHub, and with it its session and its jobs."""
        reading = self._readings[place]
        self._store.forget(place)
        reading.jobs.clear()
        reading.scale_set, reading.session_id, reading.statistics, reading.latest = None, None, None, None
        self._fail(reading, Standing.FAILING, "the scale set is gone from GitHub; it is made again")
        self._bus.emit(
            events.ScaleSetGone(at=self._clock.now(), scope=place.scope, pool=place.pool, scale_set=reading.name)
        )

    def opened(self, place: Place, session_id: str, statistics: Statistics, *, fresh: bool) -> None:
        """A session is ours: new, taken up again (``fresh`` is false), or refreshed. Its count is of this moment."""
        reading, now = self._readings[place], self._clock.now()
        if reading.session_id != session_id:
            self._store.set_session(place, session_id)
        anew = reading.standing is not Standing.LISTENING or reading.session_id != session_id
        reading.session_id = session_id
        reading.standing, reading.trouble = Standing.LISTENING, None
        reading.heard_at = now
        reading.statistics, reading.statistics_at, reading.latest = statistics, now, None
        reading.settled = False
        if anew:
            reading.session_since = now
            self._bus.emit(
                events.SessionOpened(
                    at=now, scope=place.scope, pool=place.pool, scale_set=reading.name, resumed=not fresh
                )
            )

    def closed(self, place: Place) -> None:
        """The session is over, by our doing or not."""
        reading = self._readings.get(place)
        if reading is not None:
            reading.session_id = reading.session_since = None
        self._store.set_session(place, None)

    def failed(self, place: Place, error: str, *, conflict: bool = False) -> None:
        """GitHub does not let us read the queue; with ``conflict`` because somebody else does."""
        reading = self._readings[place]
        reading.conflicts += conflict
        self._fail(reading, Standing.CONFLICT if conflict else Standing.FAILING, error)

    def heard(self, place: Place, message: Message | None) -> None:
        """An answer to a poll. What the message means is on disk when this returns; the same one may come again."""
        reading, now = self._readings[place], self._clock.now()
        if message is not None:
            with self._store.together():
                jobs = dict(reading.jobs)
                for news in message.news:
                    self._note(place, jobs, news, now)
                    self._come_elsewhere(place, news)
            reading.jobs = jobs
            self._tell(place, message, now)
            reading.latest = message.statistics or reading.latest
        reading.heard_at, reading.trouble, reading.standing = now, None, Standing.LISTENING
        if message is None:
            self.settle(place)
        elif reading.settled:
            self._count(reading)

    def settle(self, place: Place) -> None:
        """No message is waiting: from now on, the count of the latest message is that of the present."""
        reading = self._readings[place]
        now = self._clock.now()
        reading.settled, reading.quiet_at = True, now
        self._count(reading)
        self._forget(reading, [job for job in reading.jobs.values() if not self._counts(job, now)])

    def _count(self, reading: Reading) -> None:
        if reading.latest is not None:
            reading.statistics, reading.statistics_at, reading.latest = reading.latest, self._clock.now(), None
            if reading.statistics.assigned == 0 and reading.jobs:
                # Nothing is assigned: what was never called completed is over all the same.
                self._forget(reading, [job for job in reading.jobs.values() if job.taken_back_at is None])

    def _counts(self, job: AssignedJob, now: float) -> bool:
        """Whether the job is counted on: not where it was taken back and did not come again for long."""
        return job.taken_back_at is None or now - job.taken_back_at < self._grace()

    def _come_elsewhere(self, place: Place, news: JobNews) -> None:
        """What is assigned to one scale set does not come again to another."""
        if news.kind is NewsKind.AVAILABLE:
            return
        for other, reading in self._readings.items():
            job = reading.jobs.get(news.job_id)
            if other != place and other.scope == place.scope and job is not None and job.taken_back_at is not None:
                self._forget(reading, [job])

    def _forget(self, reading: Reading, jobs: Iterable[AssignedJob]) -> None:
        for job in jobs:
            self._store.forget_job(reading.place, job.job_id)
            del reading.jobs[job.job_id]

    def over(self, scope: str, repository: str, is_over: Callable[[AssignedJob], bool]) -> None:
        """Another source tells of a repository's jobs: which of those that were taken back will not come again."""
        for place, reading in self._readings.items():
            if place.scope == scope:
                gone = [
                    job
                    for job in reading.jobs.values()
                    if job.taken_back_at is not None and job.repository == repository and is_over(job)
                ]
                self._forget(reading, gone)

    def waits_for_quiet(self, place: Place) -> bool:
        """Whether messages from before the session may still be waiting."""
        return not self._readings[place].settled

    def assigned(self, place: Place) -> int:
        """GitHub's latest count of the place's jobs, waiting and running."""
        reading = self._readings[place]
        counted = reading.latest or reading.statistics
        return counted.assigned if counted is not None else 0

    def _note(self, place: Place, jobs: dict[str, AssignedJob], news: JobNews, now: float) -> None:
        """One item, as it changes what is on disk. Doing it again changes nothing more."""
        if news.kind is NewsKind.AVAILABLE:
            return
        before = jobs.get(news.job_id)
        if news.kind is NewsKind.COMPLETED:
            started = before is not None and before.started_at is not None
            cancelled = news.result in ("canceled", "cancelled")
            if before is not None and cancelled and not started:
                jobs[news.job_id] = replace(before, taken_back_at=before.taken_back_at or now)
                self._store.set_job(place, jobs[news.job_id])
            elif before is not None:
                del jobs[news.job_id]
                self._store.forget_job(place, news.job_id)
            # One that was cancelled before it started has left its runner as it was.
            if news.runner_name and (started or not cancelled):
                self._store.busy(news.runner_name, now)
                self._store.done(news.runner_name, now)
                self._done.add(news.runner_name)
            return
        job = assigned(news, now, before)
        if news.kind is NewsKind.STARTED:
            since = before.started_at if before is not None and before.runner_name == news.runner_name else None
            job = replace(job, started_at=now if since is None else since, runner_name=news.runner_name)
            if news.runner_name:
                self._store.busy(news.runner_name, now)
        jobs[news.job_id] = job
        self._store.set_job(place, job)

    def _tell(self, place: Place, message: Message, now: float) -> None:
        kinds = [news.kind.value for news in message.news]
        self._bus.emit(
            events.QueueMessage(
                at=now,
                scope=place.scope,
                pool=place.pool,
                message_id=message.id,
                available=kinds.count(NewsKind.AVAILABLE.value),
                assigned=kinds.count(NewsKind.ASSIGNED.value),
                started=kinds.count(NewsKind.STARTED.value),
                completed=kinds.count(NewsKind.COMPLETED.value),
                unknown=len(message.unknown),
            )
        )

    def _fail(self, reading: Reading, standing: Standing, error: str) -> None:
        told = reading.standing is standing
        reading.standing, reading.trouble = standing, error
        place, now = reading.place, self._clock.now()
        if standing is Standing.CONFLICT and not told:
            self._bus.emit(
                events.SessionConflict(at=now, scope=place.scope, pool=place.pool, scale_set=reading.name, error=error)
            )
        elif standing is Standing.FAILING and not told:
            self._bus.emit(
                events.QueueUnreadable(at=now, scope=place.scope, pool=place.pool, scale_set=reading.name, error=error)
            )

    # What the controller sees

    def covers(self, job: Job) -> bool:
        """Whether a job that REST lists is left to a scale set: GitHub gives it to one that has all of its labels."""
        return any(
            place.scope == job.scope and satisfies(reading.labels, job.labels)
            for place, reading in self._readings.items()
        )

    def jobs(self, runners: Sequence[tuple[RunnerRecord, SlurmJob | None]]) -> tuple[Job, ...]:
        """The unfinished jobs of all scale sets, as many as GitHub counts; ``runners`` are those of open records."""
        return tuple(
            self._job(job, place)
            for place, reading in self._readings.items()
            for job in self._jobs_at(
                reading, [(r, s) for r, s in runners if r.scale_set and (r.scope, r.pool) == (place.scope, place.pool)]
            )
        )

    def _job(self, job: AssignedJob, place: Place) -> Job:
        return self.origins.known(as_job(job, place))

    def _jobs_at(
        self, reading: Reading, runners: Sequence[tuple[RunnerRecord, SlurmJob | None]]
    ) -> Iterable[AssignedJob]:
        if reading.statistics is None or reading.standing is Standing.CONFLICT:
            # Not counted yet, or somebody else's now: nothing is started for it, and what runs goes on.
            return [job for job in reading.jobs.values() if job.started_at is not None]
        now, listening = self._clock.now(), reading.standing is Standing.LISTENING
        takers = (taker(record, slurm, now) for record, slurm in runners if record.name not in self._done)
        if len(self._done) > 2 * len(runners) + 1000:
            self._done = self._store.done_names()
        return level(
            [job for job in reading.jobs.values() if self._counts(job, now)],
            reading.statistics,
            reading.statistics_at,
            live={record.name for record, slurm in runners if not over(record, slurm)},
            takers=[each for each in takers if each is not None],
            labels=reading.labels,
            not_before=now - UNNAMED_FOR if listening else float("-inf"),
            may_run=lambda job: self._may_run(self._job(job, reading.place)),
        )

    def registration(self, record: RunnerRecord, slurm: SlurmJob | None) -> Registration | None:
        """A scale set's runner as REST would list it: made of the journal and the messages.

        GitHub removes a runner that has had its job; but a job that is called completed may still run.
        """
        if record.registration_id is None or record.minted_at is None or record.deregistered_at is not None:
            return None
        done = record.name in self._done
        if done and over(record, slurm):
            return None
        reading = self._readings.get(Place(record.scope, record.pool))
        named = reading is not None and any(job.runner_name == record.name for job in reading.jobs.values())
        now = self._clock.now()
        # Without reports from the node, that its script has run for a while is all that can be known.
        silent = record.handover is Handover.STDIN and slurm is not None and slurm.stage is SlurmStage.RUNNING
        running_long = silent and slurm is not None and now - (slurm.started_at or now) > SURELY_ONLINE
        online = record.online_at is not None or record.busy_at is not None or running_long
        return Registration(record.registration_id, record.name, online, named and not done, record.labels)

    def status(self) -> tuple[ScaleSetStatus, ...]:
        """Every scale set as it is shown."""
        return tuple(reading.status() for reading in self._readings.values())

    def doubtful(self, place: Place, runners: Iterable[Runner]) -> bool:
        """Whether a runner of the place has ended since the queue was last known to hold nothing."""
        quiet_at = self._readings[place].quiet_at
        return any(
            quiet_at is not None
            and runner.slurm.ended_at is not None
            and runner.slurm.ended_at + ENDS_ROUNDED >= quiet_at
            for runner in runners
            if runner.record.scale_set
            and (runner.record.scope, runner.record.pool) == (place.scope, place.pool)
            and runner.slurm is not None
        )

    def view(self, scope: str) -> ScopeView:
        """What the scope's queues tell, and what is wrong with one of them."""
        readings = [reading for place, reading in self._readings.items() if place.scope == scope]
        return view(scope, readings, self._clock.now())
