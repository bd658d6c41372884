"""Webhook deliveries in the journal: which were taken, and the furthest that each job was told to be."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.told import Told, rank
from slurm_gha.store.journal import Journal
from slurm_gha.store.rows import text

# GitHub keeps deliveries, and sends one again when asked, for three days; a day more for clocks and slow journeys.
KEPT = 4 * 86400.0
# How long after its end a job may still stand in a listing that was begun before (seconds).
COMPLETED_COUNTS = 900.0


class DeliveryBook:
    """One book of the journal's file. Times are seconds since the epoch. Raises JournalError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def take(self, guid: str, told: Told) -> bool | None:
        """Write a delivery down, on disk before this returns.

        True: the job was not known to be as far as this; False: it was, or further; None: the delivery has been
        taken before.
        """
        job = told.job
        with self._journal.together():
            if not self._journal.write("add_delivery", guid=text(guid), scope=job.scope, at=told.at):
                return None
            changed = self._journal.write(
                "add_told",
                job_id=job.id,
                scope=job.scope,
                job_rank=told.rank,
                at=told.at,
                late=told.late,
                job=_written(job),
            )
        return changed > 0

    def note(self, guid: str, scope: str, at: float) -> None:
        """A delivery that says nothing of a job of ours: it is not asked for again."""
        self._journal.write("add_delivery", guid=text(guid), scope=scope, at=at)

    def knows(self, guid: str) -> bool:
        """Whether the delivery was taken."""
        return bool(self._journal.select("known_delivery", guid=text(guid)))

    def last(self) -> dict[str, float]:
        """When the last delivery of each scope was taken."""
        return {row["scope"]: row["at"] for row in self._journal.select("last_deliveries")}

    def caught_up(self, whose: str) -> float | None:
        """Up to when GitHub's history of a scope's or an App's deliveries has been read, by GitHub's clock."""
        written = self._journal.meta(f"deliveries read of {whose}")
        return None if written is None else float(written)

    def set_caught_up(self, whose: str, at: float) -> None:
        """The history has been read up to then."""
        self._journal.set_meta(f"deliveries read of {whose}", repr(at))

    def told(self, now: float) -> list[Told]:
        """What still counts after a restart: what was told of jobs that have not ended, or only just."""
        rows = self._journal.select(
            "told_since", since=now - KEPT, completed=rank(JobStatus.COMPLETED), completed_since=now - COMPLETED_COUNTS
        )
        return [Told(_read(row["job"]), row["at"], bool(row["late"])) for row in rows]

    def prune(self, now: float) -> int:
        """Drop what GitHub will not send again; how many deliveries."""
        with self._journal.together():
            self._journal.write("prune_told", before=now - KEPT)
            return self._journal.write("prune_deliveries", before=now - KEPT)


def _written(job: Job) -> str:
    return json.dumps({**asdict(job), "labels": sorted(job.labels)})


def _read(written: str) -> Job:
    value: dict[str, Any] = json.loads(written)
    origin = value["origin"]
    return Job(
        **{
            **value,
            "labels": frozenset(value["labels"]),
            "status": JobStatus(value["status"]),
            "origin": None if origin is None else Origin(**origin),
        }
    )
