"""Pages of the simulated GitHub for people: a repository's runs and their jobs, logs, and buttons to play with."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from slurm_gha.testing.github.accounts import workflow_files
from slurm_gha.testing.github.app import Endpoint
from slurm_gha.testing.github.errors import RefusedError, WorkflowError
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Repository, Run, SimJob

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
{refresh}<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; padding: .2em .8em .2em 0 }}
form {{ display: inline }} pre {{ background: #f4f4f4; padding: 1em; overflow: auto }}
.success {{ color: #177245 }} .failure {{ color: #b3261e }} .cancelled, .skipped {{ color: #777 }}
</style></head><body><h1>{title}</h1>"""
_REFRESH = '<meta http-equiv="refresh" content="3">\n'
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def routes(github: GitHub) -> Sequence[BaseRoute]:
    """Pages at the addresses that GitHub's ``html_url`` fields name."""
    actions = "/{owner}/{name}/actions"

    def repository(request: Request) -> Repository:
        return github.repository(f"{request.path_params['owner']}/{request.path_params['name']}")

    async def overview(request: Request) -> Response:
        github.tick()
        return HTMLResponse(_overview(github, repository(request)), headers=_HEADERS)

    async def log(request: Request) -> Response:
        job = github.find_job(request.path_params["job_id"])
        if job.repository is not repository(request):
            return PlainTextResponse("no such job here", 404)
        return HTMLResponse(_log(job), headers=_HEADERS)

    async def act(request: Request) -> Response:
        # Another site's page may not press our buttons; programs, which send no such header, may.
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("from this page only", 403)
        found = repository(request)
        form = request.query_params
        match form.get("do"):
            case "push":
                github.push(found.full_name, message="Pushed from the page")
            case "dispatch":
                github.dispatch(found.full_name, form.get("workflow", ""))
            case "cancel":
                github.cancel_run(found.full_name, int(form.get("run", "")))
            case _:
                return PlainTextResponse("push, dispatch or cancel", 400)
        return RedirectResponse(f"/{found.full_name}/actions", 303)

    return [
        Route(actions, _guarded(overview)),
        Route(actions, _guarded(act), methods=["POST"]),
        Route(f"{actions}/runs/{{run_id:int}}", _guarded(overview)),
        Route(f"{actions}/runs/{{run_id:int}}/job/{{job_id:int}}", _guarded(log)),
    ]


def _guarded(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with refusals as answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (RefusedError, WorkflowError, ValueError) as error:
            return PlainTextResponse(str(error), error.status if isinstance(error, RefusedError) else 400)

    return answer


def _overview(github: GitHub, repository: Repository) -> str:
    here = f"/{repository.full_name}/actions"
    parts = [_HEAD.format(title=escape(repository.full_name), refresh=_REFRESH)]
    parts.append(_button(f"{here}?do=push", "Push again"))
    for path, text in workflow_files(repository.files).items():
        if "workflow_dispatch" in text:
            parts.append(" " + _button(f"{here}?do=dispatch&workflow={path}", f"Run {path.rpartition('/')[2]}"))
    for run_id in reversed(repository.runs):
        parts.append(_run(github, github.runs[run_id], here))
    return "".join([*parts, "</body></html>"])


def _run(github: GitHub, run: Run, here: str) -> str:
    title = f"{escape(run.workflow.name)} #{run.number}: {_word(run.status, run.conclusion)}"
    button = "" if run.status == "completed" else " " + _button(f"{here}?do=cancel&run={run.id}", "Cancel")
    rows = "".join(_job(job, here) for job in github.present_jobs(run))
    heads = "".join(f"<th>{name}</th>" for name in ("job", "state", "labels", "runner"))
    return f"<h2>{title}{button}</h2><table><tr>{heads}</tr>{rows}</table>"


def _job(job: SimJob, here: str) -> str:
    link = f'<a href="{escape(here)}/runs/{job.run_id}/job/{job.id}">{escape(job.name)}</a>'
    labels, runner = escape(", ".join(job.labels)), escape(job.runner_name or "")
    return f"<tr><td>{link}</td><td>{_word(job.status, job.conclusion)}</td><td>{labels}</td><td>{runner}</td></tr>"


def _log(job: SimJob) -> str:
    head = _HEAD.format(title=escape(job.name), refresh="" if job.status == "completed" else _REFRESH)
    back = f'<p><a href="/{escape(job.repository.full_name)}/actions">all runs</a>: '
    steps = "".join(
        f"<li>{escape(str(step.get('name', '')))}: "
        f"{_word(str(step.get('status', '')), str(step.get('conclusion') or '') or None)}</li>"
        for step in list(job.steps)
    )
    log = escape(job.log) or "Nothing yet."
    return f"{head}{back}{_word(job.status, job.conclusion)}</p><ol>{steps}</ol><pre>{log}</pre></body></html>"


def _word(status: str, conclusion: str | None) -> str:
    word = escape(conclusion or status.replace("_", " "))
    return f'<span class="{word}">{word}</span>'


def _button(action: str, text: str) -> str:
    return f'<form method="post" action="{escape(action)}"><button>{escape(text)}</button></form>'
