"""The doors of the runner's own protocol: sign-in, broker, run service, results, and the repository's files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slurm_gha.testing.github.archive import tarball
from slurm_gha.testing.github.broker import POLL_SECONDS, Broker
from slurm_gha.testing.github.errors import NotThere, RefusedError
from slurm_gha.testing.github.oauth import Authority, UnauthorisedError
from slurm_gha.testing.github.results import Results
from slurm_gha.testing.github.runservice import RunService
from slurm_gha.testing.github.state import GitHub

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(
    github: GitHub, *, poll_seconds: float = POLL_SECONDS, minimum_runner_version: str | None = None
) -> list[Route]:
    """All routes a runner needs, at ``github.addresses``; an older runner than the minimum is refused as deprecated."""
    authority = Authority(github)
    broker = Broker(github, authority, poll_seconds=poll_seconds, minimum_version=minimum_runner_version)
    run_service, results = RunService(github, authority), Results(github, authority)

    async def archive(request: Request) -> Response:
        """The files of the repository whose job asks, and of public ones."""
        job = authority.job(request, "github")
        wanted = github.repository("{owner}/{name}".format(**request.path_params))
        if wanted is not job.repository and wanted.private:
            raise NotThere("Not Found")
        sha = job.run.sha if wanted is job.repository else wanted.sha
        return Response(tarball(wanted, sha), media_type="application/x-gzip")

    receiver = "/_runner/results/twirp/results.services.receiver.Receiver/{method}"
    steps = "/_runner/results/twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate"
    return [
        Route("/_runner/oauth/token", _guarded(authority.token), methods=["POST"]),
        Route("/_runner/broker/session", _guarded(broker.session), methods=["POST", "DELETE"]),
        Route("/_runner/broker/message", _guarded(broker.message), methods=["GET"]),
        Route("/_runner/broker/acknowledge", _guarded(broker.acknowledge), methods=["POST"]),
        Route("/_runner/run/acquirejob", _guarded(run_service.acquire), methods=["POST"]),
        Route("/_runner/run/renewjob", _guarded(run_service.renew), methods=["POST"]),
        Route("/_runner/run/completejob", _guarded(run_service.complete), methods=["POST"]),
        Route(steps, _guarded(results.steps), methods=["POST"]),
        Route(receiver, _guarded(results.receiver), methods=["POST"]),
        Route("/_runner/results/blob/{name:path}", _guarded(results.blob), methods=["PUT"]),
        Route("/repos/{owner}/{name}/tarball/{ref:path}", _guarded(archive), methods=["GET"]),
    ]


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Refusals as the answers a runner understands."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except UnauthorisedError as error:
            return JSONResponse({"message": str(error)}, status_code=401)
        except RefusedError as error:
            return JSONResponse({"message": str(error), "statusCode": error.status}, status_code=error.status)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to hear it
        except ValueError as error:
            return JSONResponse({"message": f"malformed request: {error}"}, status_code=400)

    return guarded
