"""What a run's jobs amount to: what may start, with what context, how it ends. Pure: reads, changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slurm_gha.testing.github import expressions
from slurm_gha.testing.github.expressions import Functions
from slurm_gha.testing.github.values import JobGroup, Run, SimJob


def startable(run: Run) -> list[str]:
    """The keys of jobs whose needs are all over, and that were neither made nor skipped yet."""
    return [
        key
        for key, group in run.groups.items()
        if not group.expanded and all(run.groups[need].result is not None for need in group.definition.needs)
    ]


def context(run: Run, key: str, matrix: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The contexts that job-level expressions may use."""
    found: dict[str, Any] = {
        "github": github_context(run),
        "needs": needs(run, key),
        "inputs": run.inputs,
        "vars": run.repository.variables,
    }
    if matrix is not None:
        found["matrix"] = matrix
        found["strategy"] = {"fail-fast": bool(run.groups[key].definition.fail_fast)}
    return found


def github_context(run: Run) -> dict[str, Any]:
    """The service's share of the ``github`` context; the runner adds what only it knows."""
    repository = run.repository
    return {
        "event_name": run.event,
        "event": run.payload,
        "ref": f"refs/heads/{run.branch}",
        "ref_name": run.branch,
        "ref_type": "branch",
        "sha": run.sha,
        "repository": repository.full_name,
        "repository_id": str(repository.id),
        "repository_owner": repository.owner.login,
        "repository_owner_id": str(repository.owner.id),
        "actor": run.actor,
        "triggering_actor": run.actor,
        "run_id": str(run.id),
        "run_number": str(run.number),
        "run_attempt": str(run.attempt),
        "workflow": run.workflow.name,
        "workflow_ref": f"{repository.full_name}/{run.workflow.path}@refs/heads/{run.branch}",
        "workflow_sha": run.sha,
        "head_ref": "",
        "base_ref": "",
    }


def needs(run: Run, key: str) -> dict[str, dict[str, Any]]:
    """The ``needs`` context of a job."""
    return {
        need: {"result": run.groups[need].result, "outputs": dict(run.groups[need].outputs)}
        for need in run.groups[key].definition.needs
    }


def functions(run: Run, key: str) -> Functions:
    """The status functions: they look at every job before this one, not only at the direct needs."""
    results = [run.groups[ancestor].result for ancestor in run.workflow.ancestors(key)]
    return {
        "always": lambda: True,
        "cancelled": lambda: run.cancelled,
        "success": lambda: not run.cancelled and all(result == "success" for result in results),
        "failure": lambda: not run.cancelled and any(result == "failure" for result in results),
    }


def wanted(run: Run, key: str) -> bool:
    """Whether a startable job starts: its ``if:``, or success() of all before it."""
    status = functions(run, key)
    text = run.groups[key].definition.condition
    return bool(status["success"]()) if text is None else expressions.condition(text, context(run, key), status)


def tolerated(job: SimJob) -> bool:
    """Whether ``continue-on-error`` of the job lets its failure pass."""
    value = job.definition.continue_on_error
    if isinstance(value, str):
        value = expressions.expand(value, {**context(job.run, job.key, job.matrix)})
    return expressions.truth(value)


def room(group: JobGroup, jobs: list[SimJob]) -> int:
    """How many more combinations may be made now, by ``max-parallel``."""
    limit = group.definition.max_parallel
    if not isinstance(limit, int | float) or limit <= 0:
        return len(group.combinations)
    return max(0, int(limit) - sum(job.status != "completed" for job in jobs))


def result(jobs: list[SimJob]) -> str:
    """A finished group's result, as ``needs.<key>.result`` shows it."""
    conclusions = ["success" if job.conclusion == "failure" and tolerated(job) else job.conclusion for job in jobs]
    for worst in ("failure", "cancelled", "skipped"):
        if worst in conclusions:
            return worst
    return "success"


def conclusion(run: Run) -> str:
    """A finished run's conclusion."""
    results = [group.result for group in run.groups.values()]
    if run.cancelled:
        return "cancelled"
    for worst in ("failure", "cancelled"):
        if worst in results:
            return worst
    return "skipped" if all(each == "skipped" for each in results) else "success"
