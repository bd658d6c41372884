"""The doors of the scale-set service. Nothing here is a REST call: none counts against REST's limits.

Sources: actions/scaleset, ``client.go`` and ``session_client.go``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slurm_gha.testing.github import render
from slurm_gha.testing.github.errors import RefusedError, Unprocessable
from slurm_gha.testing.github.longpoll import until_hung_up
from slurm_gha.testing.github.oauth import UnauthorisedError
from slurm_gha.testing.github.scalesets import asking, wire
from slurm_gha.testing.github.scalesets.errors import COMMON, TASKS, ServiceError, malformed, no_session
from slurm_gha.testing.github.scalesets.registration import SERVICE, Registration
from slurm_gha.testing.github.scalesets.values import QueueSession, ScaleSet
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimRunner

CAPACITY_HEADER = "x-scalesetmaxcapacity"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Endpoint = Callable[[Request], Awaitable[Response]]


def routes(github: GitHub) -> list[Route]:
    """All routes of the service, and the one that leads to it."""
    service = Service(github)
    base = f"{SERVICE}/{{tenant}}/_apis"
    sets, agents = f"{base}/runtime/runnerscalesets", f"{base}/distributedtask/pools/0/agents"
    one, sessions = f"{sets}/{{id:int}}", f"{sets}/{{id:int}}/sessions"
    table: list[tuple[str, str, Endpoint]] = [
        ("GET", sets, service.find),
        ("POST", sets, service.create),
        ("GET", one, service.get),
        ("PATCH", one, service.update),
        ("DELETE", one, service.delete),
        ("POST", sessions, service.open_session),
        ("PATCH", f"{sessions}/{{session}}", service.refresh_session),
        ("DELETE", f"{sessions}/{{session}}", service.delete_session),
        ("GET", f"{one}/messages", service.poll),
        ("DELETE", f"{one}/messages/{{message:int}}", service.acknowledge),
        ("POST", f"{one}/acquirejobs", service.acquire),
        ("POST", f"{one}/generatejitconfig", service.generate),
        ("GET", f"{base}/runtime/runnergroups", service.groups),
        ("GET", f"{base}/runtime/runnergroups/", service.groups),
        ("GET", agents, service.agents),
        ("GET", f"{agents}/{{agent:int}}", service.agent),
        ("DELETE", f"{agents}/{{agent:int}}", service.remove_agent),
    ]
    return [
        *(
            Route(f"{prefix}/actions/runner-registration", service.register, methods=["POST"])
            for prefix in ("", "/api/v3")
        ),
        *(Route(path, service.guarded(endpoint), methods=[method]) for method, path, endpoint in table),
    ]


class Service:
    """The calls over one GitHub."""

    def __init__(self, github: GitHub) -> None:
        self._github, self._sets = github, github.scale_sets
        self._registration = Registration(github)
        self._answers = 0

    async def register(self, request: Request) -> Response:
        """POST: the service's URL and an admin token, for a registration token."""
        try:
            asked = await asking.body(request)
            if asked.get("runner_event") != "register" or not isinstance(asked.get("url"), str):
                raise Unprocessable("url and runner_event (register) are needed")
            found = self._registration.register(request.headers.get("authorization", ""), asked["url"])
        except UnauthorisedError as error:
            return JSONResponse(render.error(401, str(error)), 401)
        except RefusedError as error:
            return JSONResponse(render.error(error.status, str(error)), error.status)
        return JSONResponse(found)

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """Refusals in the service's own form; the ids that clients are to log."""

        async def guarded(request: Request) -> Response:
            try:
                asking.check_version(request)
                answer = await endpoint(request)
            except UnauthorisedError as error:
                answer = self._refusal(ServiceError(401, "VssUnauthorizedException", str(error), space=COMMON))
            except ServiceError as error:
                answer = self._refusal(error)
            except RefusedError as error:
                answer = self._refusal(ServiceError(error.status, "VssServiceException", str(error), space=COMMON))
            except ClientDisconnect:
                answer = Response(status_code=499)  # nobody is there to hear it
            answer.headers["ActivityId"] = self._sets.guid()
            answer.headers["X-GitHub-Request-Id"] = f"{self._answers & 0xFFFF:04X}:5CA1:{self._answers:08X}"
            return answer

        return guarded

    def _refusal(self, error: ServiceError) -> Response:
        if error.plain:
            return Response(str(error), error.status, media_type="text/plain")
        body = {
            "$id": "1",
            "typeName": f"{error.space}.{error.kind}, {error.space}",
            "typeKey": error.kind,
            "message": str(error),
            "errorCode": 0,
        }
        return self._answer(body, error.status)

    def _answer(self, body: Any, status: int = 200) -> Response:
        self._answers += 1
        text = json.dumps(body).encode()
        if self._sets.behaviour.byte_order_mark and self._answers % 2:
            text = BYTE_ORDER_MARK + text
        return Response(text, status, media_type="application/json")

    # Scale sets

    async def find(self, request: Request) -> Response:
        scope, query = self._registration.admin(request), request.query_params
        self._github.tick()
        found = [
            each
            for each in self._sets.in_scope(scope)
            if query.get("name", each.name).lower() == each.name.lower()
            and query.get("runnerGroupId", str(each.group_id)) == str(each.group_id)
        ]
        return self._answer(wire.counted(self._shown(each, request) for each in found))

    async def create(self, request: Request) -> Response:
        scope, asked = self._registration.admin(request), await asking.body(request)
        found = self._sets.create(
            scope,
            asking.text(asked, "name") or "",
            group_id=asking.number(asked, "runnerGroupId") or wire.DEFAULT_GROUP,
            labels=asking.labels(asked) or (),
            disable_update=asking.disable_update(asked) or False,
        )
        return self._answer(self._shown(found, request))

    async def get(self, request: Request) -> Response:
        return self._answer(self._shown(self._scale_set(request), request))

    async def update(self, request: Request) -> Response:
        found, asked = self._scale_set(request), await asking.body(request)
        self._sets.update(
            found,
            name=asking.text(asked, "name"),
            group_id=asking.number(asked, "runnerGroupId"),
            labels=asking.labels(asked),
            disable_update=asking.disable_update(asked),
        )
        return self._answer(self._shown(found, request))

    async def delete(self, request: Request) -> Response:
        self._sets.remove(self._scale_set(request))
        return Response(status_code=204)

    async def groups(self, request: Request) -> Response:
        owner = self._github.scope_owner(self._registration.admin(request))
        return self._answer(wire.groups(owner, request.query_params.get("groupName", "")))

    def _scale_set(self, request: Request) -> ScaleSet:
        self._github.tick()
        return self._sets.find(self._registration.admin(request), request.path_params["id"])

    def _shown(self, found: ScaleSet, request: Request) -> dict[str, Any]:
        service = self._registration.service(request.path_params["tenant"])
        return wire.scale_set(found, self._sets.statistics(found), service)

    # Sessions and the queue

    async def open_session(self, request: Request) -> Response:
        found, asked = self._scale_set(request), await asking.body(request)
        owner_name = asking.text(asked, "ownerName")
        if not owner_name:
            raise malformed("The session needs an ownerName.")
        return self._session_answer(self._sets.sessions.open(found, owner_name, request.path_params["tenant"]))

    async def refresh_session(self, request: Request) -> Response:
        session = self._sets.sessions.find(request.path_params["session"], self._scale_set(request))
        session.refreshed += 1
        session.tenant = request.path_params["tenant"]
        return self._session_answer(session)

    async def delete_session(self, request: Request) -> Response:
        self._sets.sessions.close(self._sets.sessions.find(request.path_params["session"], self._scale_set(request)))
        return Response(status_code=204)

    def _session_answer(self, session: QueueSession) -> Response:
        numbers = self._sets.statistics(session.scale_set)
        service = self._registration.service(session.tenant)
        return self._answer(wire.session(session, numbers, service, self._registration.queue_token(session)))

    async def poll(self, request: Request) -> Response:
        """GET waits for a message; 202 without a body when there was none."""
        session, query = self._session(request), request.query_params
        if query.get("sessionId") != session.id:
            raise no_session(query.get("sessionId", ""))
        capacity, after = request.headers.get(CAPACITY_HEADER), query.get("lastMessageId", "0")
        if not re.fullmatch(r"\d{1,18}", after) or not re.fullmatch(r"\d{1,9}", capacity or "0"):
            raise malformed("lastMessageId and X-ScaleSetMaxCapacity are whole numbers, not below 0.")
        limit = None if capacity is None else int(capacity)
        message = await until_hung_up(
            request, lambda: self._sets.sessions.wait_for_message(session.id, capacity=limit, after=int(after))
        )
        if message is None:
            return Response(status_code=202)
        numbers, unknown = self._sets.statistics(session.scale_set), self._sets.behaviour.unknown_items
        return self._answer(wire.message(message, numbers, unknown=unknown))

    async def acknowledge(self, request: Request) -> Response:
        self._sets.sessions.acknowledge(self._session(request), request.path_params["message"])
        return Response(status_code=204)

    async def acquire(self, request: Request) -> Response:
        session, asked = self._session(request), await asking.content(request)
        if not isinstance(asked, list) or not all(isinstance(each, int) for each in asked):
            raise malformed("The request ids are a list of numbers.")
        return self._answer(wire.counted(self._sets.sessions.acquire(session, asked)))

    def _session(self, request: Request) -> QueueSession:
        """The session of the caller's queue token, which must be of the scale set in the path."""
        self._github.tick()
        session = self._sets.sessions.find(self._registration.session_id(request))
        if session.scale_set.id != request.path_params["id"]:
            raise no_session(session.id)
        return session

    # Runners

    async def generate(self, request: Request) -> Response:
        found, asked = self._scale_set(request), await asking.body(request)
        runner, configuration = self._sets.mint_runner(
            found, asking.text(asked, "name") or "", asking.text(asked, "workFolder") or "_work"
        )
        return self._answer({"runner": wire.runner(runner), "encodedJITConfig": configuration})

    async def agents(self, request: Request) -> Response:
        name = request.query_params.get("agentName", "").lower()
        found = self._github.runners_of(self._registration.admin(request))
        return self._answer(wire.counted(wire.runner(each) for each in found if name in ("", each.name.lower())))

    async def agent(self, request: Request) -> Response:
        runner, number = self._agent(request), request.path_params["agent"]
        if runner is None:
            raise ServiceError(404, "TaskAgentNotFoundException", f"Agent {number} does not exist.", space=TASKS)
        return self._answer(wire.runner(runner))

    async def remove_agent(self, request: Request) -> Response:
        """DELETE: 204 also when the runner is not there (any longer)."""
        runner = self._agent(request)
        if runner is None:
            return Response(status_code=204)
        if runner.busy:
            raise ServiceError(
                400, "TaskAgentJobStillRunningException", f"Runner {runner.name} is running a job.", space=TASKS
            )
        self._github.remove_runner(runner.id)
        return Response(status_code=204)

    def _agent(self, request: Request) -> SimRunner | None:
        scope = self._registration.admin(request)
        self._github.tick()
        runner = self._github.runners.get(request.path_params["agent"])
        return runner if runner is not None and runner.scope == scope else None
