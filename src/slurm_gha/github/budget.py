"""How much may be asked of GitHub with one token, and when: primary budget, secondary limits, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.github.errors import RateLimited
from slurm_gha.github.pace import Call, Limits, Window, affordable_reads, fair_share, steady_reads
from slurm_gha.github.wire import Rate, Refusal

# The longest wait that is believed, whatever a header says or a clock that was set back suggests: two windows.
LONGEST_WAIT = 7200.0
FIRST_PENALTY = 60.0
LONGEST_PENALTY = 1800.0
# How much the latest read weighs in the part of the reads that is counted: some hundreds of reads are remembered.
COUNTED_WEIGHT = 0.005
# Two answers of one window can show resets a moment apart.
SAME_WINDOW = 5.0


@dataclass(frozen=True, slots=True)
class BudgetSnapshot:
    """The budget as shown in status and metrics. Times are seconds since the epoch; None: not known yet, or none.

    ``uncounted`` are the 304 answers (and calls that GitHub does not count), ``unanswered`` those that failed
    without one, ``refused`` the answers that were a rate limit, ``held_back`` the calls not made because of one.
    """

    limit: int | None
    remaining: int | None
    reset: float | None
    blocked_until: float | None
    counted: int
    uncounted: int
    unanswered: int
    refused: int
    held_back: int
    points_last_minute: int
    buckets: Mapping[str, Rate]


def merge(known: Rate | None, seen: Rate, now: float) -> Rate:
    """What to believe of a bucket after an answer; answers to concurrent requests arrive in any order."""
    if known is None or known.reset <= now or known.limit != seen.limit or seen.reset > known.reset + SAME_WINDOW:
        return seen
    if seen.reset < known.reset - SAME_WINDOW:
        return known
    return seen if seen.remaining <= known.remaining else known


def penalty(strikes: int) -> float:
    """Seconds to wait after the n-th refusal in a row that came without a time (at least a minute, growing)."""
    return min(LONGEST_PENALTY, FIRST_PENALTY * 2.0 ** min(strikes - 1, 10))


def resume_at(refusal: Refusal, strikes: int, now: float) -> float:
    """When to ask again after a refusal. A time in the past (clocks differ) is no leave to ask on in a hot loop."""
    if refusal.until is None:
        return now + penalty(strikes)
    if refusal.until > now:
        return min(max(refusal.until, now + 1.0), now + LONGEST_WAIT)
    return now + (1.0 if strikes <= 1 else penalty(strikes - 1))


class Admission:
    """Leave for one request; given back with :meth:`Budget.release`."""

    __slots__ = ("answered", "at", "bucket", "call")

    def __init__(self, call: Call, bucket: str, at: float) -> None:
        self.call = call
        self.bucket = bucket
        self.at = at
        self.answered = False


class Budget:
    """One token's budget. ``async`` only where a call waits for its turn within the points of a minute."""

    def __init__(self, clock: Clock, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._clock = clock
        self._window = Window()
        self._queues = {call: anyio.Lock() for call in Call}
        self._buckets: dict[str, Rate] = {}
        self._bucket_of: dict[Call, str] = {}
        self._blocked: dict[str, float] = {}  # by bucket; "" is the whole token
        self._strikes = 0
        self._struck_at = float("-inf")
        self._in_flight: dict[str, int] = {}
        self._demands: dict[str, float] = {}
        self._counted_part = 0.0
        self._counted = self._uncounted = self._unanswered = self._refused = self._held_back = 0

    async def admit(self, call: Call) -> Admission:
        """Wait for the call's turn; raises RateLimited where it would be refused, or would eat the reserve."""
        queue = self._queues[call]
        if queue.locked() or self._window.wait(call, self.limits, self._clock.now()) > 0:
            async with queue:  # first come, first served
                while (wait := self._window.wait(call, self.limits, self._clock.now())) > 0:
                    self.check(call)
                    await self._clock.sleep(wait)
                return self._admit(call)
        return self._admit(call)

    def check(self, call: Call, *, own: Admission | None = None) -> None:
        """Raise RateLimited if the call must not be made now. ``own`` is not counted against itself."""
        refusal = self._refusal(call, self._clock.now(), 0 if own is None else 1)
        if refusal is not None:
            self._held_back += 1
            if own is not None:
                own.answered = True  # by ourselves
            raise refusal

    def release(self, admission: Admission) -> None:
        """The request is over; one that was never answered is counted as such."""
        self._in_flight[admission.bucket] -= 1
        if not admission.answered:
            self._unanswered += 1

    def answered(self, admission: Admission, rate: Rate | None, *, counted: bool, success: bool) -> None:
        """Take note of an answer that was no rate limit's."""
        admission.answered = True
        if counted:
            self._counted += 1
        else:
            self._uncounted += 1
        if admission.call is Call.READ:
            self._counted_part += COUNTED_WEIGHT * (counted - self._counted_part)
        self._learn(admission, rate)
        # A success that was under way before the refusal says nothing about what came after it.
        if success and admission.at > self._struck_at:
            self._strikes = 0

    def refused(self, admission: Admission, rate: Rate | None, refusal: Refusal) -> float:
        """Take note of a rate limit's answer; gives the time (seconds since the epoch) to ask again."""
        now = self._clock.now()
        admission.answered = True
        self._counted += 1
        self._refused += 1
        self._learn(admission, rate)
        key = (rate.resource if rate is not None else admission.bucket) if refusal.primary else ""
        # Refusals of requests that were sent before the first one of them came back are one strike.
        if admission.at > self._struck_at or self._strikes == 0:
            self._strikes += 1
            self._struck_at = now
        until = resume_at(refusal, self._strikes, now)
        self._blocked[key] = max(until, self._blocked.get(key, 0.0))
        return self._blocked[key]

    def share(self, reader: str, demand: float) -> float:
        """Reads a second that ``reader`` (a name) may make by polling; it would like to make ``demand``.

        All readers of a token share what the minute's points and the hour's budget allow.
        """
        self._demands[reader] = demand
        others = (wanted for name, wanted in self._demands.items() if name != reader)
        rate = self._buckets.get(self._bucket_of.get(Call.READ, "core"))
        allowed = steady_reads(self.limits)
        if rate is not None:
            allowed = min(allowed, affordable_reads(self._counted_part, rate, self.limits, self._clock.now()))
        return fair_share(demand, others, allowed)

    def snapshot(self) -> BudgetSnapshot:
        now = self._clock.now()
        self._window.expire(now)
        core = self._buckets.get("core")
        blocked = [until for until in self._blocked.values() if now < until <= now + LONGEST_WAIT]
        return BudgetSnapshot(
            limit=None if core is None else core.limit,
            remaining=None if core is None else (core.limit if core.reset <= now else core.remaining),
            reset=None if core is None else core.reset,
            blocked_until=max(blocked, default=None),
            counted=self._counted,
            uncounted=self._uncounted,
            unanswered=self._unanswered,
            refused=self._refused,
            held_back=self._held_back,
            points_last_minute=self._window.reads + self._window.writes,
            buckets=MappingProxyType(dict(self._buckets)),
        )

    def _admit(self, call: Call) -> Admission:
        self.check(call)
        now = self._clock.now()
        self._window.spend(call, now)
        bucket = self._bucket_of.get(call, "core")
        self._in_flight[bucket] = self._in_flight.get(bucket, 0) + 1
        return Admission(call, bucket, now)

    def _learn(self, admission: Admission, rate: Rate | None) -> None:
        if rate is not None and (rate.resource in self._buckets or len(self._buckets) < 32):
            self._bucket_of[admission.call] = rate.resource
            self._buckets[rate.resource] = merge(self._buckets.get(rate.resource), rate, self._clock.now())

    def _refusal(self, call: Call, now: float, own: int) -> RateLimited | None:
        bucket = self._bucket_of.get(call, "core")
        if self._blocked:
            for key in ("", bucket):
                until = self._blocked.get(key)
                if until is not None and now < until <= now + LONGEST_WAIT:
                    return RateLimited(f"GitHub asked to wait; next call at {_moment(until)}", until=until)
        rate = self._buckets.get(bucket)
        if rate is None or not now < rate.reset <= now + LONGEST_WAIT:
            return None
        left = rate.remaining - self._in_flight.get(bucket, 0) + own
        if left <= 0:
            text = f"the token's rate budget ({rate.limit} an hour, {bucket}) is spent until {_moment(rate.reset)}"
            return RateLimited(text, until=rate.reset)
        if call is Call.READ and left <= self.limits.reserve_of(rate.limit):
            text = f"the last {left} of {rate.limit} calls are kept for starting runners until {_moment(rate.reset)}"
            return RateLimited(text, until=rate.reset)
        return None


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%SZ")
