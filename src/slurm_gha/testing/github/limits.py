"""GitHub's limits on calls, and the count of them.

The primary limit is a budget an hour for each token; an answer 304 is not counted. The secondary limits (points a
minute, content-creating writes a minute, calls at a time) refuse with 403 or 429, in one of the ways that are known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from slurm_gha.domain.clock import Clock
from slurm_gha.testing.github.values import Token

HOUR = 3600.0
MINUTE = 60.0
WRITE_POINTS = 5


@dataclass(frozen=True, slots=True)
class Rules:
    """Which limits hold; None or False: that one is off. ``refusal`` is how a secondary one says when to come back."""

    primary: bool = True
    points_per_minute: int | None = 900
    writes_per_minute: int | None = 80
    concurrent: int | None = 100
    status: Literal[403, 429] = 403
    refusal: Literal["retry-after", "reset", "neither"] = "retry-after"


@dataclass(slots=True)
class Count:
    """Calls made: ``counted`` against the primary limit, and ``uncounted`` (304, rate_limit)."""

    counted: int = 0
    uncounted: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that a limit stops: the answer's status, message and headers."""

    status: int
    message: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Use:
    limit: int
    window_end: float = 0.0
    used: int = 0
    running: int = 0
    calls: deque[tuple[float, int]] = field(default_factory=deque)
    points: int = 0
    writes: deque[float] = field(default_factory=deque)


class Limits:
    """The use each token makes of the service."""

    def __init__(self, clock: Clock, rules: Rules | None = None) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}
        self.rules = rules or Rules()
        self.counters: dict[tuple[str, str], Count] = {}

    def enter(self, token: Token, *, write: bool) -> Refused | None:
        """A call begins: why it is refused, or None. A call let in must :meth:`leave`."""
        use = self._use(token)
        now = self._clock.now()
        if self.rules.primary and use.used >= use.limit:
            return Refused(403, f"API rate limit exceeded for user {token.login}.", {})
        reason = self._secondary(use, now, write=write)
        if reason is not None:
            return self._refuse(reason, now)
        use.running += 1
        return None

    def leave(self, token: Token, route: str, *, counted: bool) -> None:
        """A call is over."""
        use = self._use(token)
        use.running -= 1
        count = self.counters.get((token.name, route))
        if count is None:
            count = self.counters[token.name, route] = Count()
        if counted:
            count.counted += 1
            use.used += 1
        else:
            count.uncounted += 1

    def headers(self, token: Token) -> list[tuple[bytes, bytes]]:
        """The X-RateLimit headers as they stand now."""
        use = self._use(token)
        return [
            (b"x-ratelimit-limit", b"%d" % use.limit),
            (b"x-ratelimit-remaining", b"%d" % max(0, use.limit - use.used)),
            (b"x-ratelimit-used", b"%d" % use.used),
            (b"x-ratelimit-reset", b"%d" % use.window_end),
            (b"x-ratelimit-resource", b"core"),
        ]

    def overview(self, token: Token) -> dict[str, int]:
        """The core budget as ``GET /rate_limit`` shows it."""
        use = self._use(token)
        left = max(0, use.limit - use.used)
        return {"limit": use.limit, "used": use.used, "remaining": left, "reset": int(use.window_end)}

    def totals(self) -> Count:
        """All calls of all tokens."""
        counts = self.counters.values()
        return Count(sum(each.counted for each in counts), sum(each.uncounted for each in counts))

    def spend(self, token: Token, calls: int) -> None:
        """Somebody else has used the token for so many calls."""
        self._use(token).used += calls

    def _use(self, token: Token) -> _Use:
        use = self._uses.get(token.account)
        if use is None:
            use = self._uses[token.account] = _Use(token.limit_per_hour)
        now = self._clock.now()
        if now >= use.window_end:
            use.window_end, use.used = float(int(now + HOUR)), 0
        use.limit = token.limit_per_hour
        return use

    def _secondary(self, use: _Use, now: float, *, write: bool) -> str | None:
        rules = self.rules
        if rules.concurrent is not None and use.running >= rules.concurrent:
            return "too many calls at a time"
        if rules.points_per_minute is not None:
            while use.calls and use.calls[0][0] <= now - MINUTE:
                use.points -= use.calls.popleft()[1]
            cost = WRITE_POINTS if write else 1
            if use.points + cost > rules.points_per_minute:
                return "too many points in a minute"
            use.calls.append((now, cost))
            use.points += cost
        if write and rules.writes_per_minute is not None:
            while use.writes and use.writes[0] <= now - MINUTE:
                use.writes.popleft()
            if len(use.writes) >= rules.writes_per_minute:
                return "too many writes in a minute"
            use.writes.append(now)
        return None

    def _refuse(self, reason: str, now: float) -> Refused:
        message = f"You have exceeded a secondary rate limit: {reason}."
        headers: dict[str, str] = {}
        match self.rules.refusal:
            case "retry-after":
                headers = {"retry-after": "60"}
            case "reset":
                headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(now + MINUTE) + 1)}
        return Refused(self.rules.status, message, headers)
