"""Prometheus metrics: what events and the status come to in numbers.

Labels are pools, scopes, phases and a few words of our own: never names of runners, jobs or repositories, so that the
number of series is bounded by the configuration.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from slurm_gha.domain.runner import Phase
from slurm_gha.observe import events
from slurm_gha.observe.correlation import Correlation
from slurm_gha.observe.events import Event
from slurm_gha.observe.scaleset_metrics import ScaleSetMetrics
from slurm_gha.observe.status import Status, WaitingJob

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_WAITS = (5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
_STARTUPS = (1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300, 600, 1800, 3600, 14400)
_COMMANDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_REACTIONS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900)
_ROUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60)
# A label's values beyond so many are lumped together: a bound that does not depend on anybody's good will.
_MOST_VALUES = 40
# Jobs told of, and waiting for their sbatch; those beyond are left out of the histogram.
_MOST_TOLD = 20_000
_CREATED = re.compile(rb"^(?:# (?:HELP|TYPE) )?slurm_gha_\w+_created[ {].*\n", re.MULTILINE)


class Metrics:
    """A listener that counts. Each instance has a registry of its own."""

    def __init__(self, *, version: str, installation: str, correlation: Correlation | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self._correlation = correlation or Correlation()
        self._submitted: dict[str, float] = {}
        self._requests: dict[tuple[str, str], int] = {}
        self._values: dict[str, set[str]] = {}
        self._told: OrderedDict[int, float] = OrderedDict()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"slurm_gha_{name}", text, labels, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"slurm_gha_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
            return Histogram(f"slurm_gha_{name}", text, labels, buckets=tuple(buckets), registry=registry)

        build = gauge("build_info", "Always 1; tells the version and the installation.", "version", "installation")
        build.labels(version, installation).set(1)
        self._started = gauge("start_time_seconds", "When the service started.")
        self._draining = gauge("draining", "1 while no new runner is submitted.")
        # Runners and pools
        self._runners = gauge("runners", "Runners, by pool and phase.", "pool", "phase")
        self._limit = gauge("pool_limit", "Most runners that the pool may have.", "pool")
        self._backoff = gauge("pool_backoff", "1 while the pool backs off.", "pool")
        self._failures = gauge("pool_failures", "Failures in a row of the pool; 0 when all is well.", "pool")
        self._backoffs = counter("pool_backoffs", "Back-offs begun.", "pool")
        self._submissions = counter(
            "submissions", "sbatch calls by result: accepted, refused, unclear.", "pool", "result"
        )
        self._closed = counter("runners_closed", "Runners whose story is over, by outcome.", "pool", "outcome")
        self._withdrawn = counter("withdrawals", "Runners withdrawn.", "pool")
        self._deferred = counter("withdrawals_deferred", "Withdrawals put off because the runner was busy.")
        self._removed = counter("registrations_removed", "Registrations taken off GitHub.")
        self._adopted = counter("runners_adopted", "Unknown Slurm jobs with our name that are looked after again.")
        self._strays = counter("strays_cancelled", "Unknown pending Slurm jobs with our name that were cancelled.")
        self._claims = counter("claims", "Claims by outcome: granted, denied, demand_vanished.", "outcome")
        self._startup = histogram(
            "runner_startup_seconds", "From sbatch to the runner listening for a job.", _STARTUPS, "pool"
        )
        # Jobs
        self._waiting = gauge(
            "jobs_waiting",
            "Queued jobs by scope, pool of the expected runner (or none), and state: covered, uncovered, refused, "
            "unservable.",
            "scope",
            "pool",
            "state",
        )
        self._oldest = gauge("jobs_oldest_waiting_seconds", "Age of the oldest queued servable job.", "scope")
        self._seen = counter("jobs_seen", "Queued jobs seen for the first time.", "scope")
        self._held_back = gauge(
            "jobs_held_back", "Queued jobs without a runner, by what keeps it away.", "scope", "cause"
        )
        self._unservable = counter("jobs_unservable", "Queued jobs without a pool, by why.", "scope", "obstacle")
        self._refused = counter("jobs_refused", "Queued jobs that no pool lets run, by what for.", "scope", "ground")
        self._wait = histogram("job_wait_seconds", "From a job's creation to its start on a runner.", _WAITS, "pool")
        # Slurm
        self._commands = histogram("slurm_command_seconds", "Time of Slurm commands.", _COMMANDS, "command")
        self._command_failures = counter(
            "slurm_command_failures", "Slurm commands that failed or ran into their time-out.", "command"
        )
        self._slurm_readable = gauge("slurm_readable", "1 while Slurm's latest listing succeeded.")
        self._slurm_read = gauge("slurm_last_read_timestamp_seconds", "When Slurm was last listed without error.")
        self._slurm_errors = counter("slurm_errors", "Times that Slurm became unreadable, or refused to cancel.")
        # GitHub
        self._github_readable = gauge("github_readable", "1 while the scope's latest readings succeeded.", "scope")
        self._github_read = gauge(
            "github_last_read_timestamp_seconds", "When the scope was last read without error.", "scope"
        )
        self._github_errors = counter("github_errors", "Times that GitHub did not give what it was asked for.", "scope")
        self._github_requests = counter(
            "github_requests", "Requests to GitHub, by whether they count against the rate limit.", "scope", "counted"
        )
        self._remaining = gauge("github_budget_remaining", "Requests left in this rate limit window.", "scope")
        self._budget = gauge("github_budget_limit", "Requests of a whole rate limit window.", "scope")
        self._reset = gauge("github_budget_reset_timestamp_seconds", "When the rate limit window ends.", "scope")
        self._scale_sets = ScaleSetMetrics(registry)
        # Webhooks
        self._deliveries = counter(
            "webhook_deliveries",
            "Deliveries by outcome: new, late, old, known, foreign, unused, greeting, refused.",
            "scope",
            "outcome",
        )
        self._missed = counter("webhook_deliveries_missed", "Deliveries that GitHub's history showed missing.", "scope")
        self._delivered = gauge("webhook_last_delivery_timestamp_seconds", "When a delivery last came.", "scope")
        self._reaction = histogram(
            "webhook_to_submission_seconds", "From a delivery to the accepted sbatch for its job.", _REACTIONS, "scope"
        )
        # The service itself
        self._rounds = histogram("round_seconds", "Time of one round: observe, plan, act.", _ROUNDS)
        self._errors = counter("unexpected_errors", "Errors that nobody foresaw; the log tells more.")
        ProcessCollector(registry=registry)

    def render(self) -> bytes:
        """The text that Prometheus scrapes (CONTENT_TYPE), without the times at which counters were made."""
        return _CREATED.sub(b"", generate_latest(self.registry))

    def __call__(self, event: Event) -> None:
        """Count one event."""
        self._scale_sets(event)
        self._correlation.learn(event)
        match event:
            case events.RunnerSubmitted(at=at, name=name, pool=pool):
                self._submissions.labels(pool, "accepted").inc()
                self._submitted[name] = at
                told = self._told.pop(self._correlation.of(name).job_id or 0, None)
                if told is not None:
                    self._reaction.labels(event.scope).observe(max(0.0, at - told))
            case events.SubmissionRefused(pool=pool):
                self._submissions.labels(pool, "refused").inc()
            case events.SubmissionUnclear(name=name):
                self._submissions.labels(self._pool(name), "unclear").inc()
            case events.ClaimGranted():
                self._claims.labels("granted").inc()
            case events.ClaimDenied():
                self._claims.labels("denied").inc()
            case events.DemandVanished():
                self._claims.labels("demand_vanished").inc()
            case events.RunnerReported(at=at, name=name, event="listening"):
                self._listens(name, at)
            case events.PhaseChanged(at=at, name=name, after=(Phase.IDLE.value | Phase.BUSY.value)):
                self._listens(name, at)
            case events.RunnerWithdrawn(name=name):
                self._withdrawn.labels(self._pool(name)).inc()
            case events.WithdrawalDeferred():
                self._deferred.inc()
            case events.RegistrationRemoved():
                self._removed.inc()
            case events.RunnerClosed(name=name, outcome=outcome):
                self._submitted.pop(name, None)
                self._closed.labels(self._pool(name), self._bounded("outcome", outcome)).inc()
            case events.RunnerAdopted():
                self._adopted.inc()
            case events.StrayCancelled():
                self._strays.inc()
            case _:
                self._count_more(event)

    def _count_more(self, event: Event) -> None:
        match event:
            case events.JobSeen(scope=scope):
                self._seen.labels(scope).inc()
            case events.JobGone(waited=waited, runner_name=str(name)):
                # Of the jobs that other people's runners took, nothing is to be learnt about our pools.
                if pool := self._pool(name):
                    self._wait.labels(pool).observe(waited)
            case events.JobUnservable(scope=scope, obstacle=obstacle):
                self._unservable.labels(scope, obstacle).inc()
            case events.JobRefused(scope=scope, ground=ground):
                self._refused.labels(scope, ground).inc()
            case events.PoolBackedOff(pool=pool):
                self._backoffs.labels(pool).inc()
            case events.DeliveryTaken(scope=scope, outcome=outcome):
                self._deliveries.labels(scope, outcome).inc()
                if outcome == "new" and event.action == "queued" and event.job_id is not None:
                    self._told[event.job_id] = event.at
                    while len(self._told) > _MOST_TOLD:
                        self._told.popitem(last=False)
            case events.DeliveryRefused(scope=scope, times=times):
                self._deliveries.labels(scope, "refused").inc(times)
            case events.DeliveriesMissed(scope=scope, missed=missed):
                self._missed.labels(scope).inc(missed)
            case events.GitHubUnreadable(scope=scope):
                self._github_errors.labels(scope).inc()
            case events.SlurmUnreadable():
                self._slurm_errors.inc()
            case events.RoundFinished(seconds=seconds):
                self._rounds.observe(seconds)
            case events.UnexpectedError():
                self._errors.inc()

    def observe_command(self, name: str, seconds: float, exit_code: int | None) -> None:
        """Count one Slurm command: its time, and its exit code (None: killed at its time-out)."""
        command = self._bounded("command", name)
        self._commands.labels(command).observe(seconds)
        failures = self._command_failures.labels(command)
        if exit_code != 0:
            failures.inc()

    def observe_status(self, status: Status) -> None:
        """Set what is a matter of the moment."""
        self._started.set(status.started_at)
        self._draining.set(status.draining)
        self._slurm_readable.set(status.slurm.readable)
        self._slurm_read.set(status.slurm.last_read or 0)
        self._observe_pools(status)
        self._observe_scopes(status)
        self._observe_jobs(status)
        self._scale_sets.observe_status(status)

    def _observe_pools(self, status: Status) -> None:
        for metric in (self._runners, self._limit, self._backoff, self._failures):
            metric.clear()  # a pool that is gone from the configuration is gone from here
        for pool in status.pools:
            for phase in Phase:
                self._runners.labels(pool.name, phase.value).set(pool.phases.get(phase.value, 0))
            self._limit.labels(pool.name).set(pool.limit)
            self._backoff.labels(pool.name).set(pool.until is not None)
            self._failures.labels(pool.name).set(pool.failures)

    def _observe_scopes(self, status: Status) -> None:
        for metric in (self._github_readable, self._github_read, self._remaining, self._budget, self._reset):
            metric.clear()
        self._delivered.clear()
        for scope in status.scopes:
            if "webhook" in scope.sources:
                self._delivered.labels(scope.name).set(scope.last_delivery or 0)
            self._github_readable.labels(scope.name).set(scope.readable)
            self._github_read.labels(scope.name).set(scope.last_read or 0)
            budget = scope.budget
            if budget is None:
                continue
            for metric, value in (
                (self._remaining, budget.remaining),
                (self._budget, budget.limit),
                (self._reset, budget.reset),
            ):
                if value is not None:
                    metric.labels(scope.name).set(value)
            for counted, total in (("true", budget.counted), ("false", budget.uncounted)):
                before = self._requests.get((scope.name, counted), 0)
                self._github_requests.labels(scope.name, counted).inc(total - before if total >= before else total)
                self._requests[scope.name, counted] = total

    def _observe_jobs(self, status: Status) -> None:
        self._waiting.clear()
        self._held_back.clear()
        self._oldest.clear()
        pools = {runner.name: runner.pool for runner in status.runners}
        oldest = {scope.name: 0.0 for scope in status.scopes}
        for scope in oldest:
            self._waiting.labels(scope, "", "uncovered").set(0)
            self._waiting.labels(scope, "", "refused").set(0)
            self._waiting.labels(scope, "", "unservable").set(0)
        for job in status.jobs:
            pool = pools.get(job.runner, "") if job.runner is not None else ""
            self._waiting.labels(job.scope, pool, _state(job)).inc()
            if job.cause:
                self._held_back.labels(job.scope, job.cause).inc()
            if not job.unservable and not job.refused:
                oldest[job.scope] = max(oldest.get(job.scope, 0.0), status.at - job.since)
        for scope, age in oldest.items():
            self._oldest.labels(scope).set(age)

    def _listens(self, name: str, at: float) -> None:
        submitted = self._submitted.pop(name, None)
        if submitted is not None:
            self._startup.labels(self._pool(name)).observe(max(0.0, at - submitted))

    def _pool(self, name: str) -> str:
        return self._correlation.of(name).pool or ""

    def _bounded(self, label: str, value: str) -> str:
        values = self._values.setdefault(label, set())
        if value not in values and len(values) >= _MOST_VALUES:
            return "other"
        values.add(value)
        return value


def _state(job: WaitingJob) -> str:
    if job.runner is not None:
        return "covered"
    return "unservable" if job.unservable else "refused" if job.refused else "uncovered"
