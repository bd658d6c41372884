"""A runner as a task: the whole protocol, no process, no files; the steps are a duration and an outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import anyio
import httpx2

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.secret import Secret
from slurm_gha.testing.runner.protocol import (
    Configuration,
    JobCancellation,
    JobGoneError,
    JobLease,
    JobOffer,
    Message,
    ProtocolError,
    RunnerConnection,
    SessionConflictError,
    SessionLostError,
    SignInError,
    VersionDeprecatedError,
)

RENEW_SECONDS = 60.0
CREATE_RETRY, POLL_RETRY, COMPLETE_RETRIES = 30.0, 15.0, 5


class VirtualEnd(StrEnum):
    """How a virtual runner ended. REFUSED: never online; LOST: its session or its job was taken away."""

    FINISHED = "finished"
    IDLE = "idle"
    REFUSED = "refused"
    CONFLICT = "conflict"
    DEPRECATED = "deprecated"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class VirtualResult:
    """``job`` is the display name, ``conclusion`` the TaskResult that was reported (None: no job was had)."""

    end: VirtualEnd
    job: str | None = None
    conclusion: str | None = None


async def run_virtual(
    client: httpx2.AsyncClient,
    jit: Secret,
    clock: Clock,
    *,
    duration: Callable[[Message], float],
    outcome: Callable[[Message], str],
    idle_exit: float | None = None,
) -> VirtualResult:
    """Be one ephemeral runner until its job is done, or until idle for ``idle_exit`` seconds.

    ``duration`` gives the seconds that a job message's steps take, ``outcome`` its TaskResult (``succeeded``,
    ``failed``…). When the surrounding scope is cancelled the runner is gone without a word, as after kill -9;
    a runner told to stop in good order is :class:`VirtualRunner` with :meth:`VirtualRunner.interrupt`.
    """
    return await VirtualRunner(client, jit, clock, duration=duration, outcome=outcome).run(idle_exit=idle_exit)


class VirtualRunner:
    """One ephemeral runner that can be interrupted as SIGINT does: the job is cancelled, the session deleted.

    ``listening`` is called once it is online.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        jit: Secret,
        clock: Clock,
        *,
        duration: Callable[[Message], float],
        outcome: Callable[[Message], str],
        listening: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._listening = listening
        self._clock, self._duration, self._outcome = clock, duration, outcome
        self._connection = RunnerConnection(client, Configuration.decode(jit), clock)
        self._stop = anyio.Event()
        self._abandoned = False

    def interrupt(self) -> None:
        """As SIGINT: cancel the job if there is one, delete the session, end."""
        self._stop.set()

    async def run(self, *, idle_exit: float | None = None) -> VirtualResult:
        """Go online, have one job, go offline."""
        try:
            refusal = await self._go_online()
            if refusal is not None:
                return refusal
            if self._listening is not None:
                await self._listening()
            lease = await self._wait_for_job(idle_exit)
            if lease is None:
                await self._go_offline()
                return VirtualResult(VirtualEnd.IDLE)
            return await self._do(lease)
        except VersionDeprecatedError:
            await self._go_offline()
            return VirtualResult(VirtualEnd.DEPRECATED)
        except (SessionLostError, SignInError):
            return VirtualResult(VirtualEnd.LOST)

    async def _go_online(self) -> VirtualResult | None:
        for _ in range(8):
            try:
                await self._connection.open_session()
            except SignInError:
                return VirtualResult(VirtualEnd.REFUSED)
            except SessionConflictError:
                await self._pause(CREATE_RETRY)
            except (ProtocolError, httpx2.HTTPError):
                await self._pause(CREATE_RETRY)
            else:
                return None
            if self._stop.is_set():
                return VirtualResult(VirtualEnd.REFUSED)
        return VirtualResult(VirtualEnd.CONFLICT)

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stop.wait()

    async def _wait_for_job(self, idle_exit: float | None) -> JobLease | None:
        until = None if idle_exit is None else self._clock.now() + idle_exit
        while not self._stop.is_set():
            left = None if until is None else until - self._clock.now()
            if left is not None and left <= 0:
                return None
            news = await self._poll_until_stopped(left)
            if isinstance(news, JobOffer):
                try:
                    return await self._connection.take(news)
                except JobGoneError:
                    continue
                except (ProtocolError, httpx2.HTTPError):
                    await self._pause(POLL_RETRY)
        return None

    async def _poll_until_stopped(self, limit: float | None) -> JobOffer | JobCancellation | None:
        """One long poll, broken off by an interruption or after ``limit`` seconds."""
        news: JobOffer | JobCancellation | None = None
        failure: ProtocolError | None = None
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await self._stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                with anyio.move_on_after(limit):
                    news = await self._connection.poll()
            except (SessionLostError, SignInError, VersionDeprecatedError) as error:
                failure = error
            except (ProtocolError, httpx2.HTTPError):
                await self._pause(POLL_RETRY)
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return news

    async def _do(self, lease: JobLease) -> VirtualResult:
        """Let the steps take their time, keep the lease, listen for a cancellation, and report."""
        cancelled = False
        async with anyio.create_task_group() as tasks:

            async def renew() -> None:
                while True:
                    await self._clock.sleep(RENEW_SECONDS)
                    try:
                        await self._connection.renew(lease)
                    except JobGoneError:
                        self._abandoned = True
                        tasks.cancel_scope.cancel()
                    except (ProtocolError, httpx2.HTTPError):
                        continue  # the lease outlasts several refusals

            async def listen() -> None:
                nonlocal cancelled
                while True:
                    try:
                        news = await self._connection.poll(busy=True)
                    except (SessionLostError, SignInError):
                        return
                    except (ProtocolError, httpx2.HTTPError):
                        await self._clock.sleep(POLL_RETRY)
                        continue
                    if isinstance(news, JobCancellation) and news.job_id == lease.job_id:
                        cancelled = True
                        tasks.cancel_scope.cancel()

            async def watch() -> None:
                nonlocal cancelled
                await self._stop.wait()
                cancelled = True
                tasks.cancel_scope.cancel()

            for each in (renew, listen, watch):
                tasks.start_soon(each)
            await self._clock.sleep(self._duration(lease.message))
            tasks.cancel_scope.cancel()
        if self._abandoned:
            await self._go_offline()
            return VirtualResult(VirtualEnd.LOST, lease.name)
        conclusion = "canceled" if cancelled else self._outcome(lease.message)
        told = await self._report(lease, conclusion)
        await self._go_offline()
        return VirtualResult(VirtualEnd.FINISHED if told else VirtualEnd.LOST, lease.name, conclusion)

    async def _report(self, lease: JobLease, conclusion: str) -> bool:
        outputs = dict.fromkeys(_output_names(lease.message), "")
        for _ in range(COMPLETE_RETRIES):
            try:
                await self._connection.complete(lease, conclusion, outputs)
            except (JobGoneError, SignInError):
                return False
            except (ProtocolError, httpx2.HTTPError):
                await self._clock.sleep(POLL_RETRY)
            else:
                return True
        return False

    async def _go_offline(self) -> None:
        try:
            with anyio.move_on_after(30):
                await self._connection.close_session()
        except (ProtocolError, httpx2.HTTPError):
            return  # the service notices the silence by itself


def _output_names(message: Message) -> list[str]:
    return [str(pair["Key"]) for pair in (message.get("jobOutputs") or {}).get("map", ())]
