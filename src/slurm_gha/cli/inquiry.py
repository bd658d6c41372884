"""Asks this machine, Slurm and GitHub whether what the configuration says is true. Nothing is changed anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

import anyio
import anyio.to_thread

from slurm_gha.config.mistakes import shown
from slurm_gha.domain.pool import Launcher, Pool, SlurmRequest
from slurm_gha.github.budget import BudgetSnapshot
from slurm_gha.github.errors import GitHubError
from slurm_gha.github.permissions import Permission, Standing
from slurm_gha.images import mirror
from slurm_gha.planner.sizing import largest
from slurm_gha.slurm.errors import SlurmError, SubmissionRefused


class Verdict(StrEnum):
    """DOUBTFUL: cannot be told from here, or works but is not wise; no reason to fail."""

    TRUE = "✓"
    FALSE = "✗"
    DOUBTFUL = "!"


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of the report."""

    verdict: Verdict
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict.value} {self.subject}: {self.text}"


class SlurmDesk(Protocol):
    """What is asked of Slurm; :class:`slurm_gha.slurm.cluster.SlurmCluster` fits."""

    async def version(self) -> str: ...

    async def test_only(self, request: SlurmRequest) -> str: ...


class GitHubDesk(Protocol):
    """What is asked of GitHub about one scope; :class:`slurm_gha.github.scope.ScopeClient` fits."""

    async def rate(self) -> BudgetSnapshot: ...

    async def permissions(self) -> tuple[Permission, ...]: ...


GitHubDesks = Mapping[str, AbstractAsyncContextManager[GitHubDesk]]


async def ask_slurm(desk: SlurmDesk, pools: Sequence[Pool]) -> list[Answer]:
    """Slurm's version, and for each pool whether Slurm would accept its jobs (``sbatch --test-only``).

    A pool that lets jobs ask for a size is tried at its bounds too: a job that Slurm refuses would slow the pool down.
    """
    try:
        answers = [Answer(Verdict.TRUE, "slurm", f"version {_line(await desk.version())}")]
    except SlurmError as error:
        return [Answer(Verdict.FALSE, "slurm", f"its commands do not work: {_line(error)}")]
    for number, pool in enumerate(pools):
        subject = f"pool {pool.name}"
        requests = [("its jobs", pool.request)]
        requests += [(f"its largest jobs, {words}", request) for words, request in largest(pool) if words]
        try:
            for called, request in requests:
                answers.append(await _try(desk, subject, called, request))
        except SlurmError as error:
            answers.append(Answer(Verdict.FALSE, subject, f"Slurm could not be asked: {_line(error)}"))
            rest = ", ".join(other.name for other in pools[number + 1 :])
            if rest:  # each of them would take as long as a command may
                answers.append(Answer(Verdict.DOUBTFUL, "slurm", f"not asked about the other pools: {rest}"))
            break
    return answers


def gpu_doubts(pools: Sequence[Pool]) -> list[Answer]:
    """Pools that may get GPUs of Slurm's, which their launcher does not bring into its containers."""
    found = []
    for pool in pools:
        options = {name for name, _ in pool.request.extra}
        own = any(gres.split(":")[0] == "gpu" for gres in pool.request.gres) or options & {"gpus", "gpus-per-node"}
        brought = pool.launcher is Launcher.HOST or (pool.container is not None and pool.container.nvidia)
        if not brought and (own or (pool.dynamic is not None and pool.dynamic.gpus)):
            text = (
                f"launcher {pool.launcher.value} brings no GPU into its containers; jobs only see how theirs is called"
            )
            if pool.launcher is Launcher.APPTAINER:
                text += " (nvidia = true brings it along)"
            found.append(Answer(Verdict.DOUBTFUL, f"pool {pool.name}", text))
    return found


async def _try(desk: SlurmDesk, subject: str, called: str, request: SlurmRequest) -> Answer:
    try:
        words = await desk.test_only(request)
    except SubmissionRefused as error:
        return Answer(Verdict.FALSE, subject, f"Slurm refuses {called}: {_line(error)}")
    said = f" ({_line(words)})" if words.strip() else ""
    return Answer(Verdict.TRUE, subject, f"Slurm accepts {called}{said}")


async def ask_github(desks: GitHubDesks) -> list[Answer]:
    """For each scope, by name: the token's rate limit and permissions. Scopes are asked at the same time."""
    found: dict[str, list[Answer]] = {}

    async def ask(name: str, opening: AbstractAsyncContextManager[GitHubDesk]) -> None:
        subject = f"scope {name}"
        try:
            async with opening as desk:
                found[name] = [_rate(subject, await desk.rate())]
                found[name] += [_permission(subject, permission) for permission in await desk.permissions()]
        except GitHubError as error:
            found[name] = [Answer(Verdict.FALSE, subject, f"GitHub: {_line(error)}")]

    async with anyio.create_task_group() as tasks:
        for name, opening in desks.items():
            tasks.start_soon(partial(ask, name, opening))
    return [answer for name in desks for answer in found[name]]


async def ask_mirrors(mirrors: Mapping[str, str]) -> list[Answer]:
    """For each pull-through cache whether it answers; asked at the same time. Jobs can do without any of them."""
    found: dict[str, Answer] = {}

    async def ask(registry: str, url: str) -> None:
        health = await anyio.to_thread.run_sync(mirror.probe, registry, url)
        if health.trouble:
            text = f"{url} {_line(health.trouble)}; {mirror.without(health)}"
            found[registry] = Answer(Verdict.DOUBTFUL, f"mirror of {registry}", text)
        else:
            found[registry] = Answer(Verdict.TRUE, f"mirror of {registry}", f"{url} answers")

    async with anyio.create_task_group() as tasks:
        for registry, url in mirrors.items():
            tasks.start_soon(ask, registry, url)
    return [found[registry] for registry in sorted(found)]


def _rate(subject: str, budget: BudgetSnapshot) -> Answer:
    if budget.limit is None or budget.remaining is None:
        return Answer(Verdict.DOUBTFUL, subject, "GitHub accepts the token, but names no rate limit")
    verdict = Verdict.TRUE if budget.remaining > budget.limit // 10 else Verdict.DOUBTFUL
    return Answer(
        verdict, subject, f"GitHub accepts the token; {budget.remaining} of {budget.limit} calls an hour are left"
    )


def _permission(subject: str, permission: Permission) -> Answer:
    purpose = f"to {permission.purpose}: {permission.name}"
    detail = f" ({_line(permission.detail)})" if permission.detail else ""
    match permission.standing:
        case Standing.GRANTED:
            return Answer(Verdict.TRUE, subject, f"the {permission.holder} may {permission.purpose}")
        case Standing.MISSING:
            return Answer(Verdict.FALSE, subject, f"the {permission.holder} lacks the permission {purpose}{detail}")
        case Standing.UNKNOWN:
            return Answer(Verdict.DOUBTFUL, subject, f"make sure that the token has the permission {purpose}{detail}")


def _line(words: object) -> str:
    """Foreign words on one line, without anything that looks like a token."""
    return shown(" ".join(str(words).split()), longest=300)
