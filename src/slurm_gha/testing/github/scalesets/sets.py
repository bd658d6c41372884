"""All runner scale sets of the simulated GitHub: made, found, changed, removed; and their runners."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.labels import normalise
from slurm_gha.testing.github.accounts import Accounts
from slurm_gha.testing.github.errors import Conflict
from slurm_gha.testing.github.runners import Runners
from slurm_gha.testing.github.runs import Runs
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.github.scalesets.claims import Claims
from slurm_gha.testing.github.scalesets.errors import TASKS, ServiceError, malformed, no_scale_set
from slurm_gha.testing.github.scalesets.queue import Queues
from slurm_gha.testing.github.scalesets.sessions import Sessions
from slurm_gha.testing.github.scalesets.values import ClaimState, ScaleSet, Statistics
from slurm_gha.testing.github.timers import Timers
from slurm_gha.testing.github.values import SimJob, SimRunner

FIRST_MESSAGE = 100_000_000


class ScaleSets:
    """The service's state. ``tick`` lets happen what is due, ``notify`` tells of changes."""

    def __init__(
        self,
        clock: Clock,
        seed: int,
        behaviour: ScaleSetBehaviour,
        *,
        accounts: Accounts,
        timers: Timers,
        runs: Runs,
        runners: Runners,
        tick: Callable[[], None],
        notify: Callable[[], None],
    ) -> None:
        self.behaviour = behaviour
        self.clock = clock
        self.tick, self.notify = tick, notify
        self._accounts, self._timers, self._runs, self._runners = accounts, timers, runs, runners
        # Its own chance: a GitHub without scale sets has the same history as if there were none.
        self._chance = random.Random(f"scale sets {seed}")
        self._made = 0
        self.sets: dict[int, ScaleSet] = {}
        self.tenant = self._name()
        queues = Queues(FIRST_MESSAGE + self._chance.randrange(1000))
        self._claims = Claims(
            clock, timers, queues, self.sets, lambda: self.behaviour, accounts.scopes_of, self._runners.offer
        )
        self.sessions = Sessions(
            clock, timers, queues, self._claims, lambda: self.behaviour, self.guid, tick, self._watch_abandonment
        )

    # What GitHub tells of jobs and runners

    def admits(self, runner: SimRunner, job: SimJob) -> bool:
        """Whether the runner may take the job, as far as scale sets are concerned."""
        return self._claims.admits(runner, job)

    def job_changed(self, what: str, job: SimJob) -> None:
        """Told of every change of a job's status, before runners are for those queued, after for the others."""
        match what:
            case "queued" | "requeued":
                self._claims.queued(job)
            case "in_progress":
                self._claims.started(job)
            case "completed":
                self._claims.completed(job)

    def runner_changed(self, what: str, runner: SimRunner) -> None:
        """Told of what happened to a runner: its scale set's statistics may be others."""
        scale_set = self.sets.get(runner.scale_set_id or 0)
        if scale_set is None:
            return
        if what == "removed":
            scale_set.runners.pop(runner.id, None)
        else:
            scale_set.runners[runner.id] = runner
        scale_set.wake()

    def statistics(self, scale_set: ScaleSet) -> Statistics:
        return self._claims.statistics(scale_set)

    def state_of(self, job: SimJob) -> ClaimState | None:
        """How far the job is with scale sets; None: it is for none, or over."""
        claim = self._claims.claims.get(job.id)
        return None if claim is None else claim.state

    # Scale sets

    def in_scope(self, scope: str) -> list[ScaleSet]:
        return [each for each in self.sets.values() if each.scope == scope]

    def find(self, scope: str, identifier: int) -> ScaleSet:
        scale_set = self.sets.get(identifier)
        if scale_set is None or scale_set.scope != scope:
            raise no_scale_set(identifier)
        return scale_set

    def create(
        self, scope: str, name: str, *, group_id: int = 1, labels: Sequence[str] = (), disable_update: bool = False
    ) -> ScaleSet:
        """A new scale set; its name is unique in its scope and group. No labels: its name is the one."""
        self.tick()
        owner = self._accounts.scope_owner(scope)
        self._check_name(scope, name, group_id)
        if group_id not in owner.groups:
            raise ServiceError(
                404, "RunnerGroupNotFoundException", f"No runner group found with identifier {group_id}."
            )
        self._made += 1
        kept = self._kept(name, labels)
        now = self.clock.now()
        scale_set = ScaleSet(
            id=self._made,
            scope=scope,
            owner=owner,
            name=name,
            group_id=group_id,
            labels=kept,
            offered=normalise(kept),
            disable_update=disable_update,
            created_at=now,
            left_at=now,
        )
        self.sets[scale_set.id] = scale_set
        self._watch_abandonment(scale_set)
        self._reconsider(scale_set)
        return scale_set

    def update(
        self,
        scale_set: ScaleSet,
        *,
        name: str | None = None,
        group_id: int | None = None,
        labels: Sequence[str] | None = None,
        disable_update: bool | None = None,
    ) -> None:
        """Change what is given. Other labels are those of its runners as well."""
        self.tick()
        if (name or scale_set.name, group_id or scale_set.group_id) != (scale_set.name, scale_set.group_id):
            self._check_name(scale_set.scope, name or scale_set.name, group_id or scale_set.group_id, scale_set)
        scale_set.name, scale_set.group_id = name or scale_set.name, group_id or scale_set.group_id
        if disable_update is not None:
            scale_set.disable_update = disable_update
        if labels is not None:
            scale_set.labels = self._kept(scale_set.name, labels)
            scale_set.offered = normalise(scale_set.labels)
            for runner in scale_set.runners.values():
                runner.labels, runner.offered = scale_set.labels, scale_set.offered
        self._reconsider(scale_set)

    def remove(self, scale_set: ScaleSet) -> None:
        """Its idle runners and its session are gone with it, its jobs are for others; what runs goes on."""
        self.tick()
        self._drop(scale_set)

    def _drop(self, scale_set: ScaleSet) -> None:
        if self.sets.pop(scale_set.id, None) is None:
            return
        if scale_set.session is not None:
            self.sessions.end(scale_set.session)
        for runner in list(scale_set.runners.values()):
            if not runner.busy:
                self._runners.remove(runner)
        self._reconsider(scale_set)

    def _reconsider(self, scale_set: ScaleSet) -> None:
        self._claims.reconsider(scale_set, self._runs.queued.values())
        self.notify()

    def _check_name(self, scope: str, name: str, group_id: int, itself: ScaleSet | None = None) -> None:
        if not name.strip():
            raise malformed("The runner scale set needs a name.")
        for each in self.in_scope(scope):
            if each is not itself and each.group_id == group_id and each.name.lower() == name.lower():
                raise ServiceError(
                    400, "RunnerScaleSetExistsException", f"A runner scale set with name {name} already exists."
                )

    def _kept(self, name: str, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(labels)) if labels and self.behaviour.several_labels else (name,)

    def _watch_abandonment(self, scale_set: ScaleSet) -> None:
        left_at, limit = scale_set.left_at, self.behaviour.abandoned_after

        def check() -> None:
            if scale_set.left_at == left_at:
                self._drop(scale_set)

        if left_at is not None and limit is not None:
            self._timers.at(left_at + limit, check)

    # Runners

    def mint_runner(self, scale_set: ScaleSet, name: str, work_folder: str = "_work") -> tuple[SimRunner, str]:
        """Register a just-in-time runner of the scale set; its JIT configuration."""
        self.tick()
        try:
            minted = self._runners.mint(
                scale_set.scope,
                scale_set.owner,
                name,
                scale_set.labels,
                scale_set.group_id,
                work_folder,
                scale_set=(scale_set.id, scale_set.name),
            )
        except Conflict as error:
            message = f"A runner with the name {name} already exists."
            raise ServiceError(409, "TaskAgentExistsException", message, space=TASKS) from error
        self.notify()
        return minted

    # What tests and other processes change

    def change(self, **knobs: Any) -> None:
        """From now on the service behaves otherwise, in what is named; TypeError for what there is not."""
        self.behaviour = dataclasses.replace(self.behaviour, **knobs)
        for scale_set in self.sets.values():
            scale_set.wake()

    def move(self) -> None:
        """From the next registration on, the service has another URL; tokens given out keep their own."""
        self.tenant = self._name()

    def _name(self) -> str:
        return f"{self._chance.getrandbits(80):020x}"

    def guid(self) -> str:
        """An id for whatever needs one."""
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
