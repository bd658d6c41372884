"""Which jobs a pool lets run: lists of what is allowed, and the ruling on one job. Pure.

What GitHub tells of a run decides, not what the run's code says of itself. All that a list leaves out is refused; an
empty list is no limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from slurm_gha.domain.job import Job, Origin

_STAR, _STARS = "*", "**"


class Ground(StrEnum):
    """What a job is refused for, or what has to be known first. ORIGIN: GitHub can never tell what set it going."""

    REPOSITORY = "repository"
    EVENT = "event"
    BRANCH = "branch"
    ACTOR = "actor"
    FORK = "fork"
    ORIGIN = "origin"


class Answer(StrEnum):
    """UNKNOWN: GitHub has not told yet what the ruling depends on."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ruling:
    """The answer, and for all but ALLOWED its ground and a sentence that follows "pool X does not let it run: "."""

    answer: Answer
    ground: Ground | None = None
    reason: str = ""


ALLOWED = Ruling(Answer.ALLOWED)


@dataclass(frozen=True, slots=True)
class Allow:
    """Lists of what may run. ``repositories`` (``owner/name``) and ``branches`` are patterns: ``*`` stands for any
    characters but ``/``, ``**`` for any; ``repositories`` and ``actors`` are compared without regard to case.

    ``branches``: of the repository itself; no branch of a fork is among them. ``forks``: whether a run may have its
    head in another repository, as a pull request from a fork has.
    """

    repositories: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    forks: bool = False

    @property
    def limits(self) -> bool:
        """Whether there is anything it does not allow."""
        return self != EVERYTHING

    def rule(self, job: Job) -> Ruling:
        """Whether the job may run."""
        if self.repositories and not _any_matches(_lower(self.repositories), job.repository.lower()):
            return Ruling(
                Answer.REFUSED, Ground.REPOSITORY, f"repository {job.repository} is not among its repositories"
            )
        origin = job.origin or Origin()
        rulings = [ruling for ruling in self._of(origin) if ruling is not None]
        refused = next((ruling for ruling in rulings if ruling.answer is Answer.REFUSED), None)
        if refused is not None or not rulings:
            return refused or ALLOWED
        unknown = rulings[0]
        if job.run_id <= 0:
            lost = "GitHub does not tell which run it belongs to, and so not whether it may run"
            return Ruling(Answer.REFUSED, Ground.ORIGIN, lost)
        return unknown

    def _of(self, origin: Origin) -> tuple[Ruling | None, ...]:
        return self._event(origin), self._fork(origin), self._branch(origin), self._actor(origin)

    def _event(self, origin: Origin) -> Ruling | None:
        if not self.events or origin.event in self.events:
            return None
        return _ruling(Ground.EVENT, origin.event, f"event {origin.event or 'without a name'} is not among its events")

    def _fork(self, origin: Origin) -> Ruling | None:
        if self.forks or origin.fork is False:
            return None
        return _ruling(Ground.FORK, origin.fork, "it comes from a fork")

    def _branch(self, origin: Origin) -> Ruling | None:
        if not self.branches:
            return None
        if origin.fork is True:
            return Ruling(Answer.REFUSED, Ground.BRANCH, "its branch is a fork's, and so not among its branches")
        if origin.fork is None:
            return _ruling(Ground.BRANCH, None, "")
        if origin.branch is not None and _any_matches(self.branches, origin.branch):
            return None
        return _ruling(Ground.BRANCH, origin.branch, f"branch {origin.branch or '(none)'} is not among its branches")

    def _actor(self, origin: Origin) -> Ruling | None:
        if not self.actors or (origin.actor is not None and origin.actor.lower() in _lower(self.actors)):
            return None
        return _ruling(Ground.ACTOR, origin.actor, f"{origin.actor or 'nobody known'} is not among its actors")


EVERYTHING = Allow(forks=True)
"""Lets everything run."""


def _ruling(ground: Ground, known: object, refusal: str) -> Ruling:
    if known is None:
        return Ruling(Answer.UNKNOWN, ground, f"what set its run going is not known yet ({ground.value})")
    return Ruling(Answer.REFUSED, ground, refusal)


@lru_cache(maxsize=256)
def _lower(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _any_matches(patterns: Iterable[str], text: str) -> bool:
    return any(matches(pattern, text) for pattern in patterns)


def matches(pattern: str, text: str) -> bool:
    """Whether all of ``text`` fits. Takes time in proportion to both lengths' product, however many stars there are.

    An expression of :mod:`re` would not, and branches have the names that strangers give them.
    """
    if _STAR not in pattern:
        return pattern == text
    tokens = _tokens(pattern)
    reached = _skipping({0}, tokens)
    for letter in text:
        following = set()
        for place in reached:
            if place == len(tokens):
                continue
            token = tokens[place]
            if token == _STARS or (token == _STAR and letter != "/"):
                following.add(place)
            elif token == letter:
                following.add(place + 1)
        reached = _skipping(following, tokens)
        if not reached:
            return False
    return len(tokens) in reached


def _skipping(places: set[int], tokens: tuple[str, ...]) -> set[int]:
    """The places, and those reached from them by letting stars stand for nothing."""
    found = set(places)
    for place in places:
        while place < len(tokens) and tokens[place] in (_STAR, _STARS):
            place += 1
            found.add(place)
    return found


@lru_cache(maxsize=1024)
def _tokens(pattern: str) -> tuple[str, ...]:
    tokens: list[str] = []
    for letter in pattern:
        if letter == _STAR and tokens and tokens[-1] in (_STAR, _STARS):
            tokens[-1] = _STARS
        else:
            tokens.append(letter)
    return tuple(tokens)


def expression(pattern: str) -> str:
    """The POSIX extended regular expression, anchored, that a pattern stands for: nodes match by it."""
    parts = {_STAR: "[^/]*", _STARS: ".*"}
    return "^" + "".join(parts.get(token) or _literal(token) for token in _tokens(pattern)) + "$"


def _literal(letter: str) -> str:
    """A bracket of one: behind a backslash, GNU's library gives some letters a meaning."""
    if letter.isalnum() or letter in "_-/ " or not letter.isascii():
        return letter
    return "\\^" if letter == "^" else f"[{letter}]"
