"""Events that start workflows: what each one carries, and the runs that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slurm_gha.testing.github import workflows
from slurm_gha.testing.github.accounts import workflow_files
from slurm_gha.testing.github.errors import NotThere, Unprocessable
from slurm_gha.testing.github.runs import Runs
from slurm_gha.testing.github.values import Repository, Run


def push(
    runs: Runs, repository: Repository, *, branch: str, actor: str, message: str, changed: Sequence[str]
) -> list[Run]:
    """A push of the repository's present commit, which changed some files."""
    payload = {
        "ref": f"refs/heads/{branch}",
        "after": repository.sha,
        "head_commit": {"id": repository.sha, "message": message},
    }
    return _start(runs, repository, "push", branch, actor, message, payload, changed=changed)


def pull_request(runs: Runs, repository: Repository, number: int, *, branch: str, action: str, fork: bool) -> list[Run]:
    """A pull request's event against the default branch."""
    head = {
        "ref": branch,
        "sha": repository.sha,
        "repo": {"fork": fork, "full_name": repository.full_name},
    }
    payload = {"action": action, "number": number, "pull_request": {"number": number, "head": head}}
    title = f"Pull request {number}"
    return _start(runs, repository, "pull_request", repository.default_branch, "octocat", title, payload, action=action)


def dispatch(runs: Runs, repository: Repository, workflow_path: str, inputs: Mapping[str, Any]) -> Run:
    """A workflow_dispatch of one workflow; inputs not given take their defaults."""
    if workflow_path not in repository.files:
        raise NotThere(f"{repository.full_name} has no {workflow_path}")
    workflow = workflows.parse(workflow_path, repository.files[workflow_path])
    if "workflow_dispatch" not in workflow.triggers:
        raise Unprocessable("Workflow does not have 'workflow_dispatch' trigger")
    declared = workflow.triggers["workflow_dispatch"].get("inputs") or {}
    if unknown := set(inputs) - set(declared):
        raise Unprocessable(f"Unexpected inputs provided: {sorted(unknown)}")
    values = {name: (body or {}).get("default", "") for name, body in declared.items()} | dict(inputs)
    return runs.create(
        repository,
        workflow,
        event="workflow_dispatch",
        branch=repository.default_branch,
        sha=repository.sha,
        actor="octocat",
        title=workflow.name,
        payload={"inputs": values},
        inputs=values,
    )


def _start(
    runs: Runs,
    repository: Repository,
    event: str,
    branch: str,
    actor: str,
    title: str,
    payload: Mapping[str, Any],
    *,
    changed: Sequence[str] = (),
    action: str | None = None,
) -> list[Run]:
    parsed = [workflows.parse(path, text) for path, text in workflow_files(repository.files).items()]
    return [
        runs.create(
            repository,
            workflow,
            event=event,
            branch=branch,
            sha=repository.sha,
            actor=actor,
            title=title,
            payload=payload,
            inputs={},
        )
        for workflow in parsed
        if workflows.triggered(workflow, event, branch, changed, action)
    ]
