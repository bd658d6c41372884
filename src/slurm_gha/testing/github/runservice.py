"""The run service: a runner takes its job, keeps its lease, and says how the job ended.

Source: actions/runner, ``src/Sdk/RSWebApi/RunServiceHttpClient.cs`` and ``src/Sdk/RSWebApi/Contracts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slurm_gha.testing.github import messages
from slurm_gha.testing.github.errors import NotThere
from slurm_gha.testing.github.oauth import Authority, UnauthorisedError
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob

# TaskResult by number and by word (src/Sdk/DTWebApi/WebApi/TaskResult.cs), as REST calls them.
_CONCLUSIONS = ("success", "success", "failure", "cancelled", "skipped", "failure")
_WORDS = ("succeeded", "succeededwithissues", "failed", "canceled", "skipped", "abandoned")


def conclusion(result: Any) -> str:
    """A TaskResult, in either of its forms, as REST's word; ValueError for anything else."""
    if isinstance(result, int) and not isinstance(result, bool) and 0 <= result < len(_CONCLUSIONS):
        return _CONCLUSIONS[result]
    try:
        return _CONCLUSIONS[_WORDS.index(str(result).lower())]
    except ValueError:
        raise ValueError(f"conclusion {result!r} is none of {', '.join(_WORDS)}") from None


class RunService:
    """The three calls of a job's life."""

    def __init__(self, github: GitHub, authority: Authority) -> None:
        self._github, self._authority = github, authority
        self._by_guid: dict[str, int] = {}

    async def acquire(self, request: Request) -> Response:
        """POST acquirejob: the whole job message; 404 when the job is not for this runner any longer."""
        runner = self._authority.runner(request)
        asked = await request.json()
        try:
            job = self._github.acquire(runner, str(asked.get("jobMessageId")))
        except NotThere as error:
            return run_service_error(404, str(error))
        self._by_guid[job.guid] = job.id
        assert job.locked_until is not None
        access, github = self._authority.token_for_job(job), self._authority.token_for_job(job, "github")
        return JSONResponse(messages.job_request(job, self._github.addresses, access, github, job.locked_until))

    async def renew(self, request: Request) -> Response:
        """POST renewjob: until when the job is now the runner's."""
        job = self._job(request, await request.json())
        return JSONResponse({"lockedUntil": messages.timestamp(self._github.renew(job.id))})

    async def complete(self, request: Request) -> Response:
        """POST completejob: conclusion, outputs and step results."""
        asked = await request.json()
        job = self._job(request, asked)
        outputs = {name: str((value or {}).get("value") or "") for name, value in (asked.get("outputs") or {}).items()}
        steps = [step_result(each) for each in asked.get("stepResults") or ()]
        self._github.complete(job.id, conclusion(asked.get("conclusion")), outputs, steps)
        return JSONResponse({})

    def _job(self, request: Request, asked: Mapping[str, Any]) -> SimJob:
        """The job that is spoken of; its own token speaks for it, and so does its runner's."""
        job = self._github.jobs.get(self._by_guid.get(str(asked.get("jobId")), 0))
        try:
            allowed = self._authority.job(request) is job
        except UnauthorisedError:
            allowed = job is not None and self._authority.runner(request).id == job.runner_id
        if job is None or not allowed or asked.get("planId") != job.plan_id:
            raise NotThere(f"job {asked.get('jobId')} of plan {asked.get('planId')} is not this runner's")
        return job


def step_result(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A StepResult as REST shows a step."""
    ended = given.get("conclusion") is not None
    return {
        "name": str(given.get("name") or ""),
        "status": "completed" if ended else "in_progress",
        "conclusion": conclusion(given["conclusion"]) if ended else None,
        "number": int(given.get("number") or 0),
        "started_at": given.get("started_at"),
        "completed_at": given.get("completed_at"),
    }


def run_service_error(status: int, text: str) -> Response:
    """A refusal in the run service's own form."""
    body = {"source": "actions-run-service", "statusCode": status, "errorMessage": text}
    return JSONResponse(body, status_code=status)
