"""What a runner tells the service about a job while it runs and when it is over, and the files it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx2

from slurm_gha.domain.clock import Clock
from slurm_gha.testing.runner.actlog import StepState
from slurm_gha.testing.runner.execute import Execution
from slurm_gha.testing.runner.protocol import JobGoneError, JobLease, Message, ProtocolError, RunnerConnection
from slurm_gha.testing.runner.template import plain

UPDATE_SECONDS, RETRY_SECONDS, RETRIES, TIMEOUT = 1.0, 5.0, 5, 60.0
# The results service's numbers for a step's state and conclusion (ResultsHttpClient's Contracts.cs).
_IN_PROGRESS, _PENDING, _COMPLETED = 3, 5, 6
_CONCLUSIONS = {"succeeded": 2, "failed": 3, "canceled": 4, "skipped": 7}


async def fetch(client: httpx2.AsyncClient, lease: JobLease, repository: str) -> bytes:
    """A repository's tarball, asked for with the job's own token."""
    message = lease.message
    github = plain(message["contextData"]["github"])
    url = f"{github['api_url']}/repos/{repository}/tarball/{github['sha']}"
    headers = {"Authorization": f"Bearer {message['variables']['system.github.token']['value']}"}
    answer = await client.get(url, headers=headers, follow_redirects=True, timeout=TIMEOUT)
    if not answer.is_success:
        raise ProtocolError(f"repository {repository} was not delivered: HTTP {answer.status_code}")
    return answer.content


class Reporter:
    """Sends step changes at most once a second, and everything else at the end."""

    def __init__(self, connection: RunnerConnection, lease: JobLease, clock: Clock) -> None:
        self._connection, self._lease, self._clock = connection, lease, clock
        self._changed = anyio.Event()
        self._steps: list[StepState] = []
        self._order = 0
        self._began = clock.now()

    def steps_changed(self, steps: list[StepState]) -> None:
        self._steps = steps
        self._changed.set()

    async def keep_up(self) -> None:
        """Tell of changes until cancelled. What cannot be told now is told by the next change, or at the end."""
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            self._order += 1
            try:
                await self._connection.update_steps(self._lease, self._update(), self._order)
            except (ProtocolError, httpx2.HTTPError):
                await self._clock.sleep(RETRY_SECONDS)
            await self._clock.sleep(UPDATE_SECONDS)

    async def finish(self, done: Execution) -> None:
        """Log, summaries, then the job's end. JobGoneError when the service had ended it already."""
        uploads = [(step.plan.id, step.summary) for step in done.steps if step.summary]
        for attempt in range(RETRIES):
            try:
                await self._connection.upload_log(self._lease, done.log)
                while uploads:
                    await self._connection.upload_summary(self._lease, *uploads[0])
                    uploads.pop(0)
                await self._connection.complete(self._lease, done.result, done.outputs, self._results(done.steps))
            except JobGoneError:
                raise
            except (ProtocolError, httpx2.HTTPError):
                if attempt == RETRIES - 1:
                    raise
                await self._clock.sleep(RETRY_SECONDS)
            else:
                return

    def _update(self) -> list[Message]:
        found: list[Message] = []
        for number, step in enumerate(self._steps, start=2):
            status = _COMPLETED if step.result else _PENDING if step.started_at is None else _IN_PROGRESS
            found.append(
                {
                    "external_id": step.plan.id,
                    "number": number,
                    "name": step.name,
                    "status": status,
                    "started_at": _stamp(step.started_at),
                    "completed_at": _stamp(step.completed_at),
                    "conclusion": _CONCLUSIONS[step.result] if step.result else 0,
                }
            )
        return found

    def _results(self, steps: Sequence[StepState]) -> list[Message]:
        """Every step as completejob wants it, between the two that every job has."""
        first = min((step.started_at for step in steps if step.started_at), default=self._clock.now())
        found = [self._result(1, "Set up job", "succeeded", self._began, first)]
        for number, step in enumerate(steps, start=2):
            found.append(self._result(number, step.name, step.result or "skipped", step.started_at, step.completed_at))
        last = max((step.completed_at for step in steps if step.completed_at), default=first)
        return [*found, self._result(len(steps) + 2, "Complete job", "succeeded", last, self._clock.now())]

    @staticmethod
    def _result(number: int, name: str, result: str, began: float | None, ended: float | None) -> dict[str, Any]:
        return {
            "number": number,
            "name": name,
            "status": "completed",
            "conclusion": result,
            "started_at": _stamp(began),
            "completed_at": _stamp(ended),
        }


def _stamp(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
