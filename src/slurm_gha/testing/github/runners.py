"""Registered runners, their sessions, and the jobs offered to them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.labels import normalise
from slurm_gha.testing.github.assignment import first, job_for, runner_for
from slurm_gha.testing.github.errors import Conflict, NotThere, Unprocessable
from slurm_gha.testing.github.jit import Keys, encode
from slurm_gha.testing.github.runs import Runs
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.github.timers import Timers
from slurm_gha.testing.github.values import Assignment, Organisation, Repository, Session, SimJob, SimRunner

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the service treats runners and jobs; the defaults are GitHub's. All times in seconds.

    ``steal`` lets any matching runner have any matching job (seeded), so that labels get stolen.
    ``idle_removal`` is after how long an idle JIT runner's registration is dropped (None: never).
    ``session_timeout`` is after how long without a poll a runner counts as offline.
    ``own_keys`` gives every runner its own RSA key: slow, and needless in a simulation.
    """

    steal: bool = False
    assignment_timeout: float = 60.0
    lease: float = 600.0
    session_timeout: float = 120.0
    idle_removal: float | None = None
    offline_removal: float = DAY
    queue_limit: float = DAY
    credential_lifetime: float | None = None
    own_keys: bool = False
    scale_sets: ScaleSetBehaviour = field(default_factory=ScaleSetBehaviour)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a runner finds the service's parts, as its JIT configuration tells it."""

    url: str

    @property
    def token(self) -> str:
        return f"{self.url}/_runner/oauth/token"

    @property
    def broker(self) -> str:
        return f"{self.url}/_runner/broker/"

    @property
    def run_service(self) -> str:
        return f"{self.url}/_runner/run/"

    @property
    def results(self) -> str:
        return f"{self.url}/_runner/results/"


