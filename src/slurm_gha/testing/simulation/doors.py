"""The doors of a simulated service: the one nodes come to, and the one to Slurm, watched."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence

import anyio
import httpx2
from starlette.applications import Starlette

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.testing.simulated_slurm import SimulatedSlurm
from slurm_gha.testing.simulation.invariants import Watch

# An answer needs its time: a service killed meanwhile has done what it was asked, and nobody knows.
ANSWER_SECONDS = 0.05


class ServiceDoor(httpx2.AsyncBaseTransport):
    """What nodes reach of the service: nothing while it is dead; what it was just answering dies with it.

    ``loss``: the probability that a call gets lost, and again that its answer does. ``at_work`` hears of each call.
    """

    def __init__(self, chance: random.Random, loss: float, at_work: Callable[[], None]) -> None:
        self._chance, self._loss, self._at_work = chance, loss, at_work
        self._app: Starlette | None = None
        self._answering: dict[int, anyio.CancelScope] = {}
        self._calls = 0
        self.lost = 0

    def open(self, app: Starlette) -> None:
        self._app = app

    def shut(self) -> None:
        self._app = None
        for scope in self._answering.values():
            scope.cancel()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        fate = self._chance.random()
        if self._app is None:
            raise httpx2.ConnectError("connection refused")
        if fate < self._loss:
            self.lost += 1
            raise httpx2.ConnectTimeout("no route to the service")
        self._at_work()
        self._calls += 1
        number, answer = self._calls, None
        with anyio.CancelScope() as scope:
            self._answering[number] = scope
            try:
                given = await httpx2.ASGITransport(app=self._app).handle_async_request(request)
                await anyio.sleep(ANSWER_SECONDS)
                answer = given
            finally:
                del self._answering[number]
        if answer is None or fate > 1.0 - self._loss:
            self.lost += 1
            raise httpx2.ReadError("connection reset")
        return answer


class WatchedSlurm:
    """The simulated Slurm, with the invariants listening at its door. ``at_work`` hears of each change asked for."""

    def __init__(self, slurm: SimulatedSlurm, watch: Watch, clock: Clock, at_work: Callable[[], None]) -> None:
        self._slurm, self._watch, self._clock, self._at_work = slurm, watch, clock, at_work

    async def submit(self, submission: Submission) -> int:
        self._at_work()
        slurm_id = await self._slurm.submit(submission)
        await self._clock.sleep(ANSWER_SECONDS)
        return slurm_id

    async def list_jobs(self) -> tuple[SlurmJob, ...]:
        return await self._slurm.list_jobs()

    async def look_up(self, ids: Collection[int]) -> Mapping[int, SlurmJob]:
        return await self._slurm.look_up(ids)

    async def cancel(self, ids: Sequence[int]) -> None:
        self._at_work()
        jobs = {job.id: job for job in self._slurm.jobs}
        for slurm_id in ids:
            self._watch.cancelling(self._clock.now(), jobs.get(slurm_id))
        await self._slurm.cancel(ids)
