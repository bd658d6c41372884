"""What must hold at every moment, whatever fails: the design's promises, watched from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import name_prefix
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.testing.github.state import GitHub


@dataclass(slots=True)
class Watch:
    """Collects violations, as sentences with their time. Foreign Slurm jobs and registrations must never change."""

    policy: Policy
    github: GitHub
    foreign_runners: frozenset[int] = frozenset()
    violations: list[str] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)

    def submitted(self, at: float, slurm_id: int, name: str) -> None:
        """A Slurm job was really submitted: its name is new."""
        if self._names.setdefault(name, slurm_id) != slurm_id:
            self._broken(at, f"{name} was submitted twice: Slurm jobs {self._names[name]} and {slurm_id}")

    def cancelling(self, at: float, job: SlurmJob | None) -> None:
        """The service cancels a Slurm job: it is ours, and its runner has no job."""
        if job is None or job.stage is SlurmStage.ENDED:
            return
        if not job.name.startswith(name_prefix(self.policy.installation)):
            self._broken(at, f"Slurm job {job.id} {job.name} is not ours and was cancelled")
        for runner in self.github.runners.values():
            if runner.name == job.name and runner.busy:
                self._broken(at, f"{job.name} was cancelled while it had job {runner.job_id}")

    def look(self, at: float, jobs: Sequence[SlurmJob]) -> None:
        """Limits hold, and what is not ours is still there."""
        live = Counter(
            pool.name
            for job in jobs
            if job.stage is not SlurmStage.ENDED
            for pool in self.policy.pools
            if job.name.startswith(f"{name_prefix(self.policy.installation)}{pool.name}-")
        )
        for pool in self.policy.pools:
            if live[pool.name] > pool.max_runners:
                self._broken(at, f"pool {pool.name} has {live[pool.name]} Slurm jobs, more than {pool.max_runners}")
        if live.total() > self.policy.max_runners:
            self._broken(at, f"{live.total()} Slurm jobs, more than {self.policy.max_runners}")
        for runner_id in self.foreign_runners - self.github.runners.keys():
            self._broken(at, f"registration {runner_id} is not ours and was removed")

    def at_rest(self, at: float, jobs: Sequence[SlurmJob], open_records: int) -> None:
        """After the quiet hours nothing is left, and every job has come to an end."""
        prefix = name_prefix(self.policy.installation)
        for job in jobs:
            if job.name.startswith(prefix) and job.stage is not SlurmStage.ENDED:
                self._broken(at, f"Slurm job {job.id} {job.name} is left ({job.state})")
        for runner in self.github.runners.values():
            if runner.name.startswith(prefix):
                self._broken(at, f"registration {runner.name} is left")
        for workflow_job in self.github.jobs.values():
            if workflow_job.status != "completed":
                self._broken(at, f"job {workflow_job.id} {workflow_job.name} is {workflow_job.status}")
            elif workflow_job.conclusion not in ("success", "failure", "cancelled", "skipped"):
                self._broken(at, f"job {workflow_job.id} ended {workflow_job.conclusion}")
        if open_records:
            self._broken(at, f"{open_records} records are still open")

    def _broken(self, at: float, what: str) -> None:
        self.violations.append(f"{at:.0f}: {what}")
