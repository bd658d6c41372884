"""The source that GitHub calls by itself: the message queue of each scale set, by a long poll; no port is opened.

What a message means is on disk before it is acknowledged, so a service that dies in between hears it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.labels import Labels
from slurm_gha.domain.scaleset import JobNews, Message, NewsKind, Place, ScaleSet, Statistics
from slurm_gha.github.errors import GitHubError
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.github.scaleset.errors import (
    QueueTokenExpired,
    ScaleSetExists,
    ScaleSetNotFound,
    SessionConflict,
    SessionGone,
)
from slurm_gha.github.scaleset.values import Session

Value = TypeVar("Value")
# A queue that gives nothing for this long holds no message from before its session (seconds).
QUIET = 0.5
# How often to see whether more can be run than the poll under way has told (seconds).
CAPACITY_LOOK = 5.0
# How often to see whether other pools are configured (seconds).
PLACES_LOOK = 5.0
# How long an announced job is kept that cannot be taken yet (seconds); GitHub announces what nobody takes anew.
ANNOUNCED_FOR = 600.0
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
# How long the end of the service waits for the end of its sessions (seconds).
FAREWELL = 3.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A scale set as it should be. ``group``: the runner group's name, in place of ``group_id``; "" for none."""

    place: Place
    name: str
    labels: Labels
    group_id: int = 1
    group: str = ""

    @property
    def all_labels(self) -> Labels:
        """With its name, by which jobs may ask for it too."""
        return self.labels | {self.name.lower()}


class Book(Protocol):
    """Where it is written down; see :class:`slurm_gha.controller.scalesets.ScaleSetBook`."""

    def session_of(self, place: Place) -> str | None: ...

    def found(self, place: Place, scale_set: ScaleSet, wanted: Labels, *, made: bool) -> None: ...

    def vanished(self, place: Place) -> None: ...

    def opened(self, place: Place, session_id: str, statistics: Statistics, *, fresh: bool) -> None: ...

    def closed(self, place: Place) -> None: ...

    def failed(self, place: Place, error: str, *, conflict: bool = False) -> None: ...

    def heard(self, place: Place, message: Message | None) -> None: ...

    def settle(self, place: Place) -> None: ...

    def waits_for_quiet(self, place: Place) -> bool: ...

    def assigned(self, place: Place) -> int: ...

    def follow(self, names: Mapping[Place, str]) -> None: ...


