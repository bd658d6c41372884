"""What was told of jobs and read of single runs, kept until a later reading settles it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slurm_gha.controller.told import RunReading, Seen, furthest, merged, settled, takers
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import Job
from slurm_gha.domain.told import Told


@dataclass(slots=True)
class _Page:
    words: dict[int, Told] = field(default_factory=dict)
    runs: dict[int, RunReading] = field(default_factory=dict)


class News:
    """By scope and repository. A repository that is in no listing yet has a page all the same."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, _Page]] = {}

    def hear(self, word: Told) -> None:
        """Keep a word, unless one is known that is further along."""
        words = self._page(word.job.scope, word.job.repository).words
        words[word.job.id] = furthest(words.get(word.job.id), word)

    def looked(self, scope: str, repository: str, run_id: int, reading: RunReading) -> None:
        """Keep what a look at one run showed."""
        runs = self._page(scope, repository).runs
        known = runs.get(run_id)
        if known is None or known.began <= reading.began:
            runs[run_id] = reading

    def read_at(self, scope: str, repository: str, run_id: int, listed_at: float | None) -> float | None:
        """When the newest reading began that would show the run's jobs."""
        page = self._pages.get(scope, {}).get(repository, _Page())
        return Seen((), listed_at, page.runs).reading(run_id)

    def jobs(
        self, scope: str, listed: Mapping[str, tuple[tuple[Job, ...], float | None]], now: float
    ) -> tuple[Job, ...]:
        """A scope's jobs. ``listed``: by repository the listing's jobs, and when it began."""
        pages = self._pages.get(scope, {})
        found: list[Job] = []
        for repository in {**listed, **pages} if pages else listed:
            jobs, at = listed.get(repository, ((), None))
            page = pages.get(repository)
            if page is not None:
                seen = self._tidied(page, jobs, at, now)
                jobs = merged(seen, page.words.values())
                if not page.words and not page.runs:
                    del pages[repository]
            found.extend(jobs)
        return tuple(found)

    def takers(self, now: float) -> dict[str, int]:
        """Jobs that have just ended, by the runner they had."""
        return {name: job for page in self._all() for name, job in takers(page.words.values(), now).items()}

    def unsettled(self, now: float, age: float) -> list[Hint]:
        """Runs to look at: nothing that was read for ``age`` seconds confirms what is believed of them."""
        found: dict[tuple[str, str, int], float] = {}
        for scope, pages in self._pages.items():
            for repository, page in pages.items():
                times = [(word.job.run_id, word.at) for word in page.words.values()]
                times += [(run_id, run.began) for run_id, run in page.runs.items() if run.jobs]
                for run_id, at in times:
                    key = (scope, repository, run_id)
                    found[key] = max(at, found.get(key, at))
        return [Hint(*key) for key, at in sorted(found.items()) if now - at >= age]

    def _tidied(self, page: _Page, jobs: tuple[Job, ...], at: float | None, now: float) -> Seen:
        """The page without what a later reading has settled."""
        if at is not None and page.runs:
            page.runs = {run_id: run for run_id, run in page.runs.items() if run.began > at}
        seen = Seen(jobs, at, page.runs)
        page.words = {number: word for number, word in page.words.items() if not settled(seen, word, now)}
        wanted = {word.job.run_id for word in page.words.values()} | {job.run_id for job in jobs}
        # A look that found nothing, at a run that nothing else speaks of, has said all it can.
        page.runs = {run_id: run for run_id, run in page.runs.items() if run.jobs or run_id in wanted}
        return Seen(jobs, at, page.runs)

    def _page(self, scope: str, repository: str) -> _Page:
        return self._pages.setdefault(scope, {}).setdefault(repository, _Page())

    def _all(self) -> list[_Page]:
        return [page for pages in self._pages.values() for page in pages.values()]
