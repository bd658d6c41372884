"""What was last seen of GitHub and Slurm, and the frozen world made of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

import anyio

from slurm_gha.controller.news import News
from slurm_gha.controller.origins import Origins
from slurm_gha.controller.ports import Cluster, GitHubScope
from slurm_gha.controller.queue_reading import merged
from slurm_gha.controller.repositories import Repositories
from slurm_gha.controller.scalesets import ScaleSetBook
from slurm_gha.controller.told import RunReading, is_late
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.runner import Registration, Runner, RunnerRecord, name_prefix
from slurm_gha.domain.scaleset import AssignedJob
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.told import Told, rank
from slurm_gha.domain.world import OrphanRegistration, ScopeView, SlurmView, World
from slurm_gha.github.errors import GitHubError
from slurm_gha.observe.events import Bus, GitHubReadable, GitHubUnreadable, SlurmReadable, SlurmUnreadable
from slurm_gha.planner.verdicts import LISTING_LAG
from slurm_gha.slurm.errors import SlurmError
from slurm_gha.store.journal import Journal

# A listing that began this soon after a submission may not show it yet (seconds).
SUBMISSION_LAG = 2.0
# Between the beginnings of two listings, however many ask for one (seconds): Slurm calls a minute stay bounded.
LISTING_SPACING = 1.0


@dataclass(slots=True)
class _ScopeReading:
    repositories: Repositories
    runners: dict[str, Registration] = field(default_factory=dict)
    runners_at: float | None = None
    runners_error: str | None = None
    readable: bool | None = None


class Observer:
    """Reads Slurm and GitHub, keeps the latest answers, and never mistakes silence for absence.

    ``listed``: the scopes that are read over REST, all of them unless told otherwise; ``scale_sets`` knows of the rest.
    """

    def __init__(
        self,
        *,
        installation: str,
        scopes: Mapping[str, GitHubScope],
        cluster: Cluster,
        journal: Journal,
        clock: Clock,
        bus: Bus,
        scale_sets: ScaleSetBook | None = None,
        listed: Collection[str] | None = None,
    ) -> None:
        self._scale_sets = scale_sets
        self._listed = frozenset(scopes if listed is None else listed)
        self._prefix = name_prefix(installation)
        self._scopes = scopes
        self._cluster = cluster
        self._journal = journal
        self._clock = clock
        self._bus = bus
        self._readings = {
            name: _ScopeReading(Repositories(scope, clock, partial(self._read, name))) for name, scope in scopes.items()
        }
        self.news = News()
        self.origins = scale_sets.origins if scale_sets is not None else Origins(clock)
        self._slurm_jobs: dict[int, SlurmJob] = {}
        # Last states of jobs that the listing no longer shows, while their records are open.
        self._vanished: dict[int, SlurmJob] = {}
        self._slurm_at: float | None = None
        self._slurm_error: str | None = None
        self._slurm_lock = anyio.Lock()
        self._orphans: dict[tuple[str, int], float] = {}

    async def look_at_slurm(self, *, since: float | None = None) -> bool:
        """List Slurm's jobs once; with ``since``, only if no listing has begun at or after that moment.

        Callers at the same time share one listing. Returns whether Slurm was readable.
        """
        async with self._slurm_lock:
            if since is not None and self._slurm_at is not None and self._slurm_at >= since and not self._slurm_error:
                return True
            if self._slurm_at is not None:
                await self._clock.sleep(self._slurm_at + LISTING_SPACING - self._clock.now())
            began = self._clock.now()
            try:
                listed = {job.id: job for job in await self._cluster.list_jobs()}
                await self._resolve_vanished(listed, began)
            except SlurmError as error:
                if self._slurm_error is None:
                    self._bus.emit(SlurmUnreadable(at=self._clock.now(), error=str(error)))
                self._slurm_error = str(error)
                return False
            if self._slurm_error is not None or self._slurm_at is None:
                self._bus.emit(SlurmReadable(at=self._clock.now()))
            self._slurm_jobs, self._slurm_at, self._slurm_error = listed, began, None
            self._attach_ids()
            return True

    async def _resolve_vanished(self, listed: Mapping[int, SlurmJob], began: float) -> None:
        """Ask what became of the jobs of open records that a listing does not show; keep the old word if unknown."""
        ids = {r.slurm_id for r in self._journal.open_records() if r.slurm_id is not None}
        self._vanished = {i: job for i, job in self._vanished.items() if i in ids and i not in listed}
        missing = {
            record.slurm_id
            for record in self._journal.open_records()
            if record.slurm_id is not None
            and record.slurm_id not in listed
            and record.slurm_id not in self._vanished
            and (record.submitted_at or 0.0) < began - SUBMISSION_LAG
        }
        if not missing:
            return
        found = await self._cluster.look_up(sorted(missing))
        for slurm_id in missing:
            job = found.get(slurm_id)
            if job is not None and job.stage is SlurmStage.ENDED:
                self._vanished[slurm_id] = job
            elif job is not None and job.ended_at is not None:
                # A state word of tomorrow, but an end: it is over, whatever it is called.
                self._vanished[slurm_id] = replace(job, state="GONE")

    def _attach_ids(self) -> None:
        """Give an intent whose sbatch gave no answer the id of the Slurm job that carries its name."""
        by_name = {job.name: job for job in sorted(self._slurm_jobs.values(), key=lambda j: -j.id)}
        for record in self._journal.open_records():
            if record.slurm_id is None and (job := by_name.get(record.name)) is not None:
                self._journal.submitted(record.name, job.id, self._clock.now())

    def slurm_job(self, slurm_id: int) -> SlurmJob | None:
        """The job as the latest listing shows it."""
        return self._slurm_jobs.get(slurm_id)

    def runs(self, slurm_id: int) -> bool:
        """Whether the latest listing shows the job running."""
        job = self._slurm_jobs.get(slurm_id)
        return job is not None and job.stage is SlurmStage.RUNNING

    async def look_at_runners(self, scope: str) -> None:
        """Read a scope's registrations."""
        if scope not in self._listed:
            return
        reading = self._readings[scope]
        began = self._clock.now()
        try:
            listed = await self._scopes[scope].runners()
        except GitHubError as error:
            reading.runners_error = str(error)
        else:
            reading.runners = {r.name: r for r in listed if r.name.startswith(self._prefix)}
            reading.runners_at, reading.runners_error = began, None
            self._note_registrations(scope, reading)
        self._announce(scope, reading)

    async def look_at_jobs(self, scope: str, repositories: Iterable[str] | None = None) -> None:
        """Read the queued and running jobs of some repositories of a scope, or of those whose turn it is."""
        if scope not in self._listed:
            return
        reading = self._readings[scope]
        if repositories is not None:
            await reading.repositories.look_at(repositories)
        else:
            records = self._journal.open_records()
            ours = {record.repository for record in records if record.scope == scope and record.repository is not None}
            await reading.repositories.look(ours)
        self._announce(scope, reading)

    def _read(self, scope: str, repository: str, jobs: tuple[Job, ...], began: float, *, whole: bool) -> None:
        """What a look at a repository showed; ``whole``: these are all of its jobs."""
        self._note_taken(jobs)
        if whole:
            self._settle_taken_back(scope, repository, jobs, began)
        if self._scale_sets is not None:
            self.origins.learn(job for job in jobs if self._scale_sets.covers(job))

    # Single runs, and jobs told of unasked: see told.py for how they are merged with the listings

    async def look_at_run(self, scope: str, repository: str, run_id: int) -> None:
        """Read one run's jobs. Where that fails, it is looked at again as long as something unsettled speaks of it.

        In a scope that is not listed, only its origin counts: its scale sets know of its jobs.
        """
        began = self._clock.now()
        try:
            jobs = await self._scopes[scope].run(repository, run_id)
        except GitHubError:
            return
        self.origins.learn(jobs)
        self._settle_taken_back(scope, repository, jobs, began, run_id)
        if scope in self._listed:
            self.news.looked(scope, repository, run_id, RunReading(began, jobs))
            self._note_taken(jobs)

    def _settle_taken_back(
        self, scope: str, repository: str, jobs: Iterable[Job], began: float, run_id: int | None = None
    ) -> None:
        """A job that its scale set lost comes again only if its run, read later, still has it."""
        if self._scale_sets is None:
            return
        unfinished = {(job.run_id, job.name) for job in jobs}

        def is_over(job: AssignedJob) -> bool:
            read = job.run_id > 0 and run_id in (None, job.run_id)
            later = job.taken_back_at is not None and began > job.taken_back_at + LISTING_LAG
            return read and later and (job.run_id, job.name) not in unfinished

        self._scale_sets.over(scope, repository, is_over)

    def hear(self, word: Told) -> None:
        """Keep what was told of a job, for the next world."""
        self.news.hear(word)
        told = word.job
        if told.status is JobStatus.COMPLETED and self._scale_sets is not None:
            self._scale_sets.over(
                told.scope, told.repository, lambda job: (job.run_id, job.name) == (told.run_id, told.name)
            )
        if word.rank >= rank(JobStatus.IN_PROGRESS) and word.job.runner_name is not None:
            self._note_taken([replace(word.job, status=JobStatus.IN_PROGRESS)])

    def is_late(self, job: Job, now: float) -> bool:
        """Whether news of a job comes too late to be trusted by itself."""
        listed_at = self._readings[job.scope].repositories.read_at(job.repository)
        return is_late(job, now, self.news.read_at(job.scope, job.repository, job.run_id, listed_at))

    def lists(self, scope: str, repository: str) -> bool:
        """Whether the repository is one of those that a look at the scope reads."""
        return repository in self._readings[scope].repositories

    def _note_registrations(self, scope: str, reading: _ScopeReading) -> None:
        """Write down who was first seen online or busy, and remember registrations that belong to nobody."""
        now = self._clock.now()
        records = {record.name: record for record in self._journal.open_records()}
        with self._journal.together():
            for registration in reading.runners.values():
                record = records.get(registration.name)
                if record is None:
                    continue
                if registration.online and record.online_at is None:
                    self._journal.online(record.name, now)
                if registration.busy and record.busy_at is None:
                    self._journal.busy(record.name, now)
                    if record.repository is not None:
                        reading.repositories.suspect(record.repository)
        orphans = {(scope, r.id) for r in reading.runners.values() if r.name not in records}
        kept = {key: at for key, at in self._orphans.items() if key[0] != scope or key in orphans}
        self._orphans = {**dict.fromkeys(sorted(orphans), now), **kept}

    def _note_taken(self, jobs: Iterable[Job]) -> None:
        now = self._clock.now()
        taken = {job.runner_name for job in jobs if job.status is JobStatus.IN_PROGRESS and job.runner_name}
        with self._journal.together():
            for record in self._journal.open_records():
                if record.name in taken and record.busy_at is None:
                    self._journal.busy(record.name, now)

    def _announce(self, scope: str, reading: _ScopeReading) -> None:
        """One event when a scope becomes unreadable, one when it is readable again."""
        view = self._listed_view(scope)
        error = view.jobs_error or view.runners_error
        if error is not None and reading.readable is not False:
            reading.readable = False
            self._bus.emit(GitHubUnreadable(at=self._clock.now(), scope=scope, error=error))
        elif error is None and view.jobs_readable and view.runners_readable and reading.readable is not True:
            reading.readable = True
            self._bus.emit(GitHubReadable(at=self._clock.now(), scope=scope))

    def _scope_view(self, scope: str) -> ScopeView:
        queues = self._scale_sets if self._scale_sets is not None and scope in self._scale_sets.scopes() else None
        if scope not in self._listed:
            return queues.view(scope) if queues is not None else ScopeView(scope)
        listed = self._listed_view(scope)
        return listed if queues is None else merged(listed, queues.view(scope))

    def _listed_view(self, scope: str) -> ScopeView:
        reading = self._readings[scope]
        repositories = reading.repositories
        return ScopeView(
            scope,
            repositories.at,
            reading.runners_at,
            repositories.error,
            reading.runners_error,
            repositories_at=repositories.times(),
            round_seconds=repositories.round_seconds,
        )

    def world(self, *, surplus_since: Mapping[str, float], last_tried: Mapping[str, float], draining: bool) -> World:
        """The snapshot of this moment."""
        now = self._clock.now()
        records = self._journal.open_records()
        jobs = self._jobs(records, now)
        open_names = {record.name for record in records}
        open_ids = {record.slurm_id for record in records}
        taken = self.news.takers(now) | {
            job.runner_name: job.id for job in jobs if job.status is JobStatus.IN_PROGRESS and job.runner_name
        }
        strays = (j for j in self._slurm_jobs.values() if j.name not in open_names and j.id not in open_ids)
        orphans = (
            OrphanRegistration(scope, registration, self._orphans[scope, registration.id])
            for scope, reading in self._readings.items()
            for registration in reading.runners.values()
            if (scope, registration.id) in self._orphans and registration.name not in open_names
        )
        return World(
            jobs=jobs,
            runners=tuple(self._runner(record, taken) for record in records),
            scopes=MappingProxyType({name: self._scope_view(name) for name in self._readings}),
            slurm=SlurmView(self._slurm_at, self._slurm_error),
            strays=tuple(strays),
            orphans=tuple(orphans),
            troubles=self._journal.troubles(),
            surplus_since=surplus_since,
            last_tried=last_tried,
            draining=draining,
        )

    def _jobs(self, records: Iterable[RunnerRecord], now: float) -> tuple[Job, ...]:
        """What REST lists and deliveries tell, without what is left to scale sets, and what they hold."""
        listed = (
            job
            for scope, reading in self._readings.items()
            for job in self.news.jobs(scope, reading.repositories.readings(), now)
        )
        queues = self._scale_sets
        if queues is None:
            return tuple(listed)
        runners = [(record, self._slurm_of(record)) for record in records]
        return (*(job for job in listed if not queues.covers(job)), *queues.jobs(runners))

    def _slurm_of(self, record: RunnerRecord) -> SlurmJob | None:
        if record.slurm_id is None:
            return None
        return self._slurm_jobs.get(record.slurm_id) or self._vanished.get(record.slurm_id)

    def _runner(self, record: RunnerRecord, taken: Mapping[str, int]) -> Runner:
        slurm = self._slurm_of(record)
        if record.scale_set and self._scale_sets is not None:
            return Runner(record, slurm, self._scale_sets.registration(record, slurm), taken.get(record.name))
        reading = self._readings.get(record.scope)
        registration = reading.runners.get(record.name) if reading is not None else None
        return Runner(record, slurm, registration, taken.get(record.name))
