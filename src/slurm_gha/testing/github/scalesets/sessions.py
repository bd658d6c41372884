"""Sessions of scale sets: one reader each, its long poll, its silence; and what it does with messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.github.scalesets.claims import Claims
from slurm_gha.testing.github.scalesets.errors import ServiceError, no_session
from slurm_gha.testing.github.scalesets.queue import Queues
from slurm_gha.testing.github.scalesets.values import QueueMessage, QueueSession, ScaleSet
from slurm_gha.testing.github.timers import Timers


class Sessions:
    """All that are alive. ``on_left`` is told of a scale set that has none any more."""

    def __init__(
        self,
        clock: Clock,
        timers: Timers,
        queues: Queues,
        claims: Claims,
        behaviour: Callable[[], ScaleSetBehaviour],
        guid: Callable[[], str],
        tick: Callable[[], None],
        on_left: Callable[[ScaleSet], None],
    ) -> None:
        self._clock, self._timers, self._queues, self._claims = clock, timers, queues, claims
        self._behaviour, self._guid, self._tick, self._on_left = behaviour, guid, tick, on_left
        self._alive: dict[str, QueueSession] = {}

    def open(self, scale_set: ScaleSet, owner_name: str, tenant: str) -> QueueSession:
        """The scale set's session; refused while another is alive."""
        self._tick()
        if scale_set.session is not None:
            raise ServiceError(
                409,
                "RunnerScaleSetSessionConflictException",
                f"The runner scale set {scale_set.name} already has an active session for owner "
                f"{scale_set.session.owner_name}.",
            )
        now = self._clock.now()
        session = QueueSession(self._guid(), owner_name, scale_set, tenant, now, now)
        self._alive[session.id] = scale_set.session = session
        scale_set.left_at, scale_set.told = None, self._claims.statistics(scale_set)
        self._timers.at(now + self._behaviour().session_timeout, lambda: self._silence_check(session))
        return session

    def find(self, session_id: str, scale_set: ScaleSet | None = None) -> QueueSession:
        """The session, alive; ``scale_set`` is the one that it must be of."""
        session = self._alive.get(session_id)
        if session is None or (scale_set is not None and session.scale_set is not scale_set):
            raise no_session(session_id)
        session.seen_at = self._clock.now()
        return session

    def close(self, session: QueueSession) -> None:
        self._tick()
        self.end(session)

    def end(self, session: QueueSession) -> None:
        """The session is over, and the next may come; what it has not acknowledged is for that one."""
        if self._alive.pop(session.id, None) is None:
            return
        scale_set = session.scale_set
        scale_set.session, scale_set.polled, scale_set.capacity = None, False, None
        scale_set.left_at = self._clock.now()
        scale_set.wake()
        self._on_left(scale_set)

    def _silence_check(self, session: QueueSession) -> None:
        if session.id not in self._alive:
            return
        if session.polling:
            session.seen_at = self._clock.now()
        over_at = session.seen_at + self._behaviour().session_timeout
        if over_at <= self._clock.now():
            self.end(session)
        else:
            self._timers.at(over_at, lambda: self._silence_check(session))

    # The queue

    def next_message(self, session_id: str, *, after: int = 0) -> QueueMessage | None:
        """What the session is to read now; it stays to be read until it is acknowledged."""
        self._tick()
        session, behaviour = self.find(session_id), self._behaviour()
        scale_set = session.scale_set
        self._claims.fill(scale_set)
        return self._queues.next(
            scale_set,
            self._claims.statistics(scale_set),
            after=after if behaviour.skip_read else 0,
            statistics_alone=behaviour.statistics_messages,
        )

    async def wait_for_message(
        self, session_id: str, *, capacity: int | None = None, after: int = 0
    ) -> QueueMessage | None:
        """The same as a long poll, which tells how many jobs the scale set can have at most (None: does not tell)."""
        self._tick()
        session = self.find(session_id)
        scale_set = session.scale_set
        scale_set.polled, scale_set.capacity = True, capacity
        scale_set.capacities.append((self._clock.now(), capacity))
        until = self._clock.now() + self._behaviour().poll_seconds
        session.polling += 1
        try:
            while True:
                message = self.next_message(session_id, after=after)
                left = until - self._clock.now()
                if message is not None or left <= 0:
                    return message
                news, due = scale_set.news, self._timers.next()
                with anyio.move_on_after(left if due is None else max(0.001, min(left, due - self._clock.now()))):
                    await news.wait()
        finally:
            session.polling -= 1
            session.seen_at = self._clock.now()

    def acknowledge(self, session: QueueSession, message_id: int) -> None:
        self._tick()
        self._queues.acknowledge(session.scale_set, message_id)

    def acquire(self, session: QueueSession, request_ids: Iterable[int]) -> list[int]:
        """Take announced jobs; the ids of those that are the scale set's now."""
        self._tick()
        return self._claims.acquire(session.scale_set, request_ids)
