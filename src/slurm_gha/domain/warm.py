"""How many runners a pool keeps free ahead of demand, by the week's schedule. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
# An idle runner goes at this multiple of the age at which it is to be replaced, whether or not its successor is there.
LAST_MOMENT = 1.5


@dataclass(frozen=True, slots=True)
class Hours:
    """Weekly hours with their own number of idle runners, by the clock on the wall.

    ``days``: 0 is Monday. ``start`` and ``end``: minutes since midnight; an ``end`` that is not after ``start`` is on
    the next day. In the hour that a clock set back shows twice, they are in force twice.
    """

    days: frozenset[int]
    start: int
    end: int
    min_idle: int

    def cover(self, weekday: int, minute: int) -> bool:
        """Whether they are in force at a minute of a day of the week."""
        if self.start < self.end:
            return weekday in self.days and self.start <= minute < self.end
        return (weekday in self.days and minute >= self.start) or ((weekday - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True, slots=True)
class Warm:
    """What a pool keeps ready for each of its scopes, beyond what queued jobs need.

    ``min_idle``: outside of all ``hours``. ``recycle_after``: the age (seconds) at which an idle runner is replaced,
    since GitHub drops idle runners and refuses credentials after about an hour.
    """

    min_idle: int = 0
    hours: tuple[Hours, ...] = ()
    timezone: str = "UTC"
    recycle_after: float = 1800.0

    def wanted(self, now: float) -> int:
        """How many idle runners are wanted at a moment (seconds since the epoch): the most of the hours in force."""
        if not self.hours:
            return self.min_idle
        local = datetime.fromtimestamp(now, zone(self.timezone))
        minute = local.hour * 60 + local.minute
        return max(
            (hours.min_idle for hours in self.hours if hours.cover(local.weekday(), minute)), default=self.min_idle
        )


NEVER = Warm()
"""Keeps nothing ready."""


@lru_cache(maxsize=64)
def zone(name: str) -> tzinfo:
    """The time zone of that name; raises KeyError or ValueError for what is none. UTC needs no database."""
    return UTC if name == "UTC" else ZoneInfo(name)


def weekdays(names: Collection[str]) -> frozenset[int]:
    """The numbers of days, Monday being 0."""
    return frozenset(DAYS.index(name) for name in names)
