"""Metrics of scale sets: GitHub's counts, messages, and the sessions that read them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from slurm_gha.observe import events
from slurm_gha.observe.events import Event
from slurm_gha.observe.status import Status

_KINDS = ("available", "assigned", "started", "completed", "unknown")
_OF_JOBS = ("available", "acquired", "assigned", "running")
_OF_RUNNERS = ("registered", "busy", "idle")


class ScaleSetMetrics:
    """A listener that counts, into somebody's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("scope", "pool")

        def gauge(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"slurm_gha_scale_set_{name}", text, (*labels, *more), registry=registry)

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"slurm_gha_scale_set_{name}", text, (*labels, *more), registry=registry)

        self._messages = counter("messages", "Items of the queue's messages, by type.", "type")
        self._conflicts = counter("session_conflicts", "Times that another controller turned out to read the queue.")
        self._failures = counter("queue_failures", "Times that the queue became unreadable.")
        self._vanished = counter("vanished", "Times that the scale set was gone from GitHub.")
        self._jobs = gauge("jobs", "GitHub's count of jobs: available, acquired, assigned, running.", "state")
        self._runners = gauge("runners", "GitHub's count of runners: registered, busy, idle.", "state")
        self._listening = gauge("listening", "1 while the queue is read.")
        self._session = gauge("session_age_seconds", "Age of the session that reads the queue; 0 without one.")
        self._dropped = gauge("labels_dropped", "Labels of the pool that GitHub did not keep.")

    def __call__(self, event: Event) -> None:
        """Count one event."""
        match event:
            case events.QueueMessage(scope=scope, pool=pool):
                for kind in _KINDS:
                    self._messages.labels(scope, pool, kind).inc(getattr(event, kind))
            case events.SessionConflict(scope=scope, pool=pool):
                self._conflicts.labels(scope, pool).inc()
            case events.QueueUnreadable(scope=scope, pool=pool):
                self._failures.labels(scope, pool).inc()
            case events.ScaleSetGone(scope=scope, pool=pool):
                self._vanished.labels(scope, pool).inc()

    def observe_status(self, status: Status) -> None:
        """Set what is a matter of the moment."""
        for metric in (self._jobs, self._runners, self._listening, self._session, self._dropped):
            metric.clear()
        for each in status.scale_sets:
            for state in _OF_JOBS:
                self._jobs.labels(each.scope, each.pool, state).set(each.counts.get(state, 0))
            for state in _OF_RUNNERS:
                self._runners.labels(each.scope, each.pool, state).set(each.counts.get(state, 0))
            age = 0.0 if each.session_since is None else max(0.0, status.at - each.session_since)
            self._listening.labels(each.scope, each.pool).set(each.standing == "listening")
            self._session.labels(each.scope, each.pool).set(age)
            self._dropped.labels(each.scope, each.pool).set(len(each.dropped))