class Runners:
    """All registrations and sessions. ``on_runner`` is told what happened to which runner.

    ``admits`` tells whether a runner may take a job, whatever the labels: some are for scale sets.
    """

    def __init__(
        self,
        clock: Clock,
        chance: random.Random,
        timers: Timers,
        behaviour: Behaviour,
        addresses: Addresses,
        runs: Runs,
        scopes_of: Callable[[Repository], frozenset[str]],
        on_runner: Callable[[str, SimRunner], None],
        admits: Callable[[SimRunner, SimJob], bool],
    ) -> None:
        self._clock, self._timers, self._runs, self._admits = clock, timers, runs, admits
        self._behaviour, self._addresses = behaviour, addresses
        self._scopes_of, self._on_runner = scopes_of, on_runner
        self._choose = chance.randrange if behaviour.steal else first
        self._keys = Keys(own=behaviour.own_keys)
        self._made = 0
        self.runners: dict[int, SimRunner] = {}
        self.sessions: dict[str, Session] = {}
        self._by_client: dict[str, SimRunner] = {}
        self._by_name: dict[tuple[str, str], SimRunner] = {}
        self._session_of: dict[int, Session] = {}
        self._misses: dict[int, int] = {}

    # Registrations

    def mint(
        self,
        scope: str,
        owner: Organisation,
        name: str,
        labels: Sequence[str],
        group_id: int,
        work_folder: str,
        version: str = "",
        scale_set: tuple[int, str] | None = None,
    ) -> tuple[SimRunner, str]:
        """Register a just-in-time runner; Conflict when the scope has one of that name.

        ``scale_set`` is the id and the name of the runner's, if it is to have one.
        """
        if group_id not in owner.groups:
            raise NotThere(f"no runner group {group_id}")
        if not 1 <= len(labels) <= 100 or not all(label.strip() for label in labels):
            raise Unprocessable("Invalid labels: between 1 and 100, none of them empty")
        if not 1 <= len(name) <= 64:
            raise Unprocessable("Invalid name: between 1 and 64 characters")
        if (scope, name.lower()) in self._by_name:
            raise Conflict("Already exists - A runner with the name already exists.")
        self._made += 1
        public_key, parameters = self._keys.key()
        now = self._clock.now()
        runner = SimRunner(
            id=self._made,
            scope=scope,
            name=name,
            labels=tuple(labels),
            offered=normalise(labels),
            group_id=group_id,
            group_name=owner.groups[group_id],
            work_folder=work_folder,
            client_id=self._runs.guid(),
            created_at=now,
            public_key=public_key,
            offline_since=now,
            version=version,
            scale_set_id=None if scale_set is None else scale_set[0],
        )
        self.runners[runner.id] = runner
        self._by_client[runner.client_id] = runner
        self._by_name[scope, name.lower()] = runner
        self._timers.at(now + self._behaviour.offline_removal, lambda: self._offline_check(runner))
        if self._behaviour.idle_removal is not None:
            self._timers.at(now + self._behaviour.idle_removal, lambda: self._idle_check(runner))
        self._on_runner("registered", runner)
        named = {} if scale_set is None else {"RunnerScaleSetId": scale_set[0], "RunnerScaleSetName": scale_set[1]}
        return runner, self._configuration(runner, parameters, named)

    def _configuration(self, runner: SimRunner, parameters: str, more: Mapping[str, Any]) -> str:
        path = runner.scope.removeprefix("repos/").removeprefix("orgs/")
        described = {
            "AgentId": runner.id,
            "AgentName": runner.name,
            "PoolId": runner.group_id,
            "PoolName": runner.group_name,
            "ServerUrl": self._addresses.url,
            "ServerUrlV2": self._addresses.broker,
            "UseV2Flow": True,
            "GitHubUrl": f"{self._addresses.url}/{path}",
            "WorkFolder": runner.work_folder,
            "Ephemeral": runner.ephemeral,
            "DisableUpdate": True,
            **more,
        }
        credentials = {
            "Scheme": "OAuth",
            "Data": {
                "clientId": runner.client_id,
                "authorizationUrl": self._addresses.token,
                "oauthEndpointUrl": self._addresses.token,
                "requireFipsCryptography": "True",
            },
        }
        return encode(described, credentials, parameters)

    def in_scope(self, scope: str) -> list[SimRunner]:
        return [runner for runner in self.runners.values() if runner.scope == scope]

    def by_client_id(self, client_id: str) -> SimRunner | None:
        return self._by_client.get(client_id)

    def session_of(self, runner: SimRunner) -> Session | None:
        return self._session_of.get(runner.id)

    def remove(self, runner: SimRunner) -> None:
        """Deregister; Unprocessable while it runs a job. A job offered and not yet taken is queued again."""
        if runner.busy:
            raise Unprocessable(
                f"Bad request - Runner '{runner.name}' is currently running a job and cannot be deleted."
            )
        self._forget(runner)

    def _forget(self, runner: SimRunner) -> None:
        if self.runners.pop(runner.id, None) is None:
            return
        self._by_client.pop(runner.client_id, None)
        self._by_name.pop((runner.scope, runner.name.lower()), None)
        self._misses.pop(runner.id, None)
        session = self._session_of.get(runner.id)
        if session is not None:
            self._drop_session(session)
        runner.online = False
        self._on_runner("removed", runner)

    # Sessions

    def open(self, runner: SimRunner) -> str:
        """A session for the runner, which is online from now on; Conflict while another is open."""
        if runner.id not in self.runners:
            raise NotThere(f"no runner {runner.id}")
        if runner.id in self._session_of:
            raise Conflict(f"The actions runner {runner.name} already has an active session.")
        if runner.done:
            raise Conflict(f"The ephemeral runner {runner.name} has had its job.")
        now = self._clock.now()
        session = Session(self._runs.guid(), runner, now, now)
        self.sessions[session.id] = self._session_of[runner.id] = session
        runner.online, runner.ever_online, runner.offline_since = True, True, None
        self._timers.at(now + self._behaviour.session_timeout, lambda: self._silence_check(session))
        self._on_runner("online", runner)
        self._offer_to(session)
        return session.id

    def close(self, session_id: str) -> None:
        """The runner is offline; one that has had its job is removed, one that has not stays."""
        session = self.session(session_id)
        self._drop_session(session)
        self._went_offline(session.runner)

    def session(self, session_id: str) -> Session:
        session = self.sessions.get(session_id)
        if session is None:
            raise NotThere(f"no session {session_id}")
        return session

    def _drop_session(self, session: Session) -> None:
        del self.sessions[session.id]
        del self._session_of[session.runner.id]
        assignment, session.assignment = session.assignment, None
        if assignment is not None and assignment.job.assignment is assignment:
            self._runs.requeue(assignment.job)
        session.news.set()

    def _went_offline(self, runner: SimRunner) -> None:
        if runner.id not in self.runners:
            return
        runner.online, runner.offline_since = False, self._clock.now()
        self._on_runner("offline", runner)
        if runner.done and not runner.busy:
            self._forget(runner)
        else:
            self._timers.at(runner.offline_since + self._behaviour.offline_removal, lambda: self._offline_check(runner))

    # Offers

    def offer(self, job: SimJob) -> None:
        """A job is queued: give it to an idle runner, if one fits."""
        scopes = self._scopes_of(job.repository)
        free = (session.runner for session in self._idle())
        idle = [runner for runner in free if runner.scope in scopes and self._admits(runner, job)]
        idle.sort(key=lambda runner: (self._misses.get(runner.id, 0), runner.id))
        runner = runner_for(job, idle, self._choose)
        if runner is not None:
            self._assign(self._session_of[runner.id], job)

    def _offer_to(self, session: Session) -> None:
        queued: Iterable[SimJob] = sorted(self._runs.queued.values(), key=lambda job: (job.queued_at, job.id))
        waiting = [job for job in queued if job.assignment is None]
        runner = session.runner
        open_to = [
            job for job in waiting if runner.scope in self._scopes_of(job.repository) and self._admits(runner, job)
        ]
        job = job_for(runner, open_to, self._choose)
        if job is not None:
            self._assign(session, job)

    def _idle(self) -> Iterable[Session]:
        return (
            session
            for session in self.sessions.values()
            if session.assignment is None and not session.runner.busy and not session.runner.done
        )

    def _assign(self, session: Session, job: SimJob) -> None:
        now = self._clock.now()
        assignment = Assignment(self._runs.guid(), job, session.runner, session.id, now)
        session.assignment, session.acknowledged, job.assignment = assignment, False, assignment
        job.assignments += 1
        self._timers.at(now + self._behaviour.assignment_timeout, lambda: self._assignment_check(assignment))
        self.wake(session)

    def wake(self, session: Session) -> None:
        """Something is there for the session's long poll."""
        session.news.set()
        session.news = anyio.Event()

    def withdraw(self, job: SimJob) -> None:
        """The job is over or taken: no session may offer it any longer; its runner is free for another."""
        assignment = job.assignment
        session = None if assignment is None else self.sessions.get(assignment.session_id)
        if session is not None and session.assignment is assignment:
            session.assignment = None
            job.assignment = None
            if not session.runner.busy:
                self._offer_to(session)

    def release(self, job: SimJob) -> None:
        """The job is over: its runner has done its work, and is removed at once if it is not there any more."""
        runner = self.runners.get(job.runner_id or 0)
        if runner is None or runner.job_id != job.id:
            return
        runner.job_id, runner.done = None, runner.ephemeral
        self._on_runner("done", runner)
        session = self._session_of.get(runner.id)
        if session is None:
            self._forget(runner)
        elif not runner.done:
            self._offer_to(session)

    # What happens by itself

    def _assignment_check(self, assignment: Assignment) -> None:
        session = self.sessions.get(assignment.session_id)
        if session is None or session.assignment is not assignment:
            return
        session.assignment = None
        runner = session.runner
        self._misses[runner.id] = self._misses.get(runner.id, 0) + 1
        self._runs.requeue(assignment.job)
        if session.assignment is None:
            self._offer_to(session)

    def _silence_check(self, session: Session) -> None:
        if self.sessions.get(session.id) is not session:
            return
        quiet_at = session.seen_at + self._behaviour.session_timeout
        if self._clock.now() < quiet_at:
            self._timers.at(quiet_at, lambda: self._silence_check(session))
            return
        self._drop_session(session)
        self._went_offline(session.runner)

    def _offline_check(self, runner: SimRunner) -> None:
        since = runner.offline_since
        overdue = since is not None and since + self._behaviour.offline_removal <= self._clock.now()
        if runner.id in self.runners and overdue and not runner.busy:
            self._forget(runner)

    def _idle_check(self, runner: SimRunner) -> None:
        if runner.id in self.runners and not runner.busy and not runner.done:
            session = self._session_of.get(runner.id)
            if session is None or session.assignment is None:
                self._forget(runner)
