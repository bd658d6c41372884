"""The simulated GitHub's whole state: pure in memory, no I/O, one clock; ids and order follow from the seed.

REST (:mod:`~slurm_gha.testing.github.rest`) and the runner's protocol are two doors to the same object. What GitHub
does by itself in time (leases, offers not taken, forgotten runners) is done by :meth:`GitHub.tick`, which every door
calls first, so that it needs no task of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.testing.github import triggers
from slurm_gha.testing.github.accounts import Accounts
from slurm_gha.testing.github.apps import Apps
from slurm_gha.testing.github.errors import Denied, NotThere
from slurm_gha.testing.github.hooks import Hooks
from slurm_gha.testing.github.runners import Addresses, Behaviour, Runners
from slurm_gha.testing.github.runs import Runs
from slurm_gha.testing.github.scalesets.sets import ScaleSets
from slurm_gha.testing.github.timers import Timers
from slurm_gha.testing.github.values import (
    Assignment,
    Cancellation,
    Event,
    Run,
    Session,
    SimJob,
    SimRunner,
)


class GitHub(Accounts):
    """A whole GitHub, small. ``url`` is where its doors are; everything it hands out is built from it."""

    def __init__(
        self,
        clock: Clock,
        *,
        url: str = "http://github.test",
        seed: int = 0,
        behaviour: Behaviour | None = None,
    ) -> None:
        chance = random.Random(seed)
        super().__init__(clock, chance)
        self.apps = Apps(self, random.Random(f"{seed}/apps"))
        self.addresses = Addresses(url.rstrip("/"))
        self.behaviour = behaviour or Behaviour()
        self.listeners: list[Callable[[Event], None]] = []
        self.runner_versions: dict[str, int] = {}
        self.registration_tokens: dict[str, tuple[str, float]] = {}
        self.version = 0
        self._changed: anyio.Event | None = None
        self.hooks = Hooks(clock, self.addresses.url, self.apps, seed)
        self._timers = Timers()
        self._runs = Runs(clock, chance, self._on_job)
        self._runners = Runners(
            clock,
            chance,
            self._timers,
            self.behaviour,
            self.addresses,
            self._runs,
            self.scopes_of,
            self._on_runner,
            lambda runner, job: self.scale_sets.admits(runner, job),
        )
        self.scale_sets = ScaleSets(
            clock,
            seed,
            self.behaviour.scale_sets,
            accounts=self,
            timers=self._timers,
            runs=self._runs,
            runners=self._runners,
            tick=self.tick,
            notify=self._notify,
        )

    @property
    def url(self) -> str:
        return self.addresses.url

    @property
    def jobs(self) -> dict[int, SimJob]:
        return self._runs.jobs

    @property
    def runs(self) -> dict[int, Run]:
        return self._runs.runs

    @property
    def runners(self) -> dict[int, SimRunner]:
        return self._runners.runners

    @property
    def sessions(self) -> dict[str, Session]:
        return self._runners.sessions

    @property
    def changed(self) -> anyio.Event:
        """Set at the next change of a run, a job or a runner; take it, look, then wait for it."""
        if self._changed is None:
            self._changed = anyio.Event()
        return self._changed

    # Events that start workflows

    def push(
        self,
        repository: str,
        *,
        branch: str = "main",
        sha: str | None = None,
        files: Mapping[str, str] | None = None,
        actor: str = "octocat",
        message: str = "Update",
    ) -> list[Run]:
        """A push: ``files`` changes some files first; the runs it starts, in the order of the workflow files."""
        self.tick()
        found = self.repository(repository)
        found.files.update(files or {})
        found.sha = sha or self.sha()
        found.pushed_at = self.clock.now()
        runs = triggers.push(self._runs, found, branch=branch, actor=actor, message=message, changed=tuple(files or ()))
        self._notify()
        return runs

    def pull_request(
        self, repository: str, number: int, *, branch: str, action: str = "opened", fork: bool = False
    ) -> list[Run]:
        """A pull request's event against the default branch."""
        self.tick()
        found = self.repository(repository)
        runs = triggers.pull_request(self._runs, found, number, branch=branch, action=action, fork=fork)
        self._notify()
        return runs

    def dispatch(self, repository: str, workflow_path: str, inputs: Mapping[str, Any] | None = None) -> Run:
        """A workflow_dispatch of one workflow; inputs not given take their defaults."""
        self.tick()
        run = triggers.dispatch(self._runs, self.repository(repository), workflow_path, inputs or {})
        self._notify()
        return run

    # What users do to runs

    def cancel_run(self, repository: str, run_id: int, *, force: bool = False) -> None:
        self.tick()
        self._runs.cancel(self.find_run(repository, run_id), force=force)
        self._notify()

    def cancel_job(self, job_id: int) -> None:
        """Cancel one job alone; REST has no call for it, but a run's page can come to it."""
        self.tick()
        self._runs.cancel_job(self._runs.find_job(job_id))
        self._notify()

    def approve(self, repository: str, run_id: int) -> None:
        """Let the run's jobs go on that wait for approval."""
        self.tick()
        self._runs.approve(self.find_run(repository, run_id))
        self._notify()

    def rerun_job(self, job_id: int) -> None:
        self.tick()
        job = self._runs.find_job(job_id)
        self._runs.rerun(job.run, [job.key])
        self._notify()

    def rerun_failed_jobs(self, repository: str, run_id: int) -> None:
        self.tick()
        run = self.find_run(repository, run_id)
        failed = [key for key, group in run.groups.items() if group.result in ("failure", "cancelled")]
        if not failed:
            raise Denied("The workflow run containing this job has no failed jobs")
        self._runs.rerun(run, failed)
        self._notify()

    def find_run(self, repository: str, run_id: int) -> Run:
        run = self._runs.find_run(run_id)
        if run.repository is not self.repository(repository):
            raise NotThere(f"{repository} has no run {run_id}")
        return run

    def find_job(self, job_id: int) -> SimJob:
        return self._runs.find_job(job_id)

    def present_jobs(self, run: Run) -> list[SimJob]:
        """The jobs of the run's latest attempt, oldest first."""
        return self._runs.present_jobs(run)

    # Runners

    def mint_runner(
        self,
        scope_path: str,
        name: str,
        labels: Sequence[str],
        group: int = 1,
        work_folder: str = "_work",
    ) -> tuple[SimRunner, str]:
        """Register a just-in-time runner at ``repos/o/r``, ``orgs/o`` or ``enterprises/e``; its JIT configuration."""
        self.tick()
        scope = scope_path.strip("/").lower()
        minted = self._runners.mint(scope, self.scope_owner(scope), name, labels, group, work_folder)
        self._notify()
        return minted

    def issue_registration_token(self, scope: str) -> str:
        """A token that registers or removes runners of the scope for an hour."""
        text = self._runs.guid().replace("-", "").upper()
        self.registration_tokens[text] = (scope, self.clock.now() + 3600.0)
        return text

    def runners_of(self, scope: str) -> list[SimRunner]:
        return self._runners.in_scope(scope)

    def remove_runner(self, runner_id: int) -> None:
        """Deregister; Unprocessable while it runs a job."""
        self.tick()
        self._runners.remove(self.find_runner(runner_id))
        self._notify()

    def find_runner(self, runner_id: int) -> SimRunner:
        runner = self.runners.get(runner_id)
        if runner is None:
            raise NotThere(f"no runner {runner_id}")
        return runner

    def runner_by_client_id(self, client_id: str) -> SimRunner | None:
        """The runner that signs as ``client_id``; None once its credential has run out, or it is gone."""
        runner = self._runners.by_client_id(client_id)
        lifetime = self.behaviour.credential_lifetime
        if runner is not None and lifetime is not None and not runner.ever_online:
            return runner if self.clock.now() < runner.created_at + lifetime else None
        return runner

    # The runner's side (the broker and the run service are made of these)

    def open_session(self, runner: SimRunner, *, version: str = "") -> str:
        self.tick()
        runner.version = version or runner.version
        session_id = self._runners.open(runner)
        self._notify()
        return session_id

    def close_session(self, session_id: str) -> None:
        self.tick()
        self._runners.close(session_id)
        self._notify()

    def next_message(self, session_id: str) -> Assignment | Cancellation | None:
        """What the session is to hear now. An assignment is said again until acknowledged or acquired."""
        self.tick()
        session = self._runners.session(session_id)
        session.seen_at = self.clock.now()
        job_id = session.runner.job_id
        if job_id is not None and self.jobs[job_id].cancel_requested and not session.cancellation_sent:
            session.cancellation_sent = True
            return Cancellation(self.jobs[job_id])
        return None if session.acknowledged else session.assignment

    async def wait_for_message(self, session_id: str, timeout: float) -> Assignment | Cancellation | None:
        """The same as a long poll of at most ``timeout`` seconds; NotThere when the session ends meanwhile."""
        until = self.clock.now() + timeout
        while True:
            message = self.next_message(session_id)
            left = until - self.clock.now()
            if message is not None or left <= 0:
                return message
            news = self._runners.session(session_id).news
            due = self._timers.next()
            with anyio.move_on_after(left if due is None else max(0.001, min(left, due - self.clock.now()))):
                await news.wait()

    def acknowledge(self, session_id: str, assignment_id: str) -> None:
        """The runner has the message; it is not said again."""
        self.tick()
        session = self._runners.session(session_id)
        if session.assignment is not None and session.assignment.id == assignment_id:
            session.acknowledged = True

    def acquire(self, runner: SimRunner, assignment_id: str) -> SimJob:
        """The runner takes the job offered to it; again is the same. NotThere when it is offered to it no longer."""
        self.tick()
        if runner.job_id is not None:
            job = self.jobs[runner.job_id]
            if job.assignment is not None and job.assignment.id == assignment_id:
                return job
        session = self._runners.session_of(runner)
        assignment = None if session is None else session.assignment
        if session is None or assignment is None or assignment.id != assignment_id:
            raise NotThere(f"job request {assignment_id} is not this runner's, or no longer")
        job = assignment.job
        session.assignment = None
        session.cancellation_sent = False
        runner.job_id = job.id
        job.runner_id, job.runner_name = runner.id, runner.name
        job.runner_group_id, job.runner_group_name = runner.group_id, runner.group_name
        job.locked_until = self.clock.now() + self.behaviour.lease
        self._timers.at(job.locked_until, lambda: self._lease_check(job))
        self._runs.start(job)
        self._on_runner("busy", runner)
        self._notify()
        return job

    def renew(self, job_id: int) -> float:
        """Prolong the job's lease; until when. NotThere when the job is not running (any longer)."""
        self.tick()
        job = self._runs.find_job(job_id)
        if job.status != "in_progress":
            raise NotThere(f"job {job_id} is not running")
        job.locked_until = self.clock.now() + self.behaviour.lease
        runner = self.runners.get(job.runner_id or 0)
        session = None if runner is None else self._runners.session_of(runner)
        if session is not None:
            session.seen_at = self.clock.now()
        return job.locked_until

    def complete(
        self,
        job_id: int,
        conclusion: str,
        outputs: Mapping[str, str] | None = None,
        steps: Sequence[Mapping[str, Any]] = (),
        log: str | None = None,
    ) -> None:
        """The runner says how the job ended. NotThere when it is over already (lease lost, cancelled by force)."""
        self.tick()
        job = self._runs.find_job(job_id)
        if job.status != "in_progress":
            raise NotThere(f"job {job_id} is not running")
        job.outputs = dict(outputs or {})
        job.steps = list(steps) or job.steps
        job.log = job.log if log is None else log
        self._runs.finish(job, conclusion)
        self._notify()

    def record(self, job_id: int, *, steps: Sequence[Mapping[str, Any]] | None = None, log: str | None = None) -> None:
        """Steps and log lines so far; the log is appended to, whether or not the job is still running."""
        job = self._runs.find_job(job_id)
        if steps is not None:
            job.steps = list(steps)
        if log is not None:
            job.log += log
        self._runs.touch(job.run)

    def cancellation_requested(self, job_id: int) -> bool:
        """Whether a running job is to stop."""
        job = self._runs.find_job(job_id)
        return job.status == "in_progress" and job.cancel_requested

    # Time and news

    def tick(self) -> None:
        """Let happen what was due by now."""
        due = self._timers.next()
        if due is not None and due <= self.clock.now():
            self._timers.run(self.clock.now())
            self._notify()

    def _notify(self) -> None:
        self.version += 1
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _on_job(self, what: str, job: SimJob) -> None:
        self._tell(f"job.{what}", job.id, job.name)
        self.hooks.on_job(what, job)
        match what:
            case "queued":
                self._timers.at(job.queued_at + self.behaviour.queue_limit, lambda: self._queue_check(job))
                self._offer(what, job)
            case "requeued":
                self._offer(what, job)
            case "in_progress":
                self.scale_sets.job_changed(what, job)
            case "cancel_requested":
                runner = self.runners.get(job.runner_id or 0)
                session = None if runner is None else self._runners.session_of(runner)
                if session is not None:
                    self._runners.wake(session)
            case "completed":
                self._runners.withdraw(job)
                self._runners.release(job)
                self.scale_sets.job_changed(what, job)

    def _offer(self, what: str, job: SimJob) -> None:
        self.scale_sets.job_changed(what, job)
        if job.assignment is None:
            self._runners.offer(job)

    def _on_runner(self, what: str, runner: SimRunner) -> None:
        self.scale_sets.runner_changed(what, runner)
        self.runner_versions[runner.scope] = self.runner_versions.get(runner.scope, 0) + 1
        self._tell(f"runner.{what}", runner.id, runner.name)

    def _tell(self, kind: str, subject: int, name: str) -> None:
        if self.listeners:
            event = Event(self.clock.now(), kind, subject, name)
            for listener in self.listeners:
                listener(event)

    def _queue_check(self, job: SimJob) -> None:
        if job.status == "queued":
            job.log = "The job was not acquired by a runner within the time a job may be queued.\n"
            self._runs.finish(job, "failure")

    def _lease_check(self, job: SimJob) -> None:
        if job.status != "in_progress" or job.locked_until is None:
            return
        if self.clock.now() < job.locked_until:
            self._timers.at(job.locked_until, lambda: self._lease_check(job))
            return
        job.log += "The self-hosted runner lost communication with the server.\n"
        self._runs.finish(job, "failure")
