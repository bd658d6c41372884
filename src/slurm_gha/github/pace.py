"""How fast to ask: the points of a minute, and what polling may take of the hour."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from slurm_gha.github.wire import Rate

# Reads and writes share the points of a minute; neither may take all of them from the other.
READ_SHARE = 0.8
WRITE_SHARE = 0.9
# What steady polling may take of the points, so that there is room for retries and for work to be done.
POLL_SHARE = 0.5


class Call(StrEnum):
    """What a request is to GitHub's limits. MINT is a write that may have a bucket of its own."""

    READ = "read"
    WRITE = "write"
    MINT = "mint"

    @property
    def points(self) -> int:
        """The weight in the secondary limit (docs.github.com: GET 1, POST, PATCH, PUT, DELETE 5)."""
        return 1 if self is Call.READ else 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What we allow ourselves. GitHub's own secondary limits are 900 points and 80 content-creating writes a minute,
    and 100 requests at a time (docs.github.com, "About secondary rate limits").

    ``reserve``: so many calls of the hour are kept for writes; at most a tenth of the bucket.
    """

    points_per_minute: int = 600
    writes_per_minute: int = 75
    concurrent: int = 16
    reserve: int = 200

    def reserve_of(self, limit: int) -> int:
        """The calls of a bucket that are kept for writes."""
        return min(self.reserve, limit // 10)


def steady_reads(limits: Limits) -> float:
    """Reads a second that all polling of a token may make together: its share of the points."""
    return limits.points_per_minute * POLL_SHARE / 60.0


def affordable_reads(counted: float, rate: Rate, limits: Limits, now: float) -> float:
    """Reads a second that make the bucket last until its reset, where ``counted`` (0 to 1) of them are counted.

    While more than half of the bucket is left, or nothing is counted, there is none (infinity): work comes in bursts.
    """
    left = rate.remaining - limits.reserve_of(rate.limit)
    time_left = rate.reset - now
    if rate.remaining * 2 > rate.limit or not 0 < time_left <= 3600.0 or counted <= 0:
        return math.inf
    return max(0, left) / time_left / counted


def fair_share(demand: float, others: Iterable[float], rate: float) -> float:
    """What one of several that draw on ``rate`` may have: those that want little get it, the rest is shared equally.

    At least its equal part, even where it wants less: a demand may grow. All are in the same unit, e.g. reads a second.
    """
    demands = sorted([demand, *others])
    left, level = rate, math.inf
    for position, each in enumerate(demands):
        equal = left / (len(demands) - position)
        if each > equal:
            level = equal
            break
        left -= each
    return max(min(demand, level), rate / len(demands))


class Window:
    """Points spent within the last minute, by second."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # [second, read points, write points]
        self.reads = 0
        self.writes = 0

    def expire(self, now: float) -> None:
        seconds = self._seconds
        if seconds and now < seconds[-1][0]:  # the clock was set back
            seconds.clear()
            self.reads = self.writes = 0
        while seconds and seconds[0][0] + 61 <= now:
            _, reads, writes = seconds.popleft()
            self.reads -= reads
            self.writes -= writes

    def spend(self, call: Call, now: float) -> None:
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        if call is Call.READ:
            self._seconds[-1][1] += call.points
            self.reads += call.points
        else:
            self._seconds[-1][2] += call.points
            self.writes += call.points

    def wait(self, call: Call, limits: Limits, now: float) -> float:
        """Seconds until the call fits; 0 when it does now. A window left empty lets any call through."""
        self.expire(now)
        reads, writes = self.reads, self.writes
        if _fits(call, reads, writes, limits):
            return 0.0
        for second, second_reads, second_writes in self._seconds:
            reads -= second_reads
            writes -= second_writes
            if _fits(call, reads, writes, limits):
                return second + 61 - now + 0.001  # past the border, whatever the rounding
        return 0.0


def _fits(call: Call, reads: int, writes: int, limits: Limits) -> bool:
    points = limits.points_per_minute
    if reads + writes == 0:
        return True
    if reads + writes + call.points > points:
        return False
    if call is Call.READ:
        return reads == 0 or reads + 1 <= points * READ_SHARE
    return writes == 0 or writes + call.points <= min(points * WRITE_SHARE, limits.writes_per_minute * call.points)
