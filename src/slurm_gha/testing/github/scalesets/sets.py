"""All runner scale sets of the simulated GitHub: made, found, changed, removed; their sessions, polls and runners."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Sequence

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.labels import normalise
from slurm_gha.testing.github.accounts import Accounts
from slurm_gha.testing.github.errors import Conflict
from slurm_gha.testing.github.runners import Runners
from slurm_gha.testing.github.runs import Runs
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.github.scalesets.claims import Claims
from slurm_gha.testing.github.scalesets.errors import TASKS, ServiceError, malformed, no_scale_set, no_session
from slurm_gha.testing.github.scalesets.queue import Queues
from slurm_gha.testing.github.scalesets.values import ClaimState, QueueMessage, QueueSession, ScaleSet, Statistics
from slurm_gha.testing.github.timers import Timers
from slurm_gha.testing.github.values import SimJob, SimRunner

FIRST_MESSAGE = 100_000_000


class ScaleSets:
    """The service's state. ``behaviour`` may be replaced at any time; ``tick`` lets happen what is due."""

    def __init__(
        self,
        clock: Clock,
        seed: int,
        behaviour: ScaleSetBehaviour,
        *,
        accounts: Accounts,
        timers: Timers,
        runs: Runs,
        runners: Runners,
        tick: Callable[[], None],
    ) -> None:
        self.behaviour = behaviour
        self.clock = clock
        self.tick = tick
        self._accounts, self._timers, self._runs, self._runners = accounts, timers, runs, runners
        # Its own chance: a GitHub without scale sets has the same history as if there were none.
        self._chance = random.Random(f"scale sets {seed}")
        self._made = 0
        self.sets: dict[int, ScaleSet] = {}
        self.sessions: dict[str, QueueSession] = {}
        self.tenant = self._name()
        queues = Queues(FIRST_MESSAGE + self._chance.randrange(1000))
        self._queues = queues
        self._claims = Claims(
            clock, timers, queues, self.sets, lambda: self.behaviour, accounts.scopes_of, self._runners.offer
        )

    # What GitHub tells of jobs and runners

    def admits(self, runner: SimRunner, job: SimJob) -> bool:
        """Whether the runner may take the job, as far as scale sets are concerned."""
        return self._claims.admits(runner, job)

    def job_changed(self, what: str, job: SimJob) -> None:
        """Told of every change of a job's status, before runners are for those queued, after for the others."""
        match what:
            case "queued" | "requeued":
                self._claims.queued(job)
            case "in_progress":
                self._claims.started(job)
            case "completed":
                self._claims.completed(job)

    def runner_changed(self, what: str, runner: SimRunner) -> None:
        """Told of what happened to a runner: its scale set's statistics may be others."""
        scale_set = self.sets.get(runner.scale_set_id or 0)
        if scale_set is None:
            return
        if what == "removed":
            scale_set.runners.pop(runner.id, None)
        else:
            scale_set.runners[runner.id] = runner
        scale_set.wake()

    def statistics(self, scale_set: ScaleSet) -> Statistics:
        return self._claims.statistics(scale_set)

    def state_of(self, job: SimJob) -> ClaimState | None:
        """How far the job is with scale sets; None: it is for none, or over."""
        claim = self._claims.claims.get(job.id)
        return None if claim is None else claim.state

    # Scale sets

    def in_scope(self, scope: str) -> list[ScaleSet]:
        return [each for each in self.sets.values() if each.scope == scope]

    def find(self, scope: str, identifier: int) -> ScaleSet:
        scale_set = self.sets.get(identifier)
        if scale_set is None or scale_set.scope != scope:
            raise no_scale_set(identifier)
        return scale_set

    def create(
        self, scope: str, name: str, *, group_id: int = 1, labels: Sequence[str] = (), disable_update: bool = False
    ) -> ScaleSet:
        """A new scale set; its name is unique in its scope and group. No labels: its name is the one."""
        self.tick()
        owner = self._accounts.scope_owner(scope)
        self._check_name(scope, name, group_id)
        if group_id not in owner.groups:
            raise ServiceError(
                404, "RunnerGroupNotFoundException", f"No runner group found with identifier {group_id}."
            )
        self._made += 1
        kept = self._kept(name, labels)
        now = self.clock.now()
        scale_set = ScaleSet(
            id=self._made,
            scope=scope,
            owner=owner,
            name=name,
            group_id=group_id,
            labels=kept,
            offered=normalise(kept),
            disable_update=disable_update,
            created_at=now,
            left_at=now,
        )
        self.sets[scale_set.id] = scale_set
        self._watch_abandonment(scale_set)
        self._claims.reconsider(scale_set, self._runs.queued.values())
        return scale_set

    def update(
        self,
        scale_set: ScaleSet,
        *,
        name: str | None = None,
        group_id: int | None = None,
        labels: Sequence[str] | None = None,
        disable_update: bool | None = None,
    ) -> None:
        """Change what is given. Other labels are those of its runners as well."""
        self.tick()
        if (name or scale_set.name, group_id or scale_set.group_id) != (scale_set.name, scale_set.group_id):
            self._check_name(scale_set.scope, name or scale_set.name, group_id or scale_set.group_id, scale_set)
        scale_set.name, scale_set.group_id = name or scale_set.name, group_id or scale_set.group_id
        if disable_update is not None:
            scale_set.disable_update = disable_update
        if labels is not None:
            scale_set.labels = self._kept(scale_set.name, labels)
            scale_set.offered = normalise(scale_set.labels)
            for runner in scale_set.runners.values():
                runner.labels, runner.offered = scale_set.labels, scale_set.offered
        self._claims.reconsider(scale_set, self._runs.queued.values())

    def remove(self, scale_set: ScaleSet) -> None:
        """Its idle runners and its session are gone with it, its jobs are for others; what runs goes on."""
        self.tick()
        del self.sets[scale_set.id]
        if scale_set.session is not None:
            self._end(scale_set.session)
        for runner in list(scale_set.runners.values()):
            if not runner.busy:
                self._runners.remove(runner)
        self._claims.reconsider(scale_set, self._runs.queued.values())

    def _check_name(self, scope: str, name: str, group_id: int, itself: ScaleSet | None = None) -> None:
        if not name.strip():
            raise malformed("The runner scale set needs a name.")
        for each in self.in_scope(scope):
            if each is not itself and each.group_id == group_id and each.name.lower() == name.lower():
                raise ServiceError(
                    400, "RunnerScaleSetExistsException", f"A runner scale set with name {name} already exists."
                )

    def _kept(self, name: str, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(labels)) if labels and self.behaviour.several_labels else (name,)

    # Sessions

    def open(self, scale_set: ScaleSet, owner_name: str, tenant: str) -> QueueSession:
        """The scale set's session; refused while another is alive."""
        self.tick()
        if scale_set.session is not None:
            raise ServiceError(
                409,
                "RunnerScaleSetSessionConflictException",
                f"The runner scale set {scale_set.name} already has an active session for owner "
                f"{scale_set.session.owner_name}.",
            )
        now = self.clock.now()
        session = QueueSession(self._guid(), owner_name, scale_set, tenant, now, now)
        self.sessions[session.id] = scale_set.session = session
        scale_set.left_at, scale_set.told = None, self.statistics(scale_set)
        self._timers.at(now + self.behaviour.session_timeout, lambda: self._silence_check(session))
        return session

    def session(self, session_id: str, scale_set: ScaleSet | None = None) -> QueueSession:
        """The session, alive; ``scale_set`` is the one that it must be of."""
        session = self.sessions.get(session_id)
        if session is None or (scale_set is not None and session.scale_set is not scale_set):
            raise no_session(session_id)
        session.seen_at = self.clock.now()
        return session

    def close(self, session: QueueSession) -> None:
        self.tick()
        self._end(session)

    def _end(self, session: QueueSession) -> None:
        if self.sessions.pop(session.id, None) is None:
            return
        scale_set = session.scale_set
        scale_set.session, scale_set.polled, scale_set.capacity = None, False, None
        scale_set.left_at = self.clock.now()
        scale_set.wake()
        self._watch_abandonment(scale_set)

    def _silence_check(self, session: QueueSession) -> None:
        if session.id not in self.sessions:
            return
        if session.polling:
            session.seen_at = self.clock.now()
        over_at = session.seen_at + self.behaviour.session_timeout
        if over_at <= self.clock.now():
            self._end(session)
        else:
            self._timers.at(over_at, lambda: self._silence_check(session))

    def _watch_abandonment(self, scale_set: ScaleSet) -> None:
        left_at, limit = scale_set.left_at, self.behaviour.abandoned_after

        def check() -> None:
            if scale_set.left_at == left_at and scale_set.id in self.sets:
                self.remove(scale_set)

        if left_at is not None and limit is not None:
            self._timers.at(left_at + limit, check)

    # The queue

    def next_message(self, session_id: str, *, after: int = 0) -> QueueMessage | None:
        """What the session is to read now; it stays to be read until it is acknowledged."""
        self.tick()
        session, behaviour = self.session(session_id), self.behaviour
        scale_set = session.scale_set
        self._claims.fill(scale_set)
        return self._queues.next(
            scale_set,
            self.statistics(scale_set),
            after=after if behaviour.skip_read else 0,
            statistics_alone=behaviour.statistics_messages,
        )

    async def wait_for_message(
        self, session_id: str, *, capacity: int | None = None, after: int = 0
    ) -> QueueMessage | None:
        """The same as a long poll, which tells how many jobs the scale set can have at most (None: does not tell)."""
        self.tick()
        session = self.session(session_id)
        scale_set = session.scale_set
        scale_set.polled, scale_set.capacity = True, capacity
        scale_set.capacities.append((self.clock.now(), capacity))
        until = self.clock.now() + self.behaviour.poll_seconds
        session.polling += 1
        try:
            while True:
                message = self.next_message(session_id, after=after)
                left = until - self.clock.now()
                if message is not None or left <= 0:
                    return message
                news, due = scale_set.news, self._timers.next()
                with anyio.move_on_after(left if due is None else max(0.001, min(left, due - self.clock.now()))):
                    await news.wait()
        finally:
            session.polling -= 1
            session.seen_at = self.clock.now()

    def acknowledge(self, session: QueueSession, message_id: int) -> None:
        self.tick()
        self._queues.acknowledge(session.scale_set, message_id)

    def acquire(self, session: QueueSession, request_ids: Iterable[int]) -> list[int]:
        """Take announced jobs; the ids of those that are the scale set's now."""
        self.tick()
        return self._claims.acquire(session.scale_set, request_ids)

    # Runners

    def mint_runner(self, scale_set: ScaleSet, name: str, work_folder: str = "_work") -> tuple[SimRunner, str]:
        """Register a just-in-time runner of the scale set; its JIT configuration."""
        self.tick()
        try:
            return self._runners.mint(
                scale_set.scope,
                scale_set.owner,
                name,
                scale_set.labels,
                scale_set.group_id,
                work_folder,
                scale_set=(scale_set.id, scale_set.name),
            )
        except Conflict as error:
            message = f"A runner with the name {name} already exists."
            raise ServiceError(409, "TaskAgentExistsException", message, space=TASKS) from error

    def move(self) -> None:
        """From the next registration on, the service has another URL; tokens given out keep their own."""
        self.tenant = self._name()

    def _name(self) -> str:
        return f"{self._chance.getrandbits(80):020x}"

    def _guid(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def guid(self) -> str:
        """An id for whatever needs one."""
        return self._guid()
