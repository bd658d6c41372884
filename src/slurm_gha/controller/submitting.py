"""Submitting runners: the intent on disk, then sbatch, then the id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from slurm_gha.controller.comment import comment
from slurm_gha.controller.edges import Edges, Ledger
from slurm_gha.domain.pool import Handover, Policy, Pool, SlurmRequest
from slurm_gha.domain.runner import RunnerRecord, runner_name
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.submission import Submission
from slurm_gha.domain.world import TroubleKind
from slurm_gha.github.errors import GitHubError
from slurm_gha.observe import events
from slurm_gha.planner.actions import Submit
from slurm_gha.slurm.errors import SlurmUnreachable, SubmissionRefused


@dataclass(frozen=True, slots=True)
class _Intent:
    """A runner that is on disk and not yet submitted; ``secret`` is its claim's, where it makes one."""

    record: RunnerRecord
    pool: Pool
    request: SlurmRequest
    secret: Secret | None


class Submitter:
    """Turns Submit actions into Slurm jobs. A failure is recorded and left to the next round."""

    def __init__(self, edges: Edges, ledger: Ledger) -> None:
        self._edges = edges
        self._ledger = ledger

    async def submit(self, submits: Sequence[Submit], policy: Policy) -> None:
        """All intents in one transaction, then the sbatch calls, a bounded number at a time."""
        if not submits:
            return
        intended = self._intend(submits, policy)
        refused: set[str] = set()
        limiter = anyio.CapacityLimiter(self._edges.submit_concurrency)

        async def one(intent: _Intent) -> None:
            record = intent.record
            async with limiter:
                if record.pool in refused:
                    self._ledger.close(record.name, "not submitted", "another submission of its pool was just refused")
                    return
                if not await self._submit_one(intent, policy):
                    refused.add(record.pool)

        async with anyio.create_task_group() as group:
            for intent in intended:
                group.start_soon(one, intent)

    def _intend(self, submits: Sequence[Submit], policy: Policy) -> list[_Intent]:
        """Names and claim secrets, on disk (the secrets as digests) before anything else happens."""
        now = self._edges.now()
        intended: list[_Intent] = []
        for submit in submits:
            pool = policy.pools_by_name[submit.pool]
            record = RunnerRecord(
                name=runner_name(policy.installation, pool.name, self._edges.suffix()),
                scope=submit.scope,
                pool=pool.name,
                labels=pool.labels if submit.labels is None else submit.labels,
                handover=pool.handover,
                intended_at=now,
                scale_set=submit.scale_set,
                job_id=submit.job.id if submit.job else None,
                repository=submit.job.repository if submit.job else None,
            )
            secret = self._edges.token() if pool.handover is Handover.CLAIM else None
            intended.append(_Intent(record, pool, submit.request or pool.request, secret))
        digests = {intent.record.name: intent.secret.digest() if intent.secret else None for intent in intended}
        self._edges.journal.intend([intent.record for intent in intended], digests)
        for record in (intent.record for intent in intended):
            self._emit(
                events.RunnerIntended(
                    at=now,
                    name=record.name,
                    pool=record.pool,
                    scope=record.scope,
                    job_id=record.job_id,
                    repository=record.repository,
                )
            )
        return intended

    async def _submit_one(self, intent: _Intent, policy: Policy) -> bool:
        """One sbatch; False where Slurm or GitHub refused and the pool backs off."""
        record, pool, input_path = intent.record, intent.pool, None
        try:
            if pool.handover is Handover.STDIN:
                input_path = await self._mint_ahead(record, pool)
            slurm_id = await self._edges.cluster.submit(
                Submission(
                    name=record.name,
                    request=intent.request,
                    script=self._edges.script(record, pool, intent.secret),
                    comment=comment(record, policy.installation),
                    output_path=self._edges.output_path(record.name),
                    input_path=input_path,
                    signal_before_end=self._edges.signal_before_end,
                )
            )
        except SubmissionRefused as error:
            self._refused(record, str(error))
            return False
        except GitHubError as error:
            self._refused(record, f"GitHub gave no runner: {error}")
            return False
        except SlurmUnreachable as error:
            if error.unclear:
                self._emit(events.SubmissionUnclear(at=self._edges.now(), name=record.name, error=str(error)))
            else:
                self._ledger.close(record.name, "not submitted", str(error))
            return True
        self._edges.journal.submitted(record.name, slurm_id, self._edges.now())
        self._emit(
            events.RunnerSubmitted(
                at=self._edges.now(), name=record.name, pool=record.pool, scope=record.scope, slurm_id=slurm_id
            )
        )
        self._ledger.recovered(record.pool, TroubleKind.REFUSED)
        return True

    async def _mint_ahead(self, record: RunnerRecord, pool: Pool) -> str:
        """Register now and leave the configuration where the batch script will read it."""
        assert self._edges.handover is not None
        minted = await self._edges.registering.mint(record, pool)
        self._edges.journal.minted(record.name, minted.registration_id, self._edges.now(), None)
        return str(self._edges.handover.write(record.name, minted.config))

    def _refused(self, record: RunnerRecord, reason: str) -> None:
        self._emit(events.SubmissionRefused(at=self._edges.now(), name=record.name, pool=record.pool, reason=reason))
        self._ledger.close(record.name, "refused", reason)
        self._ledger.back_off(record.pool, TroubleKind.REFUSED, reason)

    async def renew(self, name: str, policy: Policy) -> None:
        """Register a pending runner anew, under its name, and put the new configuration in the old one's place."""
        record = self._edges.journal.record(name)
        pool = policy.pools_by_name.get(record.pool) if record else None
        if record is None or pool is None or record.registration_id is None:
            return
        try:
            await self._edges.registering.remove(record.scope, record.registration_id, scale_set=record.scale_set)
            await self._mint_ahead(record, pool)
        except GitHubError as error:
            self._emit(events.GitHubUnreadable(at=self._edges.now(), scope=record.scope, error=str(error)))

    def _emit(self, event: events.Event) -> None:
        self._edges.bus.emit(event)
