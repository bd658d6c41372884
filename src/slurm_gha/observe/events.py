"""What happened, as frozen values; whoever wants to know listens. Nothing here decides or waits.

``name`` is always a runner's name: it is the same in the journal, in Slurm and on GitHub, and ties events together.
Times are seconds since the epoch. Texts may come from GitHub, Slurm or a node, and are hostile until cleaned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at ``at``."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerIntended(Event):
    """A runner's name is on disk; sbatch comes next. ``job_id`` is the demand that caused it, a hint only."""

    name: str
    pool: str
    scope: str
    job_id: int | None = None
    repository: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSubmitted(Event):
    """Slurm accepted the runner's job."""

    name: str
    pool: str
    scope: str
    slurm_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionRefused(Event):
    """Slurm, or GitHub ahead of it, said no; ``reason`` is in its own words."""

    name: str
    pool: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionUnclear(Event):
    """sbatch gave no answer: the Slurm job may exist, and is looked for by its name."""

    name: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimGranted(Event):
    """A started Slurm job got its JIT configuration."""

    name: str
    node: str = ""
    registration_id: int | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDenied(Event):
    """A claim or report was turned away. ``name`` is as the caller gave it."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandVanished(Event):
    """A started Slurm job was told that nobody needs it any more."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerReported(Event):
    """The node's word on its runner. ``reported_at`` is by the node's clock, ``at`` by ours."""

    name: str
    event: str
    detail: str = ""
    reported_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChanged(Event):
    """A runner moved on; ``before`` is empty when it was first seen. ``job_id`` is the job it has, if that is known."""

    name: str
    before: str
    after: str
    pool: str | None = None
    slurm_id: int | None = None
    job_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerWithdrawn(Event):
    """A runner is being taken away: it is off GitHub, and its Slurm job is being cancelled."""

    name: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalDeferred(Event):
    """GitHub would not deregister the runner because it is busy: it is left alone."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRemoved(Event):
    """A registration was taken off GitHub."""

    name: str
    scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerClosed(Event):
    """A runner's story is over; ``outcome`` is a few words of our own, ``detail`` the longer story."""

    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerAdopted(Event):
    """A running Slurm job with our name, but unknown to the journal, is looked after again."""

    name: str
    slurm_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayCancelled(Event):
    """A pending Slurm job with our name, but unknown to the journal, was cancelled."""

    name: str
    slurm_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSeen(Event):
    """A queued job was seen for the first time. ``created_at`` is GitHub's time of its creation."""

    job_id: int
    repository: str
    scope: str
    job_name: str = ""
    labels: tuple[str, ...] = ()
    created_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobGone(Event):
    """A job is no longer queued: taken by ``runner_name`` if that is known, else cancelled or over already.

    ``waited`` is in seconds, from its creation to its start, or to now.
    """

    job_id: int
    repository: str
    scope: str
    waited: float
    runner_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUnservable(Event):
    """No pool can ever serve this job as things are configured. ``obstacle``: labels, misspelt or bounds."""

    job_id: int
    repository: str
    scope: str
    reason: str
    job_name: str = ""
    obstacle: str = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRefused(Event):
    """Pools could serve this job by its labels, and none lets it run; ``ground`` is what it is refused for."""

    job_id: int
    repository: str
    scope: str
    ground: str
    reason: str
    job_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBackedOff(Event):
    """Nothing is submitted for the pool before ``until``."""

    pool: str
    failures: int
    until: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecovered(Event):
    """A pool's back-off is over, by good news."""

    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryTaken(Event):
    """A signed webhook delivery was answered with 2xx; ``outcome`` is a word of ours (docs/administrators/webhooks.md).

    ``delivery`` is GitHub's id of it.
    """

    scope: str
    action: str
    outcome: str
    delivery: str = ""
    job_id: int | None = None
    repository: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRefused(Event):
    """What came to the webhook's address was turned away. ``scope`` is empty where it named none of ours.

    ``times``: since the last such event, which comes at most every few seconds.
    """

    scope: str
    reason: str
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveriesMissed(Event):
    """GitHub's history shows deliveries that never arrived: so many are ``asked`` for again, of ``missed``."""

    scope: str
    missed: int
    asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUpImpossible(Event):
    """GitHub's history of deliveries cannot be read or used; what gets lost is left to the poll."""

    scope: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubUnreadable(Event):
    """GitHub did not give what was asked of it for this scope."""

    scope: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubReadable(Event):
    """The scope can be read (again)."""

    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSetReady(Event):
    """A pool's scale set is there; ``made``: by us just now."""

    scope: str
    pool: str
    scale_set: str
    made: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsDropped(Event):
    """GitHub kept only some of a scale set's labels: jobs that ask for the others never reach it."""

    scope: str
    pool: str
    scale_set: str
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleSetGone(Event):
    """A scale set has vanished from GitHub; it is made again."""

    scope: str
    pool: str
    scale_set: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(Event):
    """The scale set's queue is ours to read; ``resumed``: by the session that we had already."""

    scope: str
    pool: str
    scale_set: str
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionConflict(Event):
    """Another controller reads the scale set's queue; GitHub's words may name it. We wait for its end."""

    scope: str
    pool: str
    scale_set: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueUnreadable(Event):
    """The scale set's queue cannot be read."""

    scope: str
    pool: str
    scale_set: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMessage(Event):
    """A message of a scale set's queue is on disk: how many items of each kind it had."""

    scope: str
    pool: str
    message_id: int
    available: int = 0
    assigned: int = 0
    started: int = 0
    completed: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmUnreadable(Event):
    """Slurm did not answer."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmReadable(Event):
    """Slurm can be read (again)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFinished(Event):
    """One round of the loop: how long it took in seconds, and how many waiting jobs, runners and actions it had."""

    seconds: float
    jobs: int
    runners: int
    actions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStarted(Event):
    """The service is up."""

    version: str = ""
    installation: str = ""
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopped(Event):
    """The service ends; runners and their Slurm jobs go on."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnexpectedError(Event):
    """An error that nobody foresaw, caught at an edge; the service goes on."""

    where: str
    error: str


Listener = Callable[[Event], None]


class Bus:
    """Hands each event to every listener, in the order they came. A listener that raises is counted and survived."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = list(listeners)
        self._telling = False
        self.failures = 0

    def subscribe(self, listener: Listener) -> None:
        """Hear every event from now on."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Tell everybody; never raises. The other listeners hear of one that failed."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - what only watches must not stop the loop
                self.failures += 1
                self._tell_of(listener, error, event)

    def _tell_of(self, failed: Listener, error: Exception, event: Event) -> None:
        """Only the error's type is told: its text may hold anything of what the event held."""
        if self._telling:
            return
        self._telling = True
        where = f"listener {type(failed).__name__} at {type(event).__name__}"
        news = UnexpectedError(at=event.at, where=where, error=type(error).__name__)
        try:
            for listener in tuple(self._listeners):
                if listener is failed:
                    continue
                try:
                    listener(news)
                except Exception:  # noqa: BLE001 - as above
                    self.failures += 1
        finally:
            self._telling = False
