"""One scope as the controller sees it: its repositories, jobs and runners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import quote, urlencode

from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.runner import Registration
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.github import parse, wire
from slurm_gha.github.budget import BudgetSnapshot
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import Forbidden, GitHubUnavailable, Invalid, NotFound
from slurm_gha.github.pace import Call
from slurm_gha.github.permissions import Permission, Sight, permissions
from slurm_gha.github.run import read_run
from slurm_gha.github.together import together
from slurm_gha.github.values import Minted, Newest

# A run whose first jobs already run is in_progress while its later jobs are still queued: all five are asked for.
UNFINISHED = ("requested", "pending", "waiting", "queued", "in_progress")
# GitHub lists no more than this of a filtered listing.
FILTERED_CAP = 1000
# So many of a repository's newest runs are read at a glance; so many of an organisation's repositories, last pushed to.
GLANCE = 30
LAST_PUSHED = 30


@dataclass(slots=True)
class _Known:
    """What a repository's runs were when last looked at.

    ``demand``: runs with queued jobs, and when each was last listed; ``origins``: of the same runs.
    ``unfinished``: the runs of the latest look.
    ``newest``: no run up to this id was unfinished but those (None: not known); ``whole``: and that is known for sure.
    ``few``: a glance shows every run that there is.
    """

    demand: dict[int, float] = field(default_factory=dict)
    origins: dict[int, Origin | None] = field(default_factory=dict)
    unfinished: frozenset[int] = frozenset()
    newest: int | None = None
    whole: bool = False
    few: bool = False


class ScopeClient:
    """Fits :class:`slurm_gha.controller.ports.GitHubScope`.

    ``repositories_max_age``: for how long (seconds) an organisation's list of repositories is taken as known; half as
    long again for each page of it beyond the second.
    ``unlisted_grace``: for how long a run with queued jobs that is in none of the listings is still looked at itself:
    a run that changes its status between two of them is in neither, and listings lag.
    """

    def __init__(
        self,
        client: GitHubClient,
        scope: Scope,
        *,
        repositories_max_age: float = 300.0,
        unlisted_grace: float = 60.0,
    ) -> None:
        self._client = client
        self._scope = scope
        self._now = client.clock.now
        self._repositories_max_age = repositories_max_age
        self._unlisted_grace = unlisted_grace
        self._repositories: tuple[str, ...] | None = None
        self._repositories_at = 0.0
        self._known: dict[str, _Known] = {}

    @property
    def scope(self) -> Scope:
        return self._scope

    async def repositories(self) -> tuple[str, ...]:
        """The repositories to look at, as ``owner/name``; an organisation's archived and disabled ones left out."""
        if self._scope.kind is ScopeKind.REPOSITORY:
            return (self._scope.path,)
        if self._scope.repositories:
            return self._scope.repositories
        if self._scope.kind is ScopeKind.ENTERPRISE:
            raise Invalid(f"scope {self._scope.name}: an enterprise lists no repositories; name them in `repositories`")
        now = self._now()
        known = self._repositories
        max_age = self._repositories_max_age * max(1.0, len(known or ()) / 200)
        if known is None or not 0 <= now - self._repositories_at < max_age:
            # In the order of their making, a new one changes the last page alone.
            query = urlencode({"per_page": 100, "type": "all", "sort": "created", "direction": "asc"})
            listed = await self._client.items(f"{self._prefix()}/repos?{query}", parse.repositories)
            known = tuple(dict.fromkeys(listed))
            self._repositories, self._repositories_at = known, now
            for gone in self._known.keys() - set(known):
                del self._known[gone]
        return known

    async def pushes(self) -> Mapping[str, str]:
        """The repositories pushed to last, with GitHub's word for when: where it differs from before, jobs may come.

        Empty where there is no such list. It says nothing of runs that begin without a push.
        """
        if self._scope.kind is not ScopeKind.ORGANISATION:
            return {}
        query = urlencode({"per_page": LAST_PUSHED, "type": "all", "sort": "pushed", "direction": "desc"})
        page = await self._client.first_page(f"{self._prefix()}/repos?{query}", parse.pushes)
        pushes = dict(page.items)
        if self._repositories is not None and not self._scope.repositories and pushes.keys() - set(self._repositories):
            self._repositories_at = float("-inf")  # a new one (or an archived one, which the list leaves out)
        return pushes

    async def jobs(self, repository: str) -> tuple[Job, ...]:
        """The queued and in-progress jobs of the repository's unfinished runs; all of them, or an error."""
        self._must_be_one(repository)
        if (known := self._known.get(repository)) is not None and known.few:
            newest = await self.newest(repository)
            if newest.complete:
                return newest.jobs
        began = self._now()
        try:
            listings = await together([partial(self._runs, repository, status) for status in UNFINISHED])
        except NotFound:
            self._repositories = None  # deleted or renamed since the list was read, perhaps
            raise
        listed = {run: origin for listing in listings for run, origin in listing.items()}
        found = await self._jobs_of_all(repository, listed, began)
        known = self._known[repository]
        known.unfinished, known.whole = frozenset(listed), known.newest is not None
        return found

    async def newest(self, repository: str) -> Newest:
        """The jobs of the newest runs, for one request beside those for the runs' jobs.

        They are complete if the unfinished runs were all known before, and neither one of them nor one begun since
        has been pushed out of the newest. (A run that had finished, was pushed out, and is run again is seen by
        :meth:`jobs` alone.)
        """
        self._must_be_one(repository)
        began = self._now()
        try:
            listing = await self._client.first_page(f"/repos/{repository}/actions/runs?per_page={GLANCE}", parse.page)
        except NotFound:
            self._repositories = None
            raise
        (page,) = listing.items
        unfinished = {run.id: run.origin for run in page.unfinished}
        found = await self._jobs_of_all(repository, unfinished, began)
        known = self._known[repository]
        known.few = page.length < GLANCE
        if known.few:
            complete = True
        else:
            pushed_out = any(run < page.oldest for run in known.unfinished)
            joined = known.newest is not None and page.oldest <= known.newest
            complete = known.whole and joined and not pushed_out
        if complete:
            known.unfinished = frozenset(unfinished)
        else:
            known.unfinished |= frozenset(unfinished)
        known.newest, known.whole = page.newest, complete
        return Newest(found, complete)

    def requests(self, repository: str) -> tuple[int, int]:
        """How many requests :meth:`newest` and :meth:`jobs` of the repository probably take."""
        known = self._known.get(repository)
        if known is None:
            return 2, 1 + len(UNFINISHED)  # it has a run, perhaps
        runs = len(known.unfinished)
        return 1 + runs, (1 if known.few else len(UNFINISHED)) + runs

    async def _jobs_of_all(self, repository: str, listed: Mapping[int, Origin | None], began: float) -> tuple[Job, ...]:
        """The jobs of the runs listed, and of those that had queued jobs and slipped out of the listing lately."""
        known = self._known.setdefault(repository, _Known())
        demand = known.demand
        origins = {**known.origins, **listed}
        unlisted = [run for run, at in demand.items() if run not in listed and began - at < self._unlisted_grace]
        runs = [*listed, *unlisted]
        pages = await together([partial(self._jobs_of, repository, run, began) for run in runs]) if runs else []
        found: dict[int, Job] = {}
        still: dict[int, float] = {}
        for run, jobs in zip(runs, pages, strict=True):
            if any(job.status is JobStatus.QUEUED for job in jobs):
                still[run] = began if run in listed else demand[run]
            for job in jobs:
                found.setdefault(job.id, replace(job, origin=origins.get(run)))
        known.demand = still
        known.origins = {run: origins[run] for run in still if run in origins}
        self._known[repository] = known  # the list of repositories may have been without it meanwhile
        return tuple(found[number] for number in sorted(found))

    def _must_be_one(self, repository: str) -> None:
        if not parse.is_repository(repository):
            raise Invalid(f"{wire.clean(repository)!r} is no repository (owner/name)")

    async def run(self, repository: str, run_id: int) -> tuple[Job, ...]:
        """The queued and in-progress jobs of one run, with their origin; none where the run is gone."""
        return await read_run(self._client, self._scope.name, repository, run_id)

    async def runners(self) -> tuple[Registration, ...]:
        """All registered runners of the scope."""
        path = f"{self._prefix()}/actions/runners?per_page=100"
        try:
            found = await self._client.items(path, parse.registrations)
        except NotFound as error:
            raise Forbidden(
                f"{error}; scope {self._scope.name}: check its url, and that the token may manage runners"
            ) from None
        return tuple({registration.id: registration for registration in found}.values())

    async def find(self, name: str) -> Registration | None:
        """The registration of that name, if there is one."""
        query = urlencode({"name": name, "per_page": 100})
        found = await self._client.items(f"{self._prefix()}/actions/runners?{query}", parse.registrations)
        return next((registration for registration in found if registration.name == name), None)

    async def mint(self, name: str, labels: Sequence[str], runner_group_id: int) -> Minted:
        """A JIT configuration; raises NameTaken when a runner of that name is registered.

        After GitHubUnavailable the runner may be registered all the same: :meth:`find` tells.
        """
        body = {"name": name, "runner_group_id": runner_group_id, "labels": list(labels), "work_folder": "_work"}
        path = f"{self._prefix()}/actions/runners/generate-jitconfig"
        answer = await self._client.send("POST", path, body, call=Call.MINT)
        try:
            return parse.minted(wire.decode(answer))
        except GitHubUnavailable as error:
            raise GitHubUnavailable(f"POST {path}: {error}", request_id=answer.request_id) from None

    async def remove(self, registration_id: int) -> None:
        """Deregister; raises RunnerBusy while it has a job; one that is gone already is no error."""
        try:
            await self._client.send("DELETE", f"{self._prefix()}/actions/runners/{int(registration_id)}")
        except NotFound:
            return

    def budget(self) -> BudgetSnapshot:
        """The budget of this scope's token."""
        return self._client.budget.snapshot()

    def pace(self, demand: float) -> float:
        """Reads a second that looking for jobs may take; ``demand`` is wished. Scopes with the same token share it."""
        return self._client.budget.share(self._scope.name, demand)

    async def rate(self) -> BudgetSnapshot:
        """The token's budget as GitHub says now, by a call that is not counted."""
        await self._client.look("/rate_limit")
        return self.budget()

    async def permissions(self, sight: Sight = Sight.JOBS) -> tuple[Permission, ...]:
        """What the token may do of what is needed here, found out by reading alone."""
        known = self._scope.repositories
        if self._scope.kind is not ScopeKind.ENTERPRISE and sight is not Sight.NOTHING:
            known = await self.repositories()
        return await permissions(self._client, self._scope, self._prefix(), known[0] if known else None, sight)

    async def _runs(self, repository: str, status: str) -> dict[int, Origin | None]:
        """The runs in a status, by id, and what set them going.

        Where GitHub cuts the listing, older ones are asked for by their time.
        """
        query: dict[str, str | int] = {"status": status, "per_page": 100}
        found: dict[int, Origin | None] = {}
        while True:
            path = f"/repos/{repository}/actions/runs?{urlencode(query)}"
            page = await self._client.items(path, parse.runs)
            before = len(found)
            found.update({run.id: run.origin for run in page})
            oldest = min((run.created for run in page if run.created), default="")
            if len(page) < FILTERED_CAP or len(found) == before or not oldest:
                return found
            query["created"] = f"<={oldest}"

    async def _jobs_of(self, repository: str, run: int, seen_at: float) -> list[Job]:
        query = urlencode({"filter": "latest", "per_page": 100})
        reader = partial(parse.jobs, scope=self._scope.name, repository=repository, run_id=run, seen_at=seen_at)
        try:
            return await self._client.items(f"/repos/{repository}/actions/runs/{run}/jobs?{query}", reader)
        except NotFound:
            return []  # the run was deleted since it was listed

    def _prefix(self) -> str:
        return quote(self._scope.api_prefix, safe="/")
