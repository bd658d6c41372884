"""What befalls a cluster now and then, aimed at jobs that really run: each kind is counted where it hit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.testing.simulated_slurm import SimulatedSlurm

REFUSAL = "Job submit limit reached"
_ENDS = {
    "preempted": "PREEMPTED",
    "out of memory": "OUT_OF_MEMORY",
    "deadline passed": "DEADLINE",
    "cancelled while running": "CANCELLED",
}
_KINDS = (*_ENDS, "node lost", "node out of touch", "cancelled while pending", "held", "refused")


class Mishaps:
    """``hit`` counts them by kind. One that finds nobody to befall waits until somebody is there."""

    def __init__(self, slurm: SimulatedSlurm, clock: Clock, chance: random.Random) -> None:
        self._slurm, self._clock, self._chance = slurm, clock, chance
        self.hit: Counter[str] = Counter()

    async def befall(self, times: Iterable[float]) -> None:
        """One mishap after each of these moments (seconds since the epoch, in order)."""
        for at in times:
            await self._clock.sleep(max(0.0, at - self._clock.now()))
            await self._one(self._chance.choice(_KINDS))

    async def _one(self, kind: str) -> None:
        match kind:
            case "held":
                self._slurm.faults.hold_next += 1
                self.hit[kind] += 1
            case "refused":
                self._slurm.faults.refusals[None] = REFUSAL
                await self._clock.sleep(self._chance.uniform(10.0, 300.0))
                self._slurm.faults.refusals.clear()
                self.hit[kind] += 1
            case "cancelled while pending":
                job = await self._somebody(SlurmStage.PENDING)
                if job is not None:
                    self._slurm.end(job.id, "CANCELLED")
                    self.hit[kind] += 1
            case "node lost" | "node out of touch":
                await self._lose_node(kind)
            case _:
                job = await self._somebody(SlurmStage.RUNNING)
                if job is not None:
                    self._slurm.end(job.id, _ENDS[kind])
                    self.hit[kind] += 1

    async def _lose_node(self, kind: str) -> None:
        job = await self._somebody(SlurmStage.RUNNING)
        if job is None:
            return
        self._slurm.fail_node(job.node, processes_survive=kind == "node out of touch")
        self.hit[kind] += 1
        await self._clock.sleep(self._chance.uniform(30.0, 600.0))
        self._slurm.resume(job.node)

    async def _somebody(self, stage: SlurmStage) -> SlurmJob | None:
        """A job in this stage, as soon as there is one; None if there is none for an hour."""
        for _ in range(3600):
            found = [job for job in self._slurm.jobs if job.stage is stage]
            if found:
                return self._chance.choice(found)
            await self._clock.sleep(1.0)
        return None
