"""Which repositories of a scope to look at this time, where not all can be: a pure choice within what may be spent.

Where a whole look at every repository is affordable, that is what is done. Elsewhere what may be spent has three
parts: for repositories where something happens (hot), for a glance at each of the others in turn, and for whole looks
in turn. No part can starve another; what one does not need goes to the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

# The parts of the three purposes, while all of them could use more.
HOT_PART, GLANCE_PART, WHOLE_PART = 0.6, 0.25, 0.15
# So much that was not spent is kept for later, in seconds of income.
KEPT = 60.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One repository. Times are those of the beginning of its latest looks, seconds since the epoch; None: never.

    ``known``: all of its jobs are known as of ``seen_at``; otherwise only a whole look helps. ``glance`` and ``whole``:
    requests that such a look takes. ``hot``: it has jobs, or runners of ours, or will soon. ``urgent``: something
    happened there since it was looked at.
    """

    name: str
    seen_at: float | None = None
    whole_at: float | None = None
    known: bool = False
    glance: int = 1
    whole: int = 5
    hot: bool = False
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """A look at one repository: at its newest runs, or ``whole``, by all listings."""

    name: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Purse:
    """Requests that may be made, by purpose. A look is begun while its part is above zero, and may overdraw it once."""

    hot: float = 0.0
    glance: float = 0.0
    whole: float = 0.0

    @property
    def total(self) -> float:
        return self.hot + self.glance + self.whole

    def earn(self, pace: float, seconds: float) -> Purse:
        """The purse after so many seconds at ``pace`` requests a second; it holds a minute's income at most."""
        income = max(0.0, min(pace * seconds, pace * KEPT - self.total))
        return Purse(self.hot + income * HOT_PART, self.glance + income * GLANCE_PART, self.whole + income * WHOLE_PART)

    def pay(self, requests: float) -> Purse:
        """The purse after looks that nobody chose (somebody said where to look)."""
        return replace(self, hot=self.hot - requests)


def choose(standings: Sequence[Standing], purse: Purse) -> tuple[tuple[Look, ...], Purse]:
    """The looks to take now, those that matter most first, and what they leave in the purse."""
    if sum(standing.whole for standing in standings) <= purse.total:
        ordered = sorted(standings, key=lambda s: (not s.urgent, not s.hot, s.name))
        spent = sum(standing.whole for standing in standings)
        return tuple(Look(standing.name, whole=True) for standing in ordered), _spread(purse, spent)
    turn = _Turn(standings, purse)
    turn.urgent()
    turn.unseen()
    # Each purpose has its part for sure; then those that could use more have what is left.
    turn.glances()
    turn.wholes()
    turn.lend()
    turn.urgent()
    turn.hot()
    turn.share_out()
    turn.glances()
    turn.rest()
    turn.wholes()
    return tuple(turn.looks), turn.purse


def round_seconds(standings: Sequence[Standing], pace: float) -> float:
    """How long it may take at most, at ``pace`` requests a second, until each repository has been looked at anew.

    As things are: of repositories whose jobs are all known, by a glance; a hot one is looked at more often.
    """
    if pace <= 0:
        return 0.0
    in_turn = sum(standing.glance if standing.known else standing.whole for standing in standings)
    # Before any turn comes, each has been glanced at once.
    unseen = sum(standing.glance for standing in standings if standing.seen_at is None)
    return in_turn / (pace * GLANCE_PART) + unseen / (pace * (GLANCE_PART + WHOLE_PART))


class _Turn:
    """One choice in the making."""

    def __init__(self, standings: Sequence[Standing], purse: Purse) -> None:
        self.looks: list[Look] = []
        self._left = {standing.name: standing for standing in standings}
        self._hot, self._glance, self._whole = purse.hot, purse.glance, purse.whole

    @property
    def purse(self) -> Purse:
        return Purse(self._hot, self._glance, self._whole)

    def urgent(self) -> None:
        for standing in self._in_order(s for s in self._left.values() if s.urgent):
            if self._hot <= 0:
                return
            self._hot -= self._take(standing)

    def unseen(self) -> None:
        """Repositories never looked at come before any that is looked at again: a glance each."""
        for standing in self._in_order(s for s in self._left.values() if s.seen_at is None):
            if self._hot > 0:
                self._hot -= self._take(standing)
            elif self._glance > 0:
                self._glance -= self._take(standing)
            elif self._whole > 0:
                self._whole -= self._take(standing)
            else:
                return

    def hot(self) -> None:
        for standing in self._in_order(s for s in self._left.values() if s.hot):
            if self._hot <= 0:
                return
            self._hot -= self._take(standing)

    def glances(self) -> None:
        """One after the other; where not all jobs are known, a whole look in place of the glance."""
        for standing in self._in_order(s for s in self._left.values() if s.seen_at is not None):
            if self._glance <= 0:
                return
            self._glance -= self._take(standing)

    def wholes(self) -> None:
        """First where jobs may be that are not known of, then where the last whole look is the longest ago."""
        waiting = [s for s in self._left.values() if s.seen_at is not None]
        waiting.sort(key=lambda s: (s.known, -1.0 if s.whole_at is None else s.whole_at, s.name))
        for standing in waiting:
            if self._whole <= 0:
                return
            self._whole -= self._take(standing, whole=True)

    def lend(self) -> None:
        """What turns out not to be needed for looks in turn."""
        self._hot += max(0.0, self._glance) + max(0.0, self._whole)
        self._glance, self._whole = min(0.0, self._glance), min(0.0, self._whole)

    def share_out(self) -> None:
        """What hot repositories leave."""
        if self._hot > 0:
            both = GLANCE_PART + WHOLE_PART
            self._glance += self._hot * GLANCE_PART / both
            self._whole += self._hot * WHOLE_PART / both
            self._hot = 0.0

    def rest(self) -> None:
        """What is left when all have had their glance."""
        self._whole += max(0.0, self._glance)
        self._glance = min(0.0, self._glance)

    def _take(self, standing: Standing, *, whole: bool = False) -> int:
        # A glance where not all is known would only tell that a whole look is needed.
        whole = whole or (standing.seen_at is not None and not standing.known)
        del self._left[standing.name]
        self.looks.append(Look(standing.name, whole))
        return standing.whole if whole else standing.glance

    @staticmethod
    def _in_order(standings: Iterable[Standing]) -> list[Standing]:
        return sorted(standings, key=lambda s: (-1.0 if s.seen_at is None else s.seen_at, s.name))


def _spread(purse: Purse, spent: float) -> Purse:
    """The purse after spending on all purposes together."""
    left = purse.total - spent
    return Purse(left * HOT_PART, left * GLANCE_PART, left * WHOLE_PART)
