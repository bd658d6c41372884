"""The simulated GitHub's records as REST shows them: whole enough for GitHub's own OpenAPI description.

Bodies are made of plain values; addresses in them are built from the service's own.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from slurm_gha.testing.github.values import Organisation, Repository, Run, SimJob, SimRunner, Token

READ_ONLY_LABELS = frozenset({"self-hosted", "linux", "windows", "macos", "x64", "arm", "arm64"})
DOCUMENTATION = "https://docs.github.com/rest"

_USER_LINKS = (
    "followers",
    "following{/other_user}",
    "gists{/gist_id}",
    "starred{/owner}{/repo}",
    "subscriptions",
    "orgs",
    "repos",
    "events{/privacy}",
    "received_events",
)
_USER_LINK_NAMES = {"orgs": "organizations"}
_REPOSITORY_LINKS = {
    "archive": "{archive_format}{/ref}",
    "assignees": "assignees{/user}",
    "blobs": "git/blobs{/sha}",
    "branches": "branches{/branch}",
    "collaborators": "collaborators{/collaborator}",
    "comments": "comments{/number}",
    "commits": "commits{/sha}",
    "compare": "compare/{base}...{head}",
    "contents": "contents/{+path}",
    "contributors": "contributors",
    "deployments": "deployments",
    "downloads": "downloads",
    "events": "events",
    "forks": "forks",
    "git_commits": "git/commits{/sha}",
    "git_refs": "git/refs{/sha}",
    "git_tags": "git/tags{/sha}",
    "hooks": "hooks",
    "issue_comment": "issues/comments{/number}",
    "issue_events": "issues/events{/number}",
    "issues": "issues{/number}",
    "keys": "keys{/key_id}",
    "labels": "labels{/name}",
    "languages": "languages",
    "merges": "merges",
    "milestones": "milestones{/number}",
    "notifications": "notifications{?since,all,participating}",
    "pulls": "pulls{/number}",
    "releases": "releases{/id}",
    "stargazers": "stargazers",
    "statuses": "statuses/{sha}",
    "subscribers": "subscribers",
    "subscription": "subscription",
    "tags": "tags",
    "teams": "teams",
    "trees": "git/trees{/sha}",
}


@lru_cache(maxsize=4096)
def time(seconds: float | None) -> str | None:
    """Seconds since the epoch as GitHub writes times: whole seconds, UTC."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user(url: str, login: str, number: int, kind: str = "User") -> dict[str, Any]:
    """A simple user or organisation."""
    here = f"{url}/users/{login}"
    links = {_USER_LINK_NAMES.get(name := link.partition("{")[0], name): link for link in _USER_LINKS}
    return {
        "login": login,
        "id": number,
        "node_id": f"U_{number}",
        "avatar_url": f"{url}/avatars/{number}",
        "gravatar_id": "",
        "url": here,
        "html_url": f"{url}/{login}",
        **{f"{name}_url": f"{here}/{link}" for name, link in links.items()},
        "type": kind,
        "site_admin": False,
    }


def owner(url: str, account: Organisation) -> dict[str, Any]:
    return user(url, account.login, account.id, account.kind)


def token_user(url: str, token: Token, now: float) -> dict[str, Any]:
    """The user a token belongs to, as ``GET /user`` shows it."""
    return {
        **user(url, token.login, 583231),
        **dict.fromkeys(("bio", "company", "email", "hireable", "location", "name")),
        "blog": "",
        **dict.fromkeys(("followers", "following", "public_gists", "public_repos"), 0),
        "created_at": time(now),
        "updated_at": time(now),
    }


def minimal_repository(url: str, repository: Repository) -> dict[str, Any]:
    """A repository as listings and runs show it."""
    here = f"{url}/repos/{repository.full_name}"
    return {
        "id": repository.id,
        "node_id": f"R_{repository.id}",
        "name": repository.name,
        "full_name": repository.full_name,
        "private": repository.private,
        "owner": owner(url, repository.owner),
        "html_url": f"{url}/{repository.full_name}",
        "description": None,
        "fork": False,
        "url": here,
        **{f"{name}_url": f"{here}/{link}" for name, link in _REPOSITORY_LINKS.items()},
    }


def repository(url: str, found: Repository) -> dict[str, Any]:
    """A repository in full."""
    return {
        **minimal_repository(url, found),
        "archived": found.archived,
        "disabled": found.disabled,
        "default_branch": found.default_branch,
        "visibility": "private" if found.private else "public",
        "clone_url": f"{url}/{found.full_name}.git",
        "git_url": f"{url}/{found.full_name}.git",
        "ssh_url": f"git@github.test:{found.full_name}.git",
        "svn_url": f"{url}/{found.full_name}",
        "homepage": None,
        "language": None,
        "license": None,
        "mirror_url": None,
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_pages", "has_discussions"), False),
        **dict.fromkeys(("forks", "forks_count", "open_issues", "open_issues_count", "size"), 0),
        **dict.fromkeys(("stargazers_count", "watchers", "watchers_count", "network_count", "subscribers_count"), 0),
        "permissions": {"admin": True, "maintain": True, "push": True, "triage": True, "pull": True},
        "created_at": time(found.created_at),
        "updated_at": time(found.created_at),
        "pushed_at": time(found.pushed_at),
    }


