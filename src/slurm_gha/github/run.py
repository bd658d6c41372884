"""One workflow run, looked at by itself: two calls, where a whole repository takes six and more."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

from slurm_gha.domain.job import Job, Origin
from slurm_gha.github import parse, wire
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import Invalid, NotFound


async def read_run(client: GitHubClient, scope: str, repository: str, run_id: int) -> tuple[Job, ...]:
    """The run's queued and in-progress jobs with their origin; none where the run is gone. Raises GitHubError."""
    if not parse.is_repository(repository):
        raise Invalid(f"{wire.clean(repository)!r} is no repository (owner/name)")
    began = client.clock.now()
    path = f"/repos/{repository}/actions/runs/{int(run_id)}"
    reader = partial(parse.jobs, scope=scope, repository=repository, run_id=run_id, seen_at=began)
    try:
        origins = await client.items(path, origin)
        jobs = await client.items(f"{path}/jobs?{urlencode({'filter': 'latest', 'per_page': 100})}", reader)
    except NotFound:
        return ()
    found = {job.id: replace(job, origin=next(iter(origins), None)) for job in jobs}
    return tuple(found[number] for number in sorted(found))


def origin(value: Any) -> parse.Listing[Origin]:
    """What set the run going, from ``GET …/runs/{id}``."""
    if not isinstance(value, dict):
        return parse.Listing((), ("the run is no object",))
    return parse.Listing(
        (
            Origin(
                event=_text(value, "event"),
                branch=_text(value, "head_branch"),
                actor=_text(value.get("actor"), "login"),
                fork=_is_fork(value),
            ),
        )
    )


def _is_fork(run: dict[str, Any]) -> bool | None:
    """Whether its head lies in another repository. One that is gone was a fork: the run's own is still there."""
    if "head_repository" not in run or not isinstance(run.get("repository"), dict):
        return None
    head = run["head_repository"]
    here = run["repository"].get("id")
    if head is None:
        return True
    there = head.get("id") if isinstance(head, dict) else None
    return there != here if type(there) is int and type(here) is int else None


def _text(value: object, key: str) -> str | None:
    text = value.get(key) if isinstance(value, dict) else None
    return parse.sound(text) if isinstance(text, str) else None
