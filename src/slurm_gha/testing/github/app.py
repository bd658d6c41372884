"""The simulated GitHub as one ASGI application: REST, the runner's protocol, and control routes for other processes."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github import render
from slurm_gha.testing.github.door import Door
from slurm_gha.testing.github.errors import RefusedError, WorkflowError
from slurm_gha.testing.github.faults import Faults, FaultyApp
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.scalesets import wire
from slurm_gha.testing.github.scalesets.routes import routes as scale_set_routes
from slurm_gha.testing.github.state import GitHub

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    github: GitHub,
    *,
    faults: Faults | None = None,
    limits: Limits | None = None,
    extra_routes: Sequence[BaseRoute] = (),
    control_token: Secret | None = None,
    in_process: bool = True,
) -> Starlette:
    """The whole service. REST answers at the root and at ``/api/v3``.

    ``extra_routes`` come first (the runner's protocol). ``control_token`` opens ``/_sim/``; without one it stays shut.
    ``in_process`` False is for a real server: see :class:`~slurm_gha.testing.github.faults.FaultyApp`.
    """
    limits = limits or Limits(github.clock)
    faults = faults or Faults(github.clock)
    door = Door(github, limits, faults)

    async def log(request: Request) -> Response:
        try:
            text = door.rest.log_text(request.path_params["job_id"], request.query_params.get("key", ""))
        except RefusedError as refusal:
            return PlainTextResponse(str(refusal), refusal.status)
        return PlainTextResponse(text)

    application = Starlette(
        routes=[
            *extra_routes,
            Route("/_logs/{job_id:int}", log),
            *scale_set_routes(github),
            *control_routes(github, limits, control_token),
            Mount("/", app=door),
        ],
        middleware=[Middleware(FaultyApp, faults=faults, in_process=in_process)],
    )
    application.state.github = github
    application.state.limits = limits
    application.state.faults = faults
    return application


def control_routes(github: GitHub, limits: Limits, token: Secret | None) -> list[BaseRoute]:
    """Routes by which another process looks at the simulation and drives it; all want ``Authorization: Bearer``."""

    def guarded(act: Callable[[dict[str, Any]], Any]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if token is None or not hmac.compare_digest(given.encode(), token.reveal().encode()):
                return JSONResponse({"message": "not the control token"}, 401)
            try:
                body = json.loads(await request.body() or b"{}") if request.method == "POST" else {}
                return JSONResponse(act(body))
            except RefusedError as refusal:
                return JSONResponse({"message": str(refusal)}, refusal.status)
            except (WorkflowError, ValueError, KeyError, TypeError) as error:
                return JSONResponse({"message": f"{type(error).__name__}: {error}"}, 422)

        return endpoint

    def add_repository(body: dict[str, Any]) -> Any:
        return {"id": github.add_repository(body["full_name"], body["files"]).id}

    def add_token(body: dict[str, Any]) -> Any:
        github.add_token(body.pop("text"), **body)
        return {}

    def push(body: dict[str, Any]) -> Any:
        return {"runs": [run.id for run in github.push(body.pop("repository"), **body)]}

    def dispatch(body: dict[str, Any]) -> Any:
        return {"run": github.dispatch(body["repository"], body["workflow"], body.get("inputs")).id}

    def cancel(body: dict[str, Any]) -> Any:
        if "job_id" in body:
            github.cancel_job(body["job_id"])
        else:
            github.cancel_run(body["repository"], body["run_id"])
        return {}

    def rerun(body: dict[str, Any]) -> Any:
        github.rerun_job(body["job_id"])
        return {}

    def scale_sets(body: dict[str, Any]) -> Any:
        github.scale_sets.change(**body.get("behaviour", {}))
        if body.get("move"):
            github.scale_sets.move()
        return {}

    def add_app(body: dict[str, Any]) -> Any:
        app = github.apps.add(body.pop("slug"), body.pop("public_key"), **body)
        return {"id": app.id, "client_id": app.client_id}

    def install(body: dict[str, Any]) -> Any:
        return {"id": github.apps.install(body.pop("app"), body.pop("account"), **body).id}

    def suspend(body: dict[str, Any]) -> Any:
        github.apps.suspend(body["installation"], suspended=body.get("suspended", True))
        return {}

    return [
        Route("/_sim/counters", guarded(lambda _: counters(limits))),
        Route("/_sim/state", guarded(lambda _: picture(github))),
        Route("/_sim/repositories", guarded(add_repository), methods=["POST"]),
        Route("/_sim/tokens", guarded(add_token), methods=["POST"]),
        Route("/_sim/apps", guarded(add_app), methods=["POST"]),
        Route("/_sim/installations", guarded(install), methods=["POST"]),
        Route("/_sim/suspensions", guarded(suspend), methods=["POST"]),
        Route("/_sim/push", guarded(push), methods=["POST"]),
        Route("/_sim/dispatch", guarded(dispatch), methods=["POST"]),
        Route("/_sim/cancel", guarded(cancel), methods=["POST"]),
        Route("/_sim/rerun", guarded(rerun), methods=["POST"]),
        Route("/_sim/scale_sets", guarded(scale_sets), methods=["POST"]),
    ]


def counters(limits: Limits) -> dict[str, Any]:
    """Calls counted and uncounted, in all and by route and token's name."""
    total = limits.totals()
    return {
        "counted": total.counted,
        "uncounted": total.uncounted,
        "calls": [
            {"token": name, "route": route, "counted": count.counted, "uncounted": count.uncounted}
            for (name, route), count in sorted(limits.counters.items())
        ],
    }


def picture(github: GitHub) -> dict[str, Any]:
    """Runs, jobs and runners as REST would show them, the logs of jobs that are over, and runner scale sets."""
    github.tick()
    sets = github.scale_sets
    return {
        "now": github.clock.now(),
        "runs": [
            {
                "id": run.id,
                "repository": run.repository.full_name,
                "workflow": run.workflow.name,
                "status": run.status,
                "conclusion": run.conclusion,
            }
            for run in github.runs.values()
        ],
        "jobs": [
            {**render.job(github.url, job), "repository": job.repository.full_name, "key": job.key, "log": job.log}
            for job in github.jobs.values()
        ],
        "runners": [{**render.runner(runner), "scope": runner.scope} for runner in github.runners.values()],
        "scale_sets": wire.picture([(each, sets.statistics(each)) for each in sets.sets.values()]),
    }
