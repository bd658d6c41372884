"""The REST calls of the simulated GitHub: what each one checks, does and answers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import TypeVar

from slurm_gha.testing.github import permissions, render
from slurm_gha.testing.github.errors import Denied, NotThere, Unprocessable
from slurm_gha.testing.github.hook_routes import HookRest
from slurm_gha.testing.github.limits import HOUR, Limits
from slurm_gha.testing.github.permissions import Need
from slurm_gha.testing.github.routing import Answer, Call, Route, answer, listing, page_of, to_json
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import UNFINISHED, Repository, Run, SimJob, SimRunner

FILTERED_LIMIT = 1000
"""A listing of runs with a filter shows no more results than this (GitHub's documentation of the call)."""
_REPOSITORY = "/repos/{owner}/{repo}"
_Item = TypeVar("_Item")


class Rest:
    """Handlers over one GitHub."""

    def __init__(self, github: GitHub, limits: Limits) -> None:
        self._github = github
        self._limits = limits
        self._url = github.url
        self._run_texts: dict[int, tuple[int, bytes]] = {}
        self._log_key = secrets.token_hex(16)

    def routes(self) -> list[Route]:
        """The table of calls."""
        runs = f"{_REPOSITORY}/actions/runs"
        run, job = f"{runs}/{{run_id}}", f"{_REPOSITORY}/actions/jobs/{{job_id}}"
        of_repository = self._repository_version
        return [
            Route("GET", "/rate_limit", self._rate_limit, counted=False),
            Route("GET", "/user", self._user, lambda call: lambda: call.token.login),
            Route("GET", _REPOSITORY, self._repository, of_repository),
            Route("GET", "/orgs/{org}/repos", self._repositories, lambda call: self._repositories_version),
            Route("GET", runs, self._runs, of_repository, listing=True),
            Route("GET", run, self._run, of_repository),
            Route("GET", f"{run}/jobs", self._jobs, of_repository, listing=True),
            Route("POST", f"{run}/cancel", self._cancel),
            Route("POST", f"{run}/force-cancel", self._force_cancel),
            Route("POST", f"{run}/rerun-failed-jobs", self._rerun_failed),
            Route("GET", job, self._job, of_repository),
            Route("GET", f"{job}/logs", self._logs),
            Route("POST", f"{job}/rerun", self._rerun_job),
            *HookRest(self._github).routes(),
            *self._runner_routes(_REPOSITORY),
            *self._runner_routes("/orgs/{org}"),
            *self._runner_routes("/enterprises/{enterprise}"),
        ]

    def _runner_routes(self, prefix: str) -> list[Route]:
        runners = f"{prefix}/actions/runners"
        return [
            Route("GET", runners, self._runners, self._runners_version, listing=True),
            Route("POST", f"{runners}/generate-jitconfig", self._generate),
            Route("POST", f"{runners}/registration-token", self._short_token),
            Route("POST", f"{runners}/remove-token", self._short_token),
            Route("GET", f"{runners}/{{runner_id}}", self._runner, self._runners_version),
            Route("DELETE", f"{runners}/{{runner_id}}", self._remove),
        ]

    # Account

    def _rate_limit(self, call: Call) -> Answer:
        core = self._limits.overview(call.token)
        search = {"limit": 30, "used": 0, "remaining": 30, "reset": core["reset"]}
        return answer({"resources": {"core": core, "search": search}, "rate": core})

    def _user(self, call: Call) -> Answer:
        if call.token.installation is not None:
            raise Denied("Resource not accessible by integration")
        return answer(render.token_user(self._url, call.token, 0.0))

    # Repositories

    def _found(self, call: Call, need: Need) -> Repository:
        repository = self._github.repositories.get(f"{call.parts['owner']}/{call.parts['repo']}".lower())
        if repository is None:
            raise NotThere("Not Found")
        permissions.check_repository(call.token, repository, need)
        return repository

    def _repository_version(self, call: Call) -> Callable[[], object]:
        repository = self._found(call, permissions.SEE_REPOSITORY)
        return lambda: (repository.version, repository.archived, repository.disabled, repository.pushed_at)

    def _repository(self, call: Call) -> Answer:
        return answer(render.repository(self._url, self._found(call, permissions.SEE_REPOSITORY)))

    def _repositories_version(self) -> object:
        return tuple(
            (each.id, each.archived, each.disabled, each.pushed_at) for each in self._github.repositories.values()
        )

    def _repositories(self, call: Call) -> Answer:
        login = call.parts["org"].lower()
        if login not in self._github.organisations:
            raise NotThere("Not Found")
        found = [
            each
            for each in self._github.repositories.values()
            if each.owner.login.lower() == login and permissions.sees(call.token, each)
        ]
        sort = call.query.get("sort", "created")
        found.sort(key=_REPOSITORY_ORDERS.get(sort, _REPOSITORY_ORDERS["created"]))
        # By name ascending, by time descending, unless told otherwise (GitHub's documentation of the call).
        if call.query.get("direction", "asc" if sort == "full_name" else "desc") == "desc":
            found.reverse()
        kept, paged = _page(call, found)
        fragments = []
        for each in kept:
            full = render.repository(self._url, each)
            fragments.append(to_json(full))
        return listing(None, fragments, paged)

    # Runs and jobs

    def _runs(self, call: Call) -> Answer:
        repository, query = self._found(call, permissions.READ_RUNS), call.query
        wanted = query.get("status")
        ids = repository.open_runs if wanted in UNFINISHED else repository.runs
        runs: Iterable[Run] = (self._github.runs[run_id] for run_id in sorted(ids, reverse=True))
        for name, value_of in _RUN_FILTERS.items():
            if name in query:
                runs = [run for run in runs if query[name] in value_of(run)]
        found = list(runs)
        filtered = any(name in query for name in _RUN_FILTERS)
        kept, paged = _page(call, found[:FILTERED_LIMIT] if filtered else found)
        return listing("workflow_runs", [self._run_text(run) for run in kept], paged, len(found))

    def _run_text(self, run: Run) -> bytes:
        known = self._run_texts.get(run.id)
        if known is None or known[0] != run.version:
            known = self._run_texts[run.id] = (run.version, to_json(render.run(self._url, run)))
        return known[1]

    def _found_run(self, call: Call, need: Need) -> Run:
        repository = self._found(call, need)
        return self._github.find_run(repository.full_name, call.number("run_id"))

    def _run(self, call: Call) -> Answer:
        return Answer(200, self._run_text(self._found_run(call, permissions.READ_RUNS)))

    def _jobs(self, call: Call) -> Answer:
        run = self._found_run(call, permissions.READ_RUNS)
        match call.query.get("filter", "latest"):
            case "all":
                found = [self._github.jobs[job_id] for job_id in run.jobs]
            case "latest":
                found = self._github.present_jobs(run)
            case _:
                raise Unprocessable("Invalid filter: latest or all")
        kept, paged = _page(call, found)
        return listing("jobs", [to_json(render.job(self._url, job)) for job in kept], paged)

    def _found_job(self, call: Call, need: Need) -> SimJob:
        repository = self._found(call, need)
        job = self._github.jobs.get(call.number("job_id"))
        if job is None or job.repository is not repository:
            raise NotThere("Not Found")
        return job

    def _job(self, call: Call) -> Answer:
        return answer(render.job(self._url, self._found_job(call, permissions.READ_RUNS)))

    def _logs(self, call: Call) -> Answer:
        job = self._found_job(call, permissions.READ_RUNS)
        if job.status != "completed":
            raise NotThere("Not Found")
        return Answer(302, headers=((b"location", f"{self._url}/_logs/{job.id}?key={self._log_key}".encode()),))

    def log_text(self, job_id: int, key: str) -> str:
        """What the address that a log call redirects to holds."""
        if not secrets.compare_digest(key, self._log_key) or job_id not in self._github.jobs:
            raise NotThere("Not Found")
        return self._github.jobs[job_id].log

    def _cancel(self, call: Call) -> Answer:
        run = self._found_run(call, permissions.CHANGE_RUNS)
        self._github.cancel_run(run.repository.full_name, run.id)
        return answer({}, 202)

    def _force_cancel(self, call: Call) -> Answer:
        run = self._found_run(call, permissions.CHANGE_RUNS)
        self._github.cancel_run(run.repository.full_name, run.id, force=True)
        return answer({}, 202)

    def _rerun_failed(self, call: Call) -> Answer:
        run = self._found_run(call, permissions.CHANGE_RUNS)
        self._github.rerun_failed_jobs(run.repository.full_name, run.id)
        return answer({}, 201)

    def _rerun_job(self, call: Call) -> Answer:
        self._github.rerun_job(self._found_job(call, permissions.CHANGE_RUNS).id)
        return answer({}, 201)

    # Runners

    def _scope(self, call: Call, *, change: bool) -> str:
        """The scope a call is about (lower case), once the token is known to be allowed."""
        if "repo" in call.parts:
            need = permissions.CHANGE_REPOSITORY_RUNNERS if change else permissions.READ_REPOSITORY_RUNNERS
            return f"repos/{self._found(call, need).full_name.lower()}"
        if "org" in call.parts:
            login = call.parts["org"].lower()
            if login not in self._github.organisations:
                raise NotThere("Not Found")
            need = permissions.CHANGE_ORGANISATION_RUNNERS if change else permissions.READ_ORGANISATION_RUNNERS
            permissions.check_organisation(call.token, login, need)
            return f"orgs/{login}"
        slug = call.parts["enterprise"].lower()
        if slug not in self._github.enterprises:
            raise NotThere("Not Found")
        permissions.check_enterprise(call.token)
        return f"enterprises/{slug}"

    def _runners_version(self, call: Call) -> Callable[[], object]:
        scope, versions = self._scope(call, change=False), self._github.runner_versions
        return lambda: versions.get(scope, 0)

    def _runners(self, call: Call) -> Answer:
        found = self._github.runners_of(self._scope(call, change=False))
        if "name" in call.query:
            found = [runner for runner in found if runner.name.lower() == call.query["name"].lower()]
        kept, paged = _page(call, found)
        return listing("runners", [to_json(render.runner(runner)) for runner in kept], paged)

    def _found_runner(self, call: Call, *, change: bool) -> SimRunner:
        scope = self._scope(call, change=change)
        runner = self._github.runners.get(call.number("runner_id"))
        if runner is None or runner.scope != scope:
            raise NotThere("Not Found")
        return runner

    def _runner(self, call: Call) -> Answer:
        return answer(render.runner(self._found_runner(call, change=False)))

    def _remove(self, call: Call) -> Answer:
        self._github.remove_runner(self._found_runner(call, change=True).id)
        return Answer(204)

    def _generate(self, call: Call) -> Answer:
        scope, body = self._scope(call, change=True), call.json()
        name, group, labels = body.get("name"), body.get("runner_group_id"), body.get("labels")
        if not isinstance(name, str) or not isinstance(group, int) or isinstance(group, bool):
            raise Unprocessable("Invalid request: name and runner_group_id are needed")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise Unprocessable("Invalid request: labels must be a list of strings")
        work_folder = body.get("work_folder", "_work")
        if not isinstance(work_folder, str):
            raise Unprocessable("Invalid request: work_folder must be a string")
        runner, configuration = self._github.mint_runner(scope, name, labels, group, work_folder)
        return answer({"runner": render.runner(runner), "encoded_jit_config": configuration}, 201)

    def _short_token(self, call: Call) -> Answer:
        scope = self._scope(call, change=True)
        text = self._github.issue_registration_token(scope)
        return answer({"token": text, "expires_at": render.time(self._github.clock.now() + HOUR)}, 201)


_REPOSITORY_ORDERS: dict[str, Callable[[Repository], tuple[float | str, int]]] = {
    "created": lambda each: (each.created_at, each.id),
    "updated": lambda each: (each.created_at, each.id),
    "pushed": lambda each: (each.pushed_at, each.id),
    "full_name": lambda each: (each.full_name.lower(), each.id),
}
_RUN_FILTERS: dict[str, Callable[[Run], tuple[str | None, ...]]] = {
    "status": lambda run: (run.status, run.conclusion),
    "branch": lambda run: (run.branch,),
    "event": lambda run: (run.event,),
    "actor": lambda run: (run.actor,),
    "head_sha": lambda run: (run.sha,),
    "check_suite_id": lambda run: (str(run.check_suite_id),),
}


def _page(call: Call, items: list[_Item]) -> tuple[list[_Item], tuple[int, int, int]]:
    page, per_page = page_of(call.query)
    return items[(page - 1) * per_page : page * per_page], (page, per_page, len(items))
