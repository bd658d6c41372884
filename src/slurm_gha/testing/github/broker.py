"""The broker: a runner's session, and the long poll by which it hears of its job.

Source: actions/runner, ``src/Sdk/WebApi/WebApi/BrokerHttpClient.cs``, ``src/Sdk/RSWebApi/Contracts/BrokerError.cs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slurm_gha.testing.github import messages
from slurm_gha.testing.github.errors import NotThere
from slurm_gha.testing.github.longpoll import until_hung_up
from slurm_gha.testing.github.oauth import Authority
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Assignment, SimRunner

POLL_SECONDS = 50.0


class Broker:
    """``minimum_version``: older runners are refused as deprecated (None: none are)."""

    def __init__(
        self, github: GitHub, authority: Authority, *, poll_seconds: float, minimum_version: str | None = None
    ) -> None:
        self._github, self._authority = github, authority
        self._poll_seconds, self._minimum_version = poll_seconds, minimum_version
        self._number = 0

    async def session(self, request: Request) -> Response:
        """POST opens the runner's session (409 when one is open), DELETE closes it."""
        runner = self._authority.runner(request)
        if request.method == "DELETE":
            session_id = self._session_of(runner)
            if session_id is not None:
                self._github.close_session(session_id)
            return Response(status_code=204)
        asked: Mapping[str, Any] = await request.json()
        agent = asked.get("agent") or {}
        if agent.get("id") != runner.id or agent.get("name") != runner.name:
            return broker_error("RunnerNotFound", 404, f"agent {agent.get('id')} is not the runner that signed in")
        session_id = self._github.open_session(runner, version=str(agent.get("version", "")))
        return JSONResponse({**asked, "sessionId": session_id, "useFipsEncryption": False})

    async def message(self, request: Request) -> Response:
        """GET waits for news of the session; nothing (202, no body) after the poll's length."""
        runner = self._authority.runner(request)
        version = request.query_params.get("runnerVersion", "")
        if self._minimum_version is not None and _numbers(version) < _numbers(self._minimum_version):
            text = f"Runner version v{version} is deprecated and cannot receive messages."
            return broker_error("RunnerVersionTooOld", 403, text)
        session_id = request.query_params.get("sessionId", "")
        if session_id != self._session_of(runner):
            return broker_error("RunnerSessionInvalid", 400, f"session {session_id} is not open")
        try:
            news = await self._wait(request, session_id)
        except NotThere:
            return broker_error("RunnerSessionInvalid", 400, f"session {session_id} is not open any longer")
        if news is None:
            return Response(status_code=202)
        self._number += 1
        if isinstance(news, Assignment):
            return JSONResponse(messages.offer(news, self._github.addresses, self._number))
        return JSONResponse(messages.cancellation(news.job, self._number))

    async def _wait(self, request: Request, session_id: str) -> Any:
        """News of the session; None after the poll's length, or at once when the caller has hung up."""
        news = self._github.next_message(session_id)
        if news is not None:
            return news
        return await until_hung_up(request, lambda: self._github.wait_for_message(session_id, self._poll_seconds))

    async def acknowledge(self, request: Request) -> Response:
        """POST: the runner has the message of its job."""
        runner = self._authority.runner(request)
        session_id = self._session_of(runner)
        if session_id is None or session_id != request.query_params.get("sessionId", session_id):
            return broker_error("RunnerSessionInvalid", 400, "the session is not open")
        self._github.acknowledge(session_id, str((await request.json()).get("runnerRequestId")))
        return JSONResponse({})

    def _session_of(self, runner: SimRunner) -> str | None:
        return next((each.id for each in self._github.sessions.values() if each.runner is runner), None)


def broker_error(kind: str, status: int, text: str) -> Response:
    """A refusal in the broker's own form."""
    body = {"source": "actions-broker-listener", "errorKind": kind, "statusCode": status, "errorMessage": text}
    return JSONResponse(body, status_code=status)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
