"""Claims: a started Slurm job asks for its JIT configuration; and the reports that follow."""

from __future__ import annotations

from collections.abc import Callable

from slurm_gha.controller.desk import Claimed, ClaimRefused, DemandGone, TryLater
from slurm_gha.controller.observation import Observer
from slurm_gha.controller.registering import Registering
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.runner import RunnerRecord
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.slurm import SlurmStage
from slurm_gha.github.errors import GitHubError, RateLimited
from slurm_gha.github.values import Minted
from slurm_gha.observe.events import Bus, ClaimDenied, ClaimGranted, DemandVanished, RunnerReported
from slurm_gha.store.journal import Journal

# How old a listing may be that vouches for a claim (seconds).
FRESH = 1.0
# How far ahead of ours a node's clock may be believed (seconds).
CLOCK_SKEW = 300.0
EVENTS = frozenset({"launched", "listening", "job_started", "job_finished", "ended"})
REPORTS_KEPT = 50


class ClaimDesk:
    """Answers the nodes. ``needed`` tells whether a runner is still counted on; ``woken`` is called after news."""

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        registering: Registering,
        journal: Journal,
        observer: Observer,
        clock: Clock,
        bus: Bus,
        token: Callable[[], Secret],
        needed: Callable[[str], bool],
        woken: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._registering = registering
        self._journal = journal
        self._observer = observer
        self._clock = clock
        self._bus = bus
        self._token = token
        self._needed = needed
        self._woken = woken

    def recover(self) -> None:
        """At the start: claims over which an earlier service died may be made again; nothing was handed out for them.

        Their nodes are still asking, and what GitHub may have registered is replaced when they do.
        """
        for record in self._journal.open_records():
            if record.claimed_at is not None and record.minted_at is None:
                self._journal.release_claim(record.name)

    async def claim(self, name: str, secret: Secret, slurm_id: int, node: str) -> Claimed:
        """The configuration, once; raises DemandGone, ClaimRefused or TryLater."""
        record = self._identify(name, secret, slurm_id)
        await self._must_run(name, slurm_id)
        pool = self._policy().pools_by_name.get(record.pool)
        if pool is None or not self._registering.reaches(record):
            raise self._denied(name, "its pool or scope is no longer configured")
        self._must_be_needed(name)
        if not self._journal.begin_claim(name, self._clock.now(), slurm_id, node):
            raise self._denied(name, "its claim has been used")
        try:
            minted = await self._registering.mint(record, pool)
        except RateLimited as error:
            self._journal.release_claim(name)
            raise TryLater(max(1.0, error.until - self._clock.now())) from error
        except GitHubError as error:
            self._journal.release_claim(name)
            self._bus.emit(ClaimDenied(at=self._clock.now(), name=name, reason=f"GitHub gave no runner: {error}"))
            raise TryLater(5.0) from error
        return await self._hand_out(record, minted, node)

    async def _hand_out(self, record: RunnerRecord, minted: Minted, node: str) -> Claimed:
        name, token = record.name, self._token()
        latest = self._journal.record(name)
        if latest is None or latest.withdrawn_at is not None or self._journal.is_closed(name):
            # Withdrawn while GitHub was being asked: what was just registered goes again.
            await self._registering.remove(record.scope, minted.registration_id, scale_set=record.scale_set)
            raise DemandGone(name)
        now = self._clock.now()
        self._journal.minted(name, minted.registration_id, now, token.digest())
        self._bus.emit(
            ClaimGranted(at=now, name=name, node=node, registration_id=minted.registration_id, scope=record.scope)
        )
        return Claimed(minted.config, token)

    def _identify(self, name: str, secret: Secret, slurm_id: int) -> RunnerRecord:
        digest = self._journal.secret_digest(name)
        if digest is None or not secret.matches(digest):
            raise self._denied(name, "unknown runner or wrong secret")
        record = self._journal.record(name)
        if record is None or self._journal.is_closed(name):
            raise self._denied(name, "the runner is closed")
        if record.slurm_id is not None and record.slurm_id != slurm_id:
            raise self._denied(name, f"it belongs to Slurm job {record.slurm_id}, not {slurm_id}")
        if record.claimed_at is not None:
            raise self._denied(name, "its claim has been used")
        if record.withdrawn_at is not None:
            self._bus.emit(DemandVanished(at=self._clock.now(), name=name))
            raise DemandGone(name)
        return record

    async def _must_run(self, name: str, slurm_id: int) -> None:
        """The secret is worth something only while that very Slurm job runs."""
        now = self._clock.now()
        if not await self._observer.look_at_slurm(since=now - FRESH):
            raise TryLater(2.0)
        if not self._observer.runs(slurm_id) and not await self._observer.look_at_slurm(since=now):
            # A listing from just before the job's start does not show it running; a newer one may.
            raise TryLater(2.0)
        job = self._observer.slurm_job(slurm_id)
        if job is None or job.stage in (SlurmStage.PENDING, SlurmStage.UNKNOWN):
            raise TryLater(1.0)
        if job.name != name or job.stage is not SlurmStage.RUNNING:
            raise self._denied(name, f"Slurm job {slurm_id} is {job.name} and {job.state}")

    def _must_be_needed(self, name: str) -> None:
        if self._needed(name):
            return
        now = self._clock.now()
        self._journal.withdraw(name, now, "its job was gone when it started")
        self._bus.emit(DemandVanished(at=now, name=name))
        self._woken(name)
        raise DemandGone(name)

    def _denied(self, name: str, reason: str) -> ClaimRefused:
        self._bus.emit(ClaimDenied(at=self._clock.now(), name=name, reason=reason))
        return ClaimRefused(reason)

    async def report(self, name: str, token: Secret, event: str, at: float, detail: str) -> None:
        """A node's word on its runner: kept, and a hint to look; raises ClaimRefused."""
        digest = self._journal.report_digest(name)
        if digest is None or not token.matches(digest):
            raise self._denied(name, "unknown runner or wrong report token")
        now = self._clock.now()
        if event not in EVENTS or self._journal.is_closed(name) or len(self._journal.reports(name)) >= REPORTS_KEPT:
            return
        at = at if now - 7 * 86400 < at < now + CLOCK_SKEW else now
        self._journal.add_report(name, event, at, detail)
        match event:
            case "listening":
                self._journal.online(name, now)
            case "job_started":
                self._journal.busy(name, now)
            case "ended":
                self._journal.finished(name, now, detail)
        self._bus.emit(RunnerReported(at=now, name=name, event=event, reported_at=at, detail=detail))
        self._woken(name)
