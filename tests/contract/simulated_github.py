"""A simulated GitHub in process, every request and answer of which is held against GitHub's description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import httpx2
from starlette.applications import Starlette
from tests.contract.openapi_checker import check_request, check_response
from trio.testing import MockClock

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Faults
from slurm_gha.testing.github.limits import Limits
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Assignment, SimJob, SimRunner

EPOCH = 1_700_000_000.0
BUILD = ".github/workflows/build.yml"
WORKFLOW = """
name: Build
on: [push, workflow_dispatch]
jobs:
  build:
    runs-on: [self-hosted, Small]
    outputs:
      version: ${{ steps.x.outputs.version }}
    steps:
      - run: make
  test:
    needs: build
    strategy:
      matrix:
        size: [small, large]
    runs-on: [self-hosted, "${{ matrix.size }}"]
    steps:
      - run: make test
"""


class Service:
    """The simulator, a clock, and checked HTTP to it."""

    def __init__(
        self,
        *,
        behaviour: Behaviour | None = None,
        limits: Limits | None = None,
        faults: Faults | None = None,
        seed: int = 0,
    ) -> None:
        self.clock = EventLoopClock(EPOCH)
        self.github = GitHub(self.clock, behaviour=behaviour, seed=seed)
        self.faults = faults or Faults(self.clock)
        self.limits = limits or Limits(self.clock)
        self.app: Starlette = create_app(self.github, faults=self.faults, limits=self.limits)
        self.github.add_repository("octo/app", {BUILD: WORKFLOW})
        self.github.add_token("all", name="all")
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(self.app),  # type: ignore[arg-type]
            base_url=self.github.url,
            timeout=None,
        )

    async def call(
        self,
        method: str,
        url: str,
        *,
        token: str | None = "all",
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> httpx2.Response:
        """One call; the request (unless it is meant to be wrong) and the answer must satisfy the description."""
        given = dict(headers or {})
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        if check:
            check_request(method, url, body=json)
        response = await self._client.request(method, url, json=json, headers=given)
        check_response(method, url, response.status_code, response.headers, response.content)
        return response

    async def get(self, url: str, **more: Any) -> httpx2.Response:
        return await self.call("GET", url, **more)

    async def post(self, url: str, **more: Any) -> httpx2.Response:
        return await self.call("POST", url, **more)

    def runner(self, name: str, *labels: str, scope: str = "repos/octo/app") -> SimRunner:
        return self.github.mint_runner(scope, name, labels)[0]

    async def take(self, runner: SimRunner) -> SimJob:
        """The runner comes online and takes the job it is offered."""
        message = await self.github.wait_for_message(self.github.open_session(runner), 50)
        assert isinstance(message, Assignment)
        return self.github.acquire(runner, message.id)


def simulate(test: Any) -> None:
    """Run an async function under a virtual clock."""
    anyio.run(test, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
