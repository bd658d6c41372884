"""Scale sets in the journal: what messages mean is here before they are acknowledged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager

from slurm_gha.domain.scaleset import AssignedJob, Place, ScaleSet
from slurm_gha.store.journal import Journal
from slurm_gha.store.rows import optional_text, text


class ScaleSetStore:
    """Every method raises JournalError when the file fails it. Times are seconds since the epoch."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def together(self) -> AbstractContextManager[None]:
        """Several writes as one: all of them are on disk at its end, or none. Never await inside."""
        return self._journal.together()

    def scale_sets(self) -> Mapping[Place, ScaleSet]:
        """The scale sets as they were last seen."""
        return {_place(row): _scale_set(row) for row in self._journal.select("scale_sets")}

    def sessions(self) -> Mapping[Place, str]:
        """The ids of the sessions that were open last."""
        rows = self._journal.select("scale_sets")
        return {_place(row): row["session_id"] for row in rows if row["session_id"] is not None}

    def set_scale_set(self, place: Place, scale_set: ScaleSet) -> None:
        """Keep a scale set; the session of another one is forgotten."""
        self._journal.write(
            "set_scale_set",
            scope=place.scope,
            pool=place.pool,
            id=scale_set.id,
            name=text(scale_set.name),
            group_id=scale_set.group_id,
            labels=_labels(scale_set.labels),
        )

    def set_session(self, place: Place, session_id: str | None) -> None:
        """Keep a session's id, by which a service that was killed takes it up again; None: it is over."""
        self._journal.write("set_scale_set_session", scope=place.scope, pool=place.pool, session_id=session_id)

    def forget(self, place: Place) -> None:
        """A scale set is gone, and with it its jobs."""
        with self.together():
            self._journal.write("forget_scale_set", scope=place.scope, pool=place.pool)
            self.forget_jobs(place)

    def jobs(self) -> Mapping[Place, Mapping[str, AssignedJob]]:
        """The unfinished jobs by place and id, oldest first."""
        found: dict[Place, dict[str, AssignedJob]] = {}
        for row in self._journal.select("scale_set_jobs"):
            found.setdefault(_place(row), {})[row["job_id"]] = _job(row)
        return found

    def set_job(self, place: Place, job: AssignedJob) -> None:
        """Keep what is known of a job."""
        self._journal.write(
            "set_scale_set_job",
            scope=place.scope,
            pool=place.pool,
            job_id=text(job.job_id),
            repository=text(job.repository),
            name=text(job.name),
            workflow_ref=text(job.workflow_ref),
            run_id=job.run_id,
            event=optional_text(job.event),
            labels=_labels(job.labels),
            queued_at=job.queued_at,
            started_at=job.started_at,
            runner_name=optional_text(job.runner_name),
        )

    def forget_job(self, place: Place, job_id: str) -> None:
        """A job is completed."""
        self._journal.write("forget_scale_set_job", scope=place.scope, pool=place.pool, job_id=text(job_id))

    def forget_jobs(self, place: Place) -> None:
        """None of the place's jobs is unfinished any more."""
        self._journal.write("forget_scale_set_jobs", scope=place.scope, pool=place.pool)

    def busy(self, name: str, at: float) -> None:
        """A runner is known to have a job."""
        self._journal.busy(name, at)

    def done(self, name: str, at: float) -> None:
        """A runner's job was called completed; without effect for a runner that is not ours."""
        self._journal.write("scale_set_done", name=text(name), at=at)

    def done_names(self) -> set[str]:
        """The open runners whose job was called completed."""
        return {row["name"] for row in self._journal.select("scale_set_done_names")}


def _place(row: sqlite3.Row) -> Place:
    return Place(row["scope"], row["pool"])


def _labels(labels: frozenset[str]) -> str:
    return json.dumps(sorted(text(label) for label in labels))


def _scale_set(row: sqlite3.Row) -> ScaleSet:
    return ScaleSet(row["id"], row["name"], row["group_id"], frozenset(json.loads(row["labels"])))


def _job(row: sqlite3.Row) -> AssignedJob:
    return AssignedJob(
        job_id=row["job_id"],
        repository=row["repository"],
        name=row["name"],
        workflow_ref=row["workflow_ref"],
        run_id=row["run_id"],
        event=row["event"],
        labels=frozenset(json.loads(row["labels"])),
        queued_at=row["queued_at"],
        started_at=row["started_at"],
        runner_name=row["runner_name"],
    )
