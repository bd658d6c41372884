"""One scope as the controller sees it: its repositories, jobs and runners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from slurm_gha.github.values import Minted

# A run whose first jobs already run is in_progress while its later jobs are still queued: all five are asked for.
UNFINISHED = ("requested", "pending", "waiting", "queued", "in_progress")
# GitHub lists no more than this of a filtered listing.
FILTERED_CAP = 1000


class ScopeClient:
    """Fits :class:`slurm_gha.controller.ports.GitHubScope`.

    ``repositories_max_age``: for how long (seconds) an organisation's list of repositories is taken as known.
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
        self._demand: dict[str, dict[int, float]] = {}  # repository → run with queued jobs → when last listed
        self._origins: dict[str, dict[int, Origin | None]] = {}  # of the same runs
        client.budget.expect(scope.name, 1)  # the list of runners
        for repository in (scope.path,) if scope.kind is ScopeKind.REPOSITORY else scope.repositories:
            client.budget.expect(self._look(repository), len(UNFINISHED))

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
        if known is None or not 0 <= now - self._repositories_at < self._repositories_max_age:
            path = f"{self._prefix()}/repos?" + urlencode({"per_page": 100, "type": "all"})
            known = tuple(dict.fromkeys(await self._client.items(path, parse.repositories)))
            self._repositories, self._repositories_at = known, now
            for gone in self._demand.keys() - set(known):
                del self._demand[gone]
                self._origins.pop(gone, None)
                self._client.budget.forget(self._look(gone))
        return known

    async def jobs(self, repository: str) -> tuple[Job, ...]:
        """The queued and in-progress jobs of the repository's unfinished runs; all of them, or an error."""
        if not parse.is_repository(repository):
            raise Invalid(f"{wire.clean(repository)!r} is no repository (owner/name)")
        began = self._now()
        try:
            listings = await together([partial(self._runs, repository, status) for status in UNFINISHED])
        except NotFound:
            self._repositories = None  # deleted or renamed since the list was read, perhaps
            raise
        listed = dict.fromkeys(run for listing in listings for run in listing)
        origins = self._origins.get(repository, {}) | {n: o for listing in listings for n, o in listing.items()}
        demand = self._demand.setdefault(repository, {})
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
        self._demand[repository] = still
        self._origins[repository] = {run: origins[run] for run in still if run in origins}
        self._client.budget.expect(self._look(repository), len(UNFINISHED) + len(runs))
        return tuple(found[number] for number in sorted(found))

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

    def shortest_interval(self) -> float:
        """Seconds between two looks at this scope that its token's pace allows, other scopes of the token included."""
        return self._client.budget.shortest_interval()

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

    def _look(self, repository: str) -> str:
        return f"{self._scope.name} {repository}"

    def _prefix(self) -> str:
        return quote(self._scope.api_prefix, safe="/")
