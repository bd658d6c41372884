"""What the simulated GitHub keeps: repositories, runs, jobs, runners, sessions, tokens.

All times are seconds since the epoch. These are mutable records owned by
:class:`slurm_gha.testing.github.state.GitHub`: read them freely, change them only through its methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from slurm_gha.domain.labels import Labels
from slurm_gha.testing.github.workflows import JobDefinition, Workflow

UNFINISHED = ("queued", "in_progress", "waiting", "pending", "requested")


@dataclass(slots=True, eq=False)
class Organisation:
    """An account that owns repositories; ``groups`` are its runner groups by id."""

    id: int
    login: str
    kind: str = "Organization"
    groups: dict[int, str] = field(default_factory=lambda: {1: "Default"})


@dataclass(slots=True, eq=False)
class Repository:
    """A repository with the files of its default branch. ``version`` grows with every change a listing could show.

    ``variables``: what its workflows find in the context ``vars``. ``protected``: environments whose jobs wait for
    somebody's approval. ``pushed_at``: of the last push, or its making.
    """

    id: int
    owner: Organisation
    name: str
    files: dict[str, str]
    created_at: float
    private: bool = True
    archived: bool = False
    disabled: bool = False
    default_branch: str = "main"
    sha: str = "0" * 40
    variables: dict[str, str] = field(default_factory=dict)
    pushed_at: float = 0.0
    protected: set[str] = field(default_factory=set)
    version: int = 0
    runs: list[int] = field(default_factory=list)
    open_runs: dict[int, Run] = field(default_factory=dict)
    run_numbers: dict[str, int] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.owner.login}/{self.name}"


@dataclass(slots=True, eq=False)
class JobGroup:
    """One job key of a workflow within a run's attempt: its matrix combinations and what became of them."""

    definition: JobDefinition
    combinations: list[Mapping[str, Any]] = field(default_factory=list)
    jobs: list[int] = field(default_factory=list)
    expanded: bool = False
    result: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Run:
    """A workflow run. ``jobs`` holds every job of every attempt, oldest first; ``groups`` is the present attempt."""

    id: int
    repository: Repository = field(repr=False)
    workflow: Workflow = field(repr=False)
    workflow_id: int
    number: int
    event: str
    payload: Mapping[str, Any]
    inputs: Mapping[str, Any]
    branch: str
    sha: str
    actor: str
    title: str
    check_suite_id: int
    created_at: float
    updated_at: float
    started_at: float
    groups: dict[str, JobGroup] = field(repr=False)
    attempt: int = 1
    status: str = "queued"
    conclusion: str | None = None
    cancelled: bool = False
    concurrency: str | None = None
    version: int = 0
    jobs: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class SimJob:
    """A workflow job as REST shows it, with all the runner's job message is made from.

    ``guid`` and ``plan_id`` are its names in the runner's protocol. ``needs`` maps a needed job's key to
    ``{"result": ..., "outputs": {...}}``. ``locked_until`` is the end of the runner's lease.
    """

    id: int
    guid: str
    plan_id: str
    run: Run = field(repr=False)
    run_attempt: int
    key: str
    name: str
    definition: JobDefinition = field(repr=False)
    matrix: Mapping[str, Any]
    matrix_index: int
    matrix_total: int
    needs: Mapping[str, Mapping[str, Any]]
    labels: tuple[str, ...]
    wanted: Labels
    created_at: float
    queued_at: float
    status: str = "queued"
    conclusion: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    runner_id: int | None = None
    runner_name: str | None = None
    runner_group_id: int | None = None
    runner_group_name: str | None = None
    assignment: Assignment | None = field(default=None, repr=False)
    assignments: int = 0
    locked_until: float | None = None
    cancel_requested: bool = False
    outputs: dict[str, str] = field(default_factory=dict)
    steps: list[Mapping[str, Any]] = field(default_factory=list)
    log: str = ""

    @property
    def repository(self) -> Repository:
        return self.run.repository

    @property
    def run_id(self) -> int:
        return self.run.id


@dataclass(slots=True, eq=False)
class SimRunner:
    """A registered runner. ``scope`` is ``repos/o/r``, ``orgs/o`` or ``enterprises/e``, in lower case.

    ``done`` says that an ephemeral runner has had its one job; ``job_id`` is the job it is running; ``scale_set_id``
    is the runner scale set that it was minted through (None: none).
    """

    id: int
    scope: str
    name: str
    labels: tuple[str, ...]
    offered: Labels
    group_id: int
    group_name: str
    work_folder: str
    client_id: str
    created_at: float
    public_key: Any = field(repr=False)
    ephemeral: bool = True
    online: bool = False
    job_id: int | None = None
    done: bool = False
    offline_since: float | None = None
    ever_online: bool = False
    version: str = ""
    scale_set_id: int | None = None

    @property
    def busy(self) -> bool:
        return self.job_id is not None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job offered to a runner's session; ``id`` is the runner request id that acknowledge and acquire speak of."""

    id: str
    job: SimJob
    runner: SimRunner
    session_id: str
    assigned_at: float


@dataclass(slots=True, eq=False)
class Session:
    """A runner's open session with the broker. ``seen_at`` is when it last polled or renewed a lease."""

    id: str
    runner: SimRunner
    opened_at: float
    seen_at: float
    assignment: Assignment | None = None
    acknowledged: bool = False
    cancellation_sent: bool = False
    waiting: int = 0
    news: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """An API token; ``name`` stands for it in counters.

    ``scopes`` makes it a classic one; otherwise ``permissions`` (name to read or write) count.
    It sees the repositories and organisations named (lower case); both None: everything.
    ``app``: it stands for an App that has signed for itself; ``installation``: it was issued to that one, until
    ``expires_at``.
    """

    text: str = field(repr=False)
    name: str
    login: str
    scopes: tuple[str, ...] | None
    permissions: Mapping[str, str]
    repositories: frozenset[str] | None
    organisations: frozenset[str] | None
    limit_per_hour: int
    app: int | None = None
    installation: int | None = None
    expires_at: float | None = None

    @property
    def account(self) -> str:
        """What its calls are counted under: all tokens of one installation share a budget."""
        return self.text if self.installation is None else self.name


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Word to a running job's runner that it is to stop."""

    job: SimJob


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for listeners: ``kind`` is ``job.queued``, ``runner.online`` and the like."""

    at: float
    kind: str
    id: int
    name: str