def run(url: str, found: Run) -> dict[str, Any]:
    """A workflow run."""
    base = f"{url}/repos/{found.repository.full_name}"
    here = f"{base}/actions/runs/{found.id}"
    in_short = minimal_repository(url, found.repository)
    actor = user(url, found.actor, 583231)
    return {
        "id": found.id,
        "name": found.workflow.name,
        "node_id": f"WFR_{found.id}",
        "check_suite_id": found.check_suite_id,
        "check_suite_node_id": f"CS_{found.check_suite_id}",
        "head_branch": found.branch,
        "head_sha": found.sha,
        "path": found.workflow.path,
        "run_number": found.number,
        "run_attempt": found.attempt,
        "event": found.event,
        "display_title": found.title,
        "status": found.status,
        "conclusion": found.conclusion,
        "workflow_id": found.workflow_id,
        "url": here,
        "html_url": f"{url}/{found.repository.full_name}/actions/runs/{found.id}",
        "pull_requests": [],
        "created_at": time(found.created_at),
        "updated_at": time(found.updated_at),
        "run_started_at": time(found.started_at),
        "actor": actor,
        "triggering_actor": actor,
        "jobs_url": f"{here}/jobs",
        "logs_url": f"{here}/logs",
        "check_suite_url": f"{base}/check-suites/{found.check_suite_id}",
        "artifacts_url": f"{here}/artifacts",
        "cancel_url": f"{here}/cancel",
        "rerun_url": f"{here}/rerun",
        "previous_attempt_url": f"{here}/attempts/{found.attempt - 1}" if found.attempt > 1 else None,
        "workflow_url": f"{base}/actions/workflows/{found.workflow_id}",
        "head_commit": {
            "id": found.sha,
            "tree_id": found.sha,
            "message": found.title,
            "timestamp": time(found.created_at),
            "author": {"name": found.actor, "email": f"{found.actor}@github.test"},
            "committer": {"name": found.actor, "email": f"{found.actor}@github.test"},
        },
        "repository": in_short,
        "head_repository": _fork_of(in_short) if _is_of_fork(found) else in_short,
        "referenced_workflows": [],
    }


def _is_of_fork(found: Run) -> bool:
    return bool(found.payload.get("pull_request", {}).get("head", {}).get("repo", {}).get("fork"))


def _fork_of(repository: dict[str, Any]) -> dict[str, Any]:
    """Somebody's fork of a repository, in short."""
    return {**repository, "id": repository["id"] + 1_000_000_000, "fork": True}


def job(url: str, found: SimJob) -> dict[str, Any]:
    """A workflow job. ``started_at`` is never null, as on GitHub: before the start it is when the job was made."""
    base = f"{url}/repos/{found.repository.full_name}"
    return {
        "id": found.id,
        "run_id": found.run_id,
        "workflow_name": found.run.workflow.name,
        "head_branch": found.run.branch,
        "run_url": f"{base}/actions/runs/{found.run_id}",
        "run_attempt": found.run_attempt,
        "node_id": f"CR_{found.id}",
        "head_sha": found.run.sha,
        "url": f"{base}/actions/jobs/{found.id}",
        "html_url": f"{url}/{found.repository.full_name}/actions/runs/{found.run_id}/job/{found.id}",
        "status": found.status,
        "conclusion": found.conclusion,
        "created_at": time(found.created_at),
        "started_at": time(found.created_at if found.started_at is None else found.started_at),
        "completed_at": time(found.completed_at),
        "name": found.name,
        "steps": [step(each, number) for number, each in enumerate(found.steps, 1)],
        "check_run_url": f"{base}/check-runs/{found.id}",
        "labels": list(found.labels),
        "runner_id": found.runner_id,
        "runner_name": found.runner_name,
        "runner_group_id": found.runner_group_id,
        "runner_group_name": found.runner_group_name,
    }


def step(found: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A step as its runner reported it; times may be given as text or as seconds since the epoch."""

    def when(value: Any) -> Any:
        return time(value) if isinstance(value, int | float) else value

    return {
        "name": str(found.get("name", f"step {number}")),
        "status": found.get("status", "completed"),
        "conclusion": found.get("conclusion"),
        "number": int(found.get("number", number)),
        "started_at": when(found.get("started_at")),
        "completed_at": when(found.get("completed_at")),
    }


def runner(found: SimRunner) -> dict[str, Any]:
    """A self-hosted runner."""
    return {
        "id": found.id,
        "runner_group_id": found.group_id,
        "name": found.name,
        "os": "linux" if found.ever_online else "unknown",
        "status": "online" if found.online else "offline",
        "busy": found.busy,
        "ephemeral": found.ephemeral,
        "labels": [
            {"id": number, "name": label, "type": "read-only" if label.lower() in READ_ONLY_LABELS else "custom"}
            for number, label in enumerate(found.labels, 1)
        ],
    }


def error(status: int, message: str) -> dict[str, Any]:
    return {"message": message, "documentation_url": DOCUMENTATION, "status": str(status)}
