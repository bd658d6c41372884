"""Workflow runs and their jobs: made, advanced as jobs end, cancelled, run again."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.labels import normalise
from slurm_gha.testing.github import expressions, progress, workflows
from slurm_gha.testing.github.errors import Conflict, Denied, NotThere, WorkflowError
from slurm_gha.testing.github.values import JobGroup, Repository, Run, SimJob
from slurm_gha.testing.github.workflows import Workflow

FIRST_RUN = 9_000_000_001
"""Run and job ids are larger than 32 bits, as GitHub's are, so that a client that cannot hold them shows."""
FIRST_JOB = 30_000_000_001


class Runs:
    """All runs and jobs. ``on_job`` is told of every change of a job's status, by the word for what happened."""

    def __init__(self, clock: Clock, chance: random.Random, on_job: Callable[[str, SimJob], None]) -> None:
        self._clock = clock
        self._chance = chance
        self._on_job = on_job
        self.runs: dict[int, Run] = {}
        self.jobs: dict[int, SimJob] = {}
        self.queued: dict[int, SimJob] = {}

    def guid(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def create(
        self,
        repository: Repository,
        workflow: Workflow,
        *,
        event: str,
        branch: str,
        sha: str,
        actor: str,
        title: str,
        payload: Mapping[str, Any],
        inputs: Mapping[str, Any],
    ) -> Run:
        """Start a run of the workflow."""
        now = self._clock.now()
        number = repository.run_numbers.get(workflow.path, 0) + 1
        repository.run_numbers[workflow.path] = number
        run = Run(
            id=FIRST_RUN + len(self.runs),
            repository=repository,
            workflow=workflow,
            workflow_id=repository.id * 1000 + list(repository.files).index(workflow.path),
            number=number,
            event=event,
            payload=payload,
            inputs=inputs,
            branch=branch,
            sha=sha,
            actor=actor,
            title=title,
            check_suite_id=FIRST_RUN * 2 + len(self.runs),
            created_at=now,
            updated_at=now,
            started_at=now,
            groups={key: JobGroup(definition) for key, definition in workflow.jobs.items()},
        )
        self.runs[run.id] = run
        repository.runs.append(run.id)
        self.touch(run)
        if workflow.run_name is not None:
            run.title = expressions.to_text(expressions.expand(workflow.run_name, _run_context(run)))
        if not self._held_back(run):
            self._advance(run)
        return run

    def find_run(self, run_id: int) -> Run:
        run = self.runs.get(run_id)
        if run is None:
            raise NotThere(f"no run {run_id}")
        return run

    def find_job(self, job_id: int) -> SimJob:
        job = self.jobs.get(job_id)
        if job is None:
            raise NotThere(f"no job {job_id}")
        return job

    def present_jobs(self, run: Run) -> list[SimJob]:
        """The jobs of the run's latest attempt."""
        return [self.jobs[job_id] for group in run.groups.values() for job_id in group.jobs]

    # A job's life

    def requeue(self, job: SimJob) -> None:
        """A job that nobody took is offered again."""
        job.assignment = None
        self.queued[job.id] = job
        self._on_job("requeued", job)

    def start(self, job: SimJob) -> None:
        """A runner has taken the job; its fields that name the runner are set already."""
        now = self._clock.now()
        self.queued.pop(job.id, None)
        job.status, job.started_at = "in_progress", now
        if job.run.status != "in_progress":
            job.run.status = "in_progress"
        self.touch(job.run)
        self._on_job("in_progress", job)

    def finish(self, job: SimJob, conclusion: str) -> None:
        """The job is over, however it came to that; what it held back goes on."""
        self.queued.pop(job.id, None)
        now = self._clock.now()
        job.status, job.conclusion, job.completed_at = "completed", conclusion, now
        job.started_at = job.started_at if job.started_at is not None else now
        job.locked_until = None
        self.touch(job.run)
        self._on_job("completed", job)
        job.assignment = None
        if job.run_attempt == job.run.attempt:
            self._fail_fast(job)
            self._advance(job.run)

    def _fail_fast(self, job: SimJob) -> None:
        group = job.run.groups[job.key]
        fail_fast = group.definition.fail_fast
        if isinstance(fail_fast, str):
            fail_fast = expressions.expand(fail_fast, progress.context(job.run, job.key))
        if job.conclusion != "failure" or not expressions.truth(fail_fast) or progress.tolerated(job):
            return
        group.combinations = group.combinations[: len(group.jobs)]
        for sibling in [self.jobs[each] for each in group.jobs]:
            self.cancel_job(sibling)

    def approve(self, run: Run) -> None:
        """Somebody lets the run's waiting jobs go on."""
        for job in self.present_jobs(run):
            if job.status == "waiting":
                job.status, job.queued_at = "queued", self._clock.now()
                run.status = "queued" if run.status == "waiting" else run.status
                self.queued[job.id] = job
                self.touch(run)
                self._on_job("queued", job)

    # Cancelling

    def cancel_job(self, job: SimJob) -> None:
        """A waiting job ends now; a running one's runner is told, and says when it is over."""
        if job.status == "in_progress":
            if not job.cancel_requested:
                job.cancel_requested = True
                self._on_job("cancel_requested", job)
        elif job.status != "completed":
            self.finish(job, "cancelled")

    def cancel(self, run: Run, *, force: bool = False) -> None:
        """Cancel a run; ``force`` does not wait for runners. Refused (409 on GitHub) when it is over."""
        if run.status == "completed":
            raise Conflict("Cannot cancel a workflow run that is completed.")
        run.cancelled = True
        if run.status == "pending":
            for group in run.groups.values():
                group.expanded, group.result = True, "cancelled"
        for group in run.groups.values():
            group.combinations = group.combinations[: len(group.jobs)]
        for job in self.present_jobs(run):
            if force and job.status == "in_progress":
                self.finish(job, "cancelled")
            else:
                self.cancel_job(job)
        self.touch(run)
        self._advance(run)

    # Running again

    def rerun(self, run: Run, keys: Sequence[str]) -> None:
        """A new attempt: the keys' jobs and all that need them run again, the others are carried over as they ended."""
        if run.status != "completed":
            raise Denied("This workflow is already running")
        again = {key for key in run.groups if key in keys or set(keys) & set(run.workflow.ancestors(key))}
        run.attempt += 1
        run.status, run.conclusion, run.cancelled = "queued", None, False
        run.started_at = self._clock.now()
        for key, group in list(run.groups.items()):
            run.groups[key] = JobGroup(group.definition) if key in again else self._carry(run, group)
        self.touch(run)
        self._advance(run)

    def _carry(self, run: Run, group: JobGroup) -> JobGroup:
        carried = dataclasses.replace(group, jobs=[])
        for old in (self.jobs[job_id] for job_id in group.jobs):
            job = dataclasses.replace(old, id=FIRST_JOB + len(self.jobs), guid=self.guid(), run_attempt=run.attempt)
            self.jobs[job.id] = job
            run.jobs.append(job.id)
            carried.jobs.append(job.id)
        return carried

    # Progress

    def _advance(self, run: Run) -> None:
        if run.status in ("completed", "pending") and not run.cancelled:
            return
        moved = True
        while moved:
            moved = False
            for key in progress.startable(run):
                self._start_group(run, key)
                moved = True
            for key, group in run.groups.items():
                moved = self._fill_group(run, key, group) or moved
        if all(group.result is not None for group in run.groups.values()) and run.status != "completed":
            run.status, run.conclusion = "completed", progress.conclusion(run)
            self.touch(run)
            self._release(run)

    def _start_group(self, run: Run, key: str) -> None:
        group = run.groups[key]
        group.expanded = True
        try:
            if progress.wanted(run, key):
                group.combinations = list(workflows.combinations(group.definition, progress.context(run, key)))
            else:
                self._make_job(run, key, {}, status="skipped")
        except WorkflowError as error:
            job = self._make_job(run, key, {}, status="failure")
            job.log = f"{error}\n"

    def _fill_group(self, run: Run, key: str, group: JobGroup) -> bool:
        """Make what ``max-parallel`` has room for; give the result when nothing is left to do."""
        if not group.expanded or group.result is not None:
            return False
        jobs = [self.jobs[job_id] for job_id in group.jobs]
        made = len(jobs)
        for combination in group.combinations[made : made + progress.room(group, jobs)]:
            try:
                self._make_job(run, key, combination)
            except WorkflowError as error:
                self._make_job(run, key, combination, status="failure").log = f"{error}\n"
        jobs = [self.jobs[job_id] for job_id in group.jobs]
        if len(jobs) < len(group.combinations) or any(job.status != "completed" for job in jobs):
            return len(jobs) > made
        for job in jobs:
            group.outputs.update({name: value for name, value in job.outputs.items() if value})
        group.result = progress.result(jobs)
        return True

    def _make_job(self, run: Run, key: str, matrix: Mapping[str, Any], status: str = "queued") -> SimJob:
        """A new job; a ``status`` other than queued is the conclusion of one that never runs."""
        group = run.groups[key]
        runs = status == "queued"
        found = progress.context(run, key, matrix)
        wanted = workflows.labels(group.definition, found) if runs else ()
        now = self._clock.now()
        job = SimJob(
            id=FIRST_JOB + len(self.jobs),
            guid=self.guid(),
            plan_id=self.guid(),
            run=run,
            run_attempt=run.attempt,
            key=key,
            name=workflows.display_name(group.definition, matrix, found) if runs else key,
            definition=group.definition,
            matrix=matrix,
            matrix_index=len(group.jobs),
            matrix_total=len(group.combinations),
            needs=progress.needs(run, key),
            labels=wanted,
            wanted=normalise(wanted),
            created_at=now,
            queued_at=now,
        )
        self.jobs[job.id] = job
        run.jobs.append(job.id)
        group.jobs.append(job.id)
        if runs and _environment(job) in run.repository.protected:
            job.status = "waiting"
            run.status = "waiting" if run.status == "queued" else run.status
        elif runs:
            self.queued[job.id] = job
        else:
            job.status, job.conclusion, job.started_at, job.completed_at = "completed", status, now, now
        self.touch(run)
        self._on_job(job.status, job)
        return job

    # Concurrency groups of whole workflows: one run goes, one waits, an older waiting one is cancelled

    def _held_back(self, run: Run) -> bool:
        wanted = run.workflow.concurrency
        if wanted is None:
            return False
        wanted = expressions.expand(wanted, _run_context(run))
        group, cancel = (
            (wanted.get("group"), wanted.get("cancel-in-progress")) if isinstance(wanted, Mapping) else (wanted, 0)
        )
        run.concurrency = expressions.to_text(group).lower()
        rivals = [each for each in self._rivals(run) if each is not run]
        if not rivals:
            return False
        run.status = "pending"
        for rival in rivals:
            if rival.status == "pending" or expressions.truth(cancel):
                self.cancel(rival)
        return run.status == "pending"

    def _release(self, run: Run) -> None:
        if run.concurrency is None:
            return
        rivals = self._rivals(run)
        if rivals and all(rival.status == "pending" for rival in rivals):
            rivals[0].status = "queued"
            self._advance(rivals[0])

    def _rivals(self, run: Run) -> list[Run]:
        others = (self.runs[run_id] for run_id in run.repository.runs)
        return [each for each in others if each.concurrency == run.concurrency and each.status != "completed"]

    def touch(self, run: Run) -> None:
        """Something that a listing shows of the run, or of its jobs, has changed."""
        run.updated_at = self._clock.now()
        run.version += 1
        run.repository.version += 1
        if run.status == "completed":
            run.repository.open_runs.pop(run.id, None)
        else:
            run.repository.open_runs[run.id] = run


def _environment(job: SimJob) -> str | None:
    """The deployment environment that a job names."""
    named = job.definition.body.get("environment")
    named = named.get("name") if isinstance(named, Mapping) else named
    return named if isinstance(named, str) else None


def _run_context(run: Run) -> dict[str, Any]:
    return {"github": progress.github_context(run), "inputs": run.inputs, "vars": run.repository.variables}
