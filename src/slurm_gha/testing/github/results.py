"""The results service: where step results, summaries and logs go, and signed addresses to put them at.

Source: actions/runner, ``src/Sdk/WebApi/WebApi/ResultsHttpClient.cs`` and ``Contracts.cs`` (twirp, snake case).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slurm_gha.testing.github.errors import NotThere
from slurm_gha.testing.github.oauth import Authority
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob

BLOB_TYPE = "BLOB_STORAGE_TYPE_UNSPECIFIED"
SOFT_SIZE_LIMIT = 1024 * 1024
_STATUS = {0: "queued", 3: "in_progress", 5: "queued", 6: "completed"}
_CONCLUSION = {2: "success", 3: "failure", 4: "cancelled", 7: "skipped"}
# What a signed address is asked for, and the name of its field in the answer.
_SIGNED = {
    "GetJobLogsSignedBlobURL": ("job-log", "logs_url"),
    "GetStepLogsSignedBlobURL": ("step-log", "logs_url"),
    "GetStepSummarySignedBlobURL": ("summary", "summary_url"),
    "GetJobDiagLogsSignedBlobURL": ("diagnostics", "diag_logs_url"),
}
_METADATA = ("CreateJobLogsMetadata", "CreateStepLogsMetadata", "CreateStepSummaryMetadata")


class Results:
    """Blobs by name; a job's log becomes visible to REST once its metadata says that it is whole.

    ``summaries`` maps a job's id to what its steps wrote into GITHUB_STEP_SUMMARY, by step.
    """

    def __init__(self, github: GitHub, authority: Authority) -> None:
        self._github, self._authority = github, authority
        self._blobs: dict[str, bytes] = {}
        self.summaries: dict[int, dict[str, str]] = {}

    async def receiver(self, request: Request) -> Response:
        """POST of one of the receiver's methods."""
        method, asked = request.path_params["method"], await request.json()
        job = self._job(request, asked)
        step = str(asked.get("step_backend_id") or "job")
        if method in _SIGNED:
            kind, field = _SIGNED[method]
            name = f"{job.id}/{kind}/{step}"
            url = f"{self._github.addresses.results}blob/{name}?sig={self._authority.signature(name)}"
            return JSONResponse({field: url, "blob_storage_type": BLOB_TYPE, "soft_size_limit": str(SOFT_SIZE_LIMIT)})
        if method not in _METADATA:
            return JSONResponse({"code": "bad_route", "msg": f"no method {method}"}, status_code=404)
        if method == "CreateJobLogsMetadata":
            job.log = ""
            self._github.record(job.id, log=self._text(f"{job.id}/job-log/job"))
        elif method == "CreateStepSummaryMetadata":
            self.summaries.setdefault(job.id, {})[step] = self._text(f"{job.id}/summary/{step}")
        return JSONResponse({"ok": True})

    async def steps(self, request: Request) -> Response:
        """POST WorkflowStepsUpdate: the steps so far, which a REST reader sees while the job runs."""
        asked = await request.json()
        job = self._job(request, asked)
        if job.status == "in_progress":
            known = {step["number"]: step for step in job.steps}
            known.update({int(step.get("number") or 0): _step(step) for step in asked.get("steps") or ()})
            self._github.record(job.id, steps=[known[number] for number in sorted(known)])
        return JSONResponse({"ok": True})

    async def blob(self, request: Request) -> Response:
        """PUT at a signed address; ``comp=appendblock`` adds to what is there."""
        name = request.path_params["name"]
        if request.query_params.get("sig") != self._authority.signature(name):
            return Response("the address is not signed by us", status_code=403)
        body = await request.body()
        append = request.query_params.get("comp") == "appendblock"
        self._blobs[name] = self._blobs.get(name, b"") + body if append else body
        return Response(status_code=201)

    def _text(self, name: str) -> str:
        """A blob's text, which is not wanted a second time."""
        return self._blobs.pop(name, b"").decode(errors="replace").removeprefix("\ufeff")

    def _job(self, request: Request, asked: Mapping[str, Any]) -> SimJob:
        job = self._authority.job(request)
        if asked.get("workflow_job_run_backend_id") != job.guid or asked.get("workflow_run_backend_id") != job.plan_id:
            raise NotThere("the token is another job's")
        return job


def _step(given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "name": str(given.get("name") or ""),
        "status": _STATUS.get(int(given.get("status") or 0), "queued"),
        "conclusion": _CONCLUSION.get(int(given.get("conclusion") or 0)),
        "number": int(given.get("number") or 0),
        "started_at": given.get("started_at"),
        "completed_at": given.get("completed_at"),
    }