class ScaleSetSource:
    """Keeps each scale set, and a session of it, and listens. ``clients`` by scope.

    ``owner``: who we are to other controllers. ``wanted`` gives the scale sets as they should be, now; ``capacity`` is
    how many jobs one can have at the same time; ``may_run`` tells whether an available job is to be taken, None as long
    as that is not known.
    ``doubtful``: whether something ended of which no answer since then has told, so that it is worth asking anew.
    ``on_error``: hears of what nobody foresaw.
    """

    def __init__(
        self,
        wanted: Callable[[], Iterable[Wanted]],
        clients: Mapping[str, ScaleSetClient],
        book: Book,
        clock: Clock,
        *,
        owner: str,
        capacity: Callable[[Place], int],
        may_run: Callable[[Place, JobNews], bool | None] = lambda place, news: True,
        doubtful: Callable[[Place], bool] = lambda place: False,
        on_error: Callable[[str, Exception], None] = lambda where, error: None,
    ) -> None:
        self._clients = clients
        self._book = book
        self._clock = clock
        self._owner = owner
        self._wanted = wanted
        self._capacity = capacity
        self._may_run = may_run
        self._doubtful = doubtful
        self._on_error = on_error
        self._sessions: dict[Place, Session] = {}
        self._sets: dict[Place, ScaleSet] = {}
        # Announced jobs by request, with the time until which they are kept.
        self._announced: dict[Place, dict[int, tuple[JobNews, float]]] = {}
        self._running = anyio.CancelScope()

    async def run(self, woken: Callable[[], None]) -> None:
        """Listen until cancelled, or until :meth:`leave`; ``woken`` is called after news."""
        tasks: dict[Place, anyio.CancelScope] = {}

        async def keep(place: Place) -> None:
            with anyio.CancelScope() as tasks[place]:
                await self._keep(place, woken)
            if place in self._sessions:
                await self._part(place)

        with self._running:
            async with anyio.create_task_group() as group:
                while True:
                    places = self._follow()
                    for place in sorted(places - tasks.keys()):
                        group.start_soon(keep, place)
                    for place in sorted(tasks.keys() - places):
                        tasks.pop(place).cancel()
                    await self._clock.sleep(PLACES_LOOK)

    def _follow(self) -> set[Place]:
        """The places as they are configured now, known to the book."""
        names = {wanted.place: wanted.name for wanted in self._wanted()}
        self._book.follow(names)
        return set(names)

    async def leave(self) -> None:
        """Stop listening, and give the sessions back, so that another controller need not wait for their end."""
        self._running.cancel()
        with anyio.move_on_after(FAREWELL, shield=True):
            async with anyio.create_task_group() as group:
                for place in tuple(self._sessions):
                    group.start_soon(self._part, place)

    async def _part(self, place: Place) -> None:
        session = self._sessions.pop(place)
        try:
            await self._client(place).close_session(session)
        except GitHubError:
            return  # it ends by itself, or is taken up again by its id
        self._book.closed(place)

    async def _keep(self, place: Place, woken: Callable[[], None]) -> None:
        """One scale set for ever: whatever ends the listening, it begins anew after a while."""
        pause = FIRST_PAUSE
        while True:
            began = self._clock.now()
            try:
                await self._serve(place, woken)
            except SessionConflict as error:
                self._sessions.pop(place, None)
                self._book.failed(place, str(error), conflict=True)
            except ScaleSetNotFound:
                self._sessions.pop(place, None)
                self._sets.pop(place, None)
                self._book.vanished(place)
            except SessionGone as error:
                self._sessions.pop(place, None)
                self._book.closed(place)
                self._book.failed(place, str(error))
            except GitHubError as error:
                self._book.failed(place, str(error))
            except Exception as error:  # noqa: BLE001 - the edge of the loop
                self._on_error(f"reading the queue of pool {place.pool} in scope {place.scope}", error)
                self._book.failed(place, f"{type(error).__name__}")
            woken()
            if self._clock.now() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await self._clock.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    async def _serve(self, place: Place, woken: Callable[[], None]) -> None:
        """Listen; ends by an error only."""
        scale_set = self._sets.get(place) or await self._ensure(place)
        self._sets[place] = scale_set
        await self._open(place, scale_set)
        woken()
        last = 0
        while True:
            message = await self._next(place, last, woken)
            await self._acquire(place, message)
            self._book.heard(place, message)
            woken()
            if message is not None:
                number = message.id
                await self._in_session(place, lambda s, n=number: self._client(place).acknowledge(s, n))  # type: ignore[misc]
                last = number

    # The scale set

    async def _ensure(self, place: Place) -> ScaleSet:
        """The scale set as it is wanted: found, changed where it differs, or made."""
        wanted = next((each for each in self._wanted() if each.place == place), None)
        if wanted is None:
            raise GitHubError(f"pool {place.pool} does not serve scope {place.scope} any more")
        client, labels = self._client(place), wanted.all_labels
        group = await client.group_id(wanted.group) if wanted.group else wanted.group_id
        found, made = await client.find(wanted.name, group), False
        if found is None:
            try:
                found, made = await client.create(wanted.name, group, labels), True
            except ScaleSetExists:
                found = await client.find(wanted.name, group)
                if found is None:
                    raise
        elif found.labels != labels or found.disable_update is False:
            found = await client.update(found.id, wanted.name, group, labels)
        self._book.found(place, found, labels, made=made)
        return found

    # The session

    async def _open(self, place: Place, scale_set: ScaleSet) -> None:
        """Take up the session that is known (an earlier life's included), or make one; nobody else's is ever ended."""
        client = self._client(place)
        known = self._sessions[place].id if place in self._sessions else self._book.session_of(place)
        if known is not None:
            try:
                session = await client.refresh_session(scale_set.id, known)
            except (SessionGone, SessionConflict):
                self._sessions.pop(place, None)
                self._book.closed(place)
            else:
                self._has(place, session, fresh=False)
                return
        self._has(place, await client.open_session(scale_set.id, self._owner), fresh=True)

    def _has(self, place: Place, session: Session, *, fresh: bool) -> None:
        self._sessions[place] = session
        self._book.opened(place, session.id, session.statistics, fresh=fresh)

    async def _in_session(self, place: Place, call: Callable[[Session], Awaitable[Value]]) -> Value:
        """A call with the queue token; once more with a new one where it has expired."""
        session = self._sessions[place]
        try:
            return await call(session)
        except QueueTokenExpired:
            renewed = await self._client(place).refresh_session(session.scale_set_id, session.id)
            self._has(place, renewed, fresh=False)
            return await call(renewed)

    # The queue

    async def _next(self, place: Place, last: int, woken: Callable[[], None]) -> Message | None:
        """The answer to one poll, which is asked anew when more can be run than it told, or there is a doubt."""
        while True:
            answer = await self._poll(place, last, woken)
            if answer is not None:
                return answer[0]

    async def _poll(self, place: Place, last: int, woken: Callable[[], None]) -> tuple[Message | None] | None:
        """One poll's answer; None where it was given up, to be asked anew."""
        told = self._to_tell(place)
        answers: list[tuple[Message | None]] = []
        failures: list[GitHubError] = []
        async with anyio.create_task_group() as group:

            async def poll() -> None:
                try:
                    answers.append((await self._in_session(place, lambda s: self._client(place).poll(s, last, told)),))
                except GitHubError as error:
                    failures.append(error)
                group.cancel_scope.cancel()

            group.start_soon(poll)
            try:
                await self._look_after(place, told, woken)
            except GitHubError as error:
                failures.append(error)
            group.cancel_scope.cancel()
        if failures:
            raise failures[0]
        return answers[0] if answers else None

    async def _look_after(self, place: Place, told: int, woken: Callable[[], None]) -> None:
        """While a poll waits; ends when it should be asked anew."""
        unsettled = self._book.waits_for_quiet(place)
        await self._clock.sleep(QUIET)
        self._book.settle(place)
        if unsettled:
            woken()
        while True:
            await self._clock.sleep(CAPACITY_LOOK)
            many = self._book.assigned(place) + len(self._announced.get(place, ())) >= told
            if (many and told < self._to_tell(place)) or self._doubtful(place):
                return
            await self._acquire(place, None)

    def _to_tell(self, place: Place) -> int:
        """Our capacity as GitHub is told of it: announced jobs that may not run (yet) take no room from others."""
        capacity = self._capacity(place)
        barred = sum(not self._may_run(place, item) for item, _ in self._announced.get(place, {}).values())
        return capacity + barred if capacity else 0

    async def _acquire(self, place: Place, message: Message | None) -> None:
        """Take what is available and may run, as far as there is room; what is taken comes as assigned."""
        now, news = self._clock.now(), message.news if message is not None else ()
        kept = self._announced.get(place, {})
        open_ = {number: known for number, known in kept.items() if known[1] > now}
        for item in news:
            if item.kind is NewsKind.AVAILABLE and item.request_id:
                open_[item.request_id] = (item, now + ANNOUNCED_FOR)
            else:
                open_.pop(item.request_id, None)
        self._announced[place] = open_
        if not open_:
            return
        answers = {number: self._may_run(place, item) for number, (item, _) in open_.items()}
        counted = message.statistics if message is not None else None
        assigned = counted.assigned if counted is not None else self._book.assigned(place)
        room = max(0, self._capacity(place) - assigned)
        ids = [number for number, answer in answers.items() if answer][:room]
        if ids:
            await self._in_session(place, lambda session: self._client(place).acquire(session, ids))
            for number in ids:
                open_.pop(number, None)

    def _client(self, place: Place) -> ScaleSetClient:
        return self._clients[place.scope]
