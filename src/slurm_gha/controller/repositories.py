"""What was last read of one scope's repositories, and the looks that read it anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import anyio

from slurm_gha.controller.ports import GitHubScope
from slurm_gha.controller.rotation import KEPT, Look, Purse, Standing, choose, round_seconds
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.github.errors import GitHubError

# How long a repository is hot after a push, or after a sign of a runner: runs, and jobs of a run, come a little later.
HOT_FOR = 120.0


@dataclass(slots=True)
class _Repository:
    """``at``: when the latest look began that showed all of its jobs; ``seen_at``: the latest look that showed any."""

    jobs: tuple[Job, ...] = ()
    at: float | None = None
    seen_at: float | None = None
    whole_at: float | None = None
    error: str | None = None
    pushed: str | None = None
    urgent: bool = False
    hot_until: float = float("-inf")


class OnReading(Protocol):
    """Hears of a look at a repository that began at a time (seconds since the epoch); ``whole``: it shows all jobs."""

    def __call__(self, repository: str, jobs: tuple[Job, ...], began: float, *, whole: bool) -> None: ...


class Repositories:
    """One scope's repositories. ``on_reading`` hears of each reading."""

    def __init__(self, scope: GitHubScope, clock: Clock, on_reading: OnReading) -> None:
        self._scope = scope
        self._clock = clock
        self._on_reading = on_reading
        self._repositories: dict[str, _Repository] = {}
        self._listed_at: float | None = None
        self._listed_error: str | None = None
        self._purse = Purse()
        self._looked_at: float | None = None
        self._rotating = False
        self._round_seconds = 0.0

    # What is known

    def readings(self) -> Mapping[str, tuple[tuple[Job, ...], float | None]]:
        """By repository, the jobs last seen queued or in progress, and when the look began that showed all of them."""
        return {name: (repository.jobs, repository.at) for name, repository in self._repositories.items()}

    def read_at(self, name: str) -> float | None:
        """When the latest look began that showed all of a repository's jobs."""
        repository = self._repositories.get(name)
        return None if repository is None else repository.at

    def __contains__(self, name: object) -> bool:
        return name in self._repositories

    @property
    def at(self) -> float | None:
        """Since when, at least, all jobs are known: the oldest reading of any repository; None while one is lacking."""
        times = [repository.at for repository in self._repositories.values()]
        # A scope without repositories has been read when that was found out.
        return min((at for at in times if at is not None), default=self._listed_at) if None not in times else None

    @property
    def error(self) -> str | None:
        """Why the list, or some repository, could not be read at the latest try."""
        errors = (f"{name}: {r.error}" for name, r in self._repositories.items() if r.error is not None)
        return self._listed_error or next(errors, None)

    @property
    def round_seconds(self) -> float:
        """How old a reading may get as things are, seconds; 0 where each look reads all repositories."""
        return self._round_seconds

    def times(self) -> Mapping[str, float]:
        """When the look began that showed the queued jobs of a repository, for those that have some."""
        return MappingProxyType(
            {
                name: repository.seen_at
                for name, repository in self._repositories.items()
                if repository.seen_at is not None and any(job.status is JobStatus.QUEUED for job in repository.jobs)
            }
        )

    # Looking

    def suspect(self, name: str) -> None:
        """Something happens in the repository: it is the first to be looked at next time."""
        if (repository := self._repositories.get(name)) is not None:
            repository.urgent = True
            repository.hot_until = self._clock.now() + HOT_FOR

    async def look(self, ours: Collection[str] = ()) -> None:
        """Look at all repositories, or at those whose turn it is. ``ours``: those that runners were submitted for."""
        began = self._clock.now()
        try:
            names = await self._scope.repositories()
        except GitHubError as error:
            self._listed_error = str(error)
            return
        self._listed_at, self._listed_error = began, None
        self._repositories = {name: self._repositories.get(name, _Repository()) for name in names}
        elapsed = KEPT if self._looked_at is None else max(1.0, began - self._looked_at)
        self._looked_at = began
        everything = sum(self._scope.requests(name)[1] for name in names)
        pace = self._scope.pace(everything / elapsed)
        self._purse = self._purse.earn(pace, elapsed)
        self._rotating = everything > self._purse.total
        if self._rotating:
            await self._hear_of_pushes()
        standings = [self._standing(name, repository, ours) for name, repository in self._repositories.items()]
        self._round_seconds = round_seconds(standings, pace) if self._rotating else 0.0
        looks, self._purse = choose(standings, self._purse)
        await self._take(looks)

    async def look_at(self, names: Iterable[str]) -> None:
        """Look at some repositories now; those that the scope does not have are left out."""
        known = [name for name in names if name in self._repositories]
        looks = [Look(name, whole=not self._rotating or self._repositories[name].at is None) for name in known]
        self._purse = self._purse.pay(sum(self._estimate(look) for look in looks))
        await self._take(looks)

    async def _hear_of_pushes(self) -> None:
        self._purse = self._purse.pay(1)
        try:
            pushes = await self._scope.pushes()
        except GitHubError:
            return  # a hint, no more: what is wrong shows at the looks themselves
        for name, word in pushes.items():
            repository = self._repositories.get(name)
            if repository is not None and repository.pushed != word:
                repository.pushed = word
                self.suspect(name)

    def _standing(self, name: str, repository: _Repository, ours: Collection[str]) -> Standing:
        glance, whole = self._scope.requests(name)
        lately = self._clock.now() < repository.hot_until
        return Standing(
            name=name,
            seen_at=repository.seen_at,
            whole_at=repository.whole_at,
            known=repository.at is not None,
            glance=glance,
            whole=whole,
            hot=lately or bool(repository.jobs) or repository.error is not None or name in ours,
            urgent=repository.urgent,
        )

    def _estimate(self, look: Look) -> int:
        return self._scope.requests(look.name)[look.whole]

    async def _take(self, looks: Iterable[Look]) -> None:
        async with anyio.create_task_group() as group:
            for look in looks:
                group.start_soon(self._look, look)

    async def _look(self, look: Look) -> None:
        repository = self._repositories[look.name]
        repository.urgent = False
        began, estimate = self._clock.now(), self._estimate(look)
        try:
            if look.whole or not await self._glance(look.name, repository, began):
                jobs = await self._scope.jobs(look.name)
                self._seen(look.name, jobs, began, whole=True)
                repository.at = repository.whole_at = began
                estimate += 0 if look.whole else self._estimate(Look(look.name, whole=True))
        except GitHubError as error:
            repository.error = str(error)
            return
        # Runs that nobody knew of had to be read too.
        self._purse = self._purse.pay(max(0, self._estimate(look) - estimate))

    async def _glance(self, name: str, repository: _Repository, began: float) -> bool:
        """Whether a look at the newest runs is enough: it shows all jobs, or more than was known before."""
        newest = await self._scope.newest(name)
        if not newest.complete and repository.at is not None:
            return False
        self._seen(name, newest.jobs, began, whole=newest.complete)
        if newest.complete:
            repository.at = began
        return True

    def _seen(self, name: str, jobs: tuple[Job, ...], began: float, *, whole: bool) -> None:
        repository = self._repositories.get(name)
        if repository is None:
            return  # gone from the list while it was looked at
        repository.jobs, repository.seen_at, repository.error = jobs, began, None
        self._on_reading(name, jobs, began, whole=whole)
