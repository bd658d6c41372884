"""The source that GitHub pushes to: deliveries come by themselves, and here is looked after those that never came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.hint import Hint
from slurm_gha.github.errors import Forbidden, GitHubError, NotFound
from slurm_gha.github.hooks import Attempt, Hook, NoHook, missed
from slurm_gha.observe.events import Bus, CatchUpImpossible, DeliveriesMissed

# GitHub's history of deliveries (seconds).
HISTORY = 3 * 86400.0
# Deliveries asked for again in one turn. Where more were missed, a look at the whole scope is the cheaper remedy.
MOST_REPEATED = 30
# What GitHub is still delivering is not lost yet (seconds).
UNDER_WAY = 15.0


class HookDesk(Protocol):
    """One scope's hook on GitHub; :class:`slurm_gha.github.hooks.Hooks` fits. Methods raise GitHubError."""

    async def find(self) -> Hook: ...

    async def attempts(self, hook: Hook, since: float) -> list[Attempt]: ...

    async def repeat(self, hook: Hook, attempt: Attempt) -> None: ...


class Book(Protocol):
    """What was taken, and how far GitHub's history has been read: see the journal."""

    def knows(self, guid: str) -> bool: ...

    def caught_up(self, whose: str) -> float | None: ...

    def set_caught_up(self, whose: str, at: float) -> None: ...


class Sharers:
    """Which scopes have found that they share a hook, as several may an App's: one of them catches up for all."""

    def __init__(self) -> None:
        self._scopes: dict[str, list[str]] = {}

    def join(self, shared: str, scope: str) -> tuple[str, ...]:
        """All who share the hook, the scope among them; the first is the one that catches up."""
        scopes = self._scopes.setdefault(shared, [])
        if scope not in scopes:
            scopes.append(scope)
        return tuple(scopes)

    def leave(self, scope: str) -> None:
        """The scope cannot use its hook: the next one's turn."""
        for scopes in self._scopes.values():
            if scope in scopes:
                scopes.remove(scope)


class CatchUp:
    """Asks, for one scope, for deliveries that never got through: at the start, then every ``interval`` seconds.

    Scopes with the same ``sharers`` do not ask for the same delivery of a hook that they share.
    """

    def __init__(
        self,
        scope: str,
        hooks: HookDesk,
        book: Book,
        clock: Clock,
        bus: Bus,
        *,
        interval: float,
        sharers: Sharers | None = None,
    ) -> None:
        self._scope = scope
        self._sharers = Sharers() if sharers is None else sharers
        self._hooks = hooks
        self._book = book
        self._clock = clock
        self._bus = bus
        self._interval = interval
        self._hook: Hook | None = None
        self._told = ""

    async def run(self, nudge: Callable[[Hint], None]) -> None:
        """Until cancelled. Failures are told once, and what they leave undone is left to the poll."""
        while True:
            try:
                await self.turn(nudge)
                self._told = ""
            except (Forbidden, NotFound, NoHook) as error:
                self._hook = None
                self._sharers.leave(self._scope)
                self._complain(type(error).__name__, str(error))
            except GitHubError:
                pass  # the next turn begins where the last one that worked ended
            await self._clock.sleep(self._interval)

    async def turn(self, nudge: Callable[[Hint], None]) -> None:
        """Read the history since the last turn, and have sent again what was missed. Raises GitHubError and NoHook."""
        if self._hook is None:
            self._hook = await self._hooks.find()
        shared = self._hook.shared
        # What was lost goes to the hook's URL whoever asks for it, and from there to the scope of its repository.
        scopes = self._sharers.join(shared, self._scope) if shared else (self._scope,)
        if scopes[0] == self._scope:
            await self._catch_up(self._hook, scopes, nudge)

    async def _catch_up(self, hook: Hook, scopes: tuple[str, ...], nudge: Callable[[Hint], None]) -> None:
        now, whose = self._clock.now(), hook.shared or self._scope
        known = self._book.caught_up(whose)
        # Before the first turn of all there is nothing to catch up with: the first look at the scope shows what waits.
        since = max(now - self._interval if known is None else known, now - HISTORY)
        attempts = await self._hooks.attempts(hook, since)
        settled = [attempt for attempt in attempts if attempt.at <= now - UNDER_WAY]
        lost = [attempt for attempt in missed(attempts) if not self._book.knows(attempt.guid)]
        lost = [attempt for attempt in lost if attempt.at <= now - UNDER_WAY]
        again = lost[-MOST_REPEATED:]
        if lost:
            self._bus.emit(DeliveriesMissed(at=now, scope=self._scope, missed=len(lost), asked=len(again)))
        if len(lost) > len(again):
            for scope in scopes:
                nudge(Hint(scope))
        for attempt in again:
            await self._hooks.repeat(hook, attempt)
        # Those asked for again show up as new tries, by which the next turn sees whether they got through.
        reached = max((attempt.at for attempt in settled), default=since)
        self._book.set_caught_up(whose, max(since, reached))

    def _complain(self, kind: str, reason: str) -> None:
        if kind != self._told:
            self._told = kind
            self._bus.emit(CatchUpImpossible(at=self._clock.now(), scope=self._scope, reason=reason))
