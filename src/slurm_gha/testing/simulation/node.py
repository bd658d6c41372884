"""A compute node as a task: it claims, runs a virtual runner, and reports, as the node scripts do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import httpx2

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.pool import Handover, Pool
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.domain.submission import Submission
from slurm_gha.testing.runner.protocol import Message
from slurm_gha.testing.runner.virtual import VirtualEnd, VirtualRunner

CLAIM_PATIENCE = 300.0


def script_for(record: RunnerRecord, pool: Pool, secret: Secret | None) -> str:
    """The batch script of a simulation: what a real one would carry, as JSON."""
    return json.dumps(
        {"name": record.name, "handover": pool.handover.value, "secret": secret.reveal() if secret else None}
    )


@dataclass(frozen=True, slots=True)
class Node:
    """``service`` and ``github`` are HTTP clients; ``duration`` gives a job's seconds; ``read`` a handed-over file."""

    service: httpx2.AsyncClient
    github: httpx2.AsyncClient
    clock: Clock
    chance: random.Random
    duration: Callable[[Message], float]
    outcome: Callable[[Message], str]
    read: Callable[[str], str]
    start_up: float = 2.0

    async def run(self, submission: Submission, job: SlurmJob, signalled: anyio.Event) -> int:
        """Be the batch script; the return value is its exit code."""
        script = json.loads(submission.script)
        name, token = script["name"], None
        if script["handover"] == Handover.STDIN.value:
            config = Secret(self.read(submission.input_path or "").strip())
        else:
            claimed = await self._claim(name, script["secret"], job, signalled)
            if isinstance(claimed, int):
                return claimed
            config, token = claimed
        await self.clock.sleep(self.start_up * (0.5 + self.chance.random()))
        await self._report(name, token, "launched")

        def duration(message: Message) -> float:
            return self.duration(message)

        async def listening() -> None:
            await self._report(name, token, "listening")

        runner = VirtualRunner(
            self.github, config, self.clock, duration=duration, outcome=self.outcome, listening=listening
        )
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await signalled.wait()
                runner.interrupt()

            group.start_soon(watch)
            result = await runner.run()
            group.cancel_scope.cancel()
        if result.job is not None:
            await self._report(name, token, "job_started")
            await self._report(name, token, "job_finished")
        await self._report(name, token, "ended", "0")
        return 0 if result.end in (VirtualEnd.FINISHED, VirtualEnd.IDLE) else 1

    async def _claim(
        self, name: str, secret: str, job: SlurmJob, signalled: anyio.Event
    ) -> tuple[Secret, Secret] | int:
        until = self.clock.now() + CLAIM_PATIENCE
        delay = 1.0
        while self.clock.now() < until and not signalled.is_set():
            try:
                with anyio.fail_after(30):
                    answer = await self.service.post(
                        f"/v1/runners/{name}/claim",
                        headers={"authorization": f"Bearer {secret}"},
                        data={"slurm_job_id": str(job.id), "node": job.node},
                    )
            except (httpx2.HTTPError, TimeoutError):
                pass
            else:
                if answer.status_code == 200:
                    return Secret(answer.text.strip()), Secret(answer.headers["x-report-token"])
                if answer.status_code == 410:
                    return 0
                if answer.status_code != 503:
                    return 3
                delay = max(delay, min(60.0, float(answer.headers.get("retry-after", "1"))))
            await self.clock.sleep(delay * (0.5 + self.chance.random()))
            delay = min(30.0, delay * 2)
        return 4

    async def _report(self, name: str, token: Secret | None, event: str, detail: str = "") -> None:
        if token is None:
            return
        try:
            with anyio.fail_after(10):
                await self.service.post(
                    f"/v1/runners/{name}/report",
                    headers={"authorization": f"Bearer {token.reveal()}"},
                    data={"event": event, "at": f"{self.clock.now():.0f}", "detail": detail},
                )
        except (httpx2.HTTPError, TimeoutError):
            return
