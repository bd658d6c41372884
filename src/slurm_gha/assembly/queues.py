"""Scale sets: which ones the configuration wants, and the source that reads their queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slurm_gha.controller.edges import Edges
from slurm_gha.controller.loop import Controller
from slurm_gha.controller.origins import run_of
from slurm_gha.controller.queue_reading import assigned
from slurm_gha.controller.scalesets import ScaleSetBook
from slurm_gha.domain.allow import Answer
from slurm_gha.domain.job import Job
from slurm_gha.domain.pool import Policy
from slurm_gha.domain.scaleset import JobNews, Place, as_job
from slurm_gha.domain.scope import Scope, Source
from slurm_gha.github.scaleset.client import ScaleSetClient
from slurm_gha.observe.events import UnexpectedError
from slurm_gha.planner.capacity import capacity
from slurm_gha.planner.serving import Serving
from slurm_gha.sources.scaleset import ScaleSetSource, Wanted

MOST_ANSWERS = 100_000


@dataclass(frozen=True, slots=True)
class Queued:
    """What scale sets need: the configured scopes by name, the clients of those that use them, and who we are there.

    The clients are also the edges' ``scale_sets``.
    """

    scopes: Mapping[str, Scope]
    clients: Mapping[str, ScaleSetClient]
    owner: str


def wanted_scale_sets(policy: Policy, scopes: Mapping[str, Scope]) -> tuple[Wanted, ...]:
    """A scale set for each pool in each scope that uses them."""
    return tuple(
        Wanted(Place(name, pool.name), pool.scale_set_name, pool.labels, pool.runner_group_id, pool.runner_group)
        for name, scope in scopes.items()
        if Source.SCALESET in scope.sources
        for pool in policy.pools
        if name in pool.scopes
    )


class Rules:
    """What the policy of this moment says of jobs."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        self._serving: tuple[Policy, Serving] | None = None
        self._asked = 0

    def may_run(self, job: Job) -> bool:
        """Whether a runner is started for it, if it waits."""
        return bool(self._served().options(job))

    def decided(self, job: Job) -> bool | None:
        """The same; None as long as it depends on what GitHub has not told."""
        if self.may_run(job):
            return True
        return None if self._served().ruling(job).answer is Answer.UNKNOWN else False

    def _served(self) -> Serving:
        policy = self._policy()
        self._asked += 1
        # Its answers are remembered by what jobs say of themselves, of which there is no end.
        if self._serving is None or self._serving[0] is not policy or self._asked > MOST_ANSWERS:
            self._serving, self._asked = (policy, Serving(policy)), 0
        return self._serving[1]


def opened(policy: Callable[[], Policy], edges: Edges, queued: Queued) -> ScaleSetBook:
    """The book of what the queues told, as it was when the service last stopped."""
    book = ScaleSetBook(
        edges.journal, edges.clock, edges.bus, Rules(policy).may_run, lambda: policy().reassignment_grace
    )
    book.follow({wanted.place: wanted.name for wanted in wanted_scale_sets(policy(), queued.scopes)})
    return book


def queues(
    policy: Callable[[], Policy], edges: Edges, controller: Controller, book: ScaleSetBook, queued: Queued
) -> ScaleSetSource:
    """The source that reads all queues."""

    rules = Rules(policy)

    def may_run(place: Place, news: JobNews) -> bool | None:
        job = book.origins.known(as_job(assigned(news, edges.now()), place))
        answer = rules.decided(job)
        if answer is None:
            controller.ask_for_origin(run_of(job))
        return answer

    def on_error(where: str, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        edges.bus.emit(UnexpectedError(at=edges.now(), where=where, error=told))

    return ScaleSetSource(
        lambda: wanted_scale_sets(policy(), queued.scopes),
        queued.clients,
        book,
        edges.clock,
        owner=queued.owner,
        capacity=lambda place: capacity(controller.world(), policy(), place, edges.now()),
        may_run=may_run,
        doubtful=lambda place: book.doubtful(place, controller.world().runners),
        on_error=on_error,
    )
