"""Webhook deliveries: on disk before they are answered, heard by the next round, and never asked GitHub about here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from slurm_gha.controller.observation import Observer
from slurm_gha.domain.clock import Clock
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import JobStatus
from slurm_gha.domain.scope import Scope, Source
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.told import Told
from slurm_gha.github import delivery
from slurm_gha.observe.events import Bus, DeliveryRefused, DeliveryTaken
from slurm_gha.store.deliveries import DeliveryBook

# A delivery of an unknown scope is held against this, so that its answer tells and takes the same as a wrong one's.
_NOBODYS = Secret("nobody's")
# Between two words on the same kind of refusal (seconds).
REFUSALS_SPACING = 10.0


class DeliveryDesk:
    """Takes deliveries. ``secrets``: by scope, asked each time; ``woken`` is called after news, ``nudge`` with doubts.

    ``scopes``: those whose sources include the webhook.
    """

    def __init__(
        self,
        *,
        scopes: Mapping[str, Scope],
        secrets: Callable[[], Mapping[str, Secret]],
        book: DeliveryBook,
        observer: Observer,
        clock: Clock,
        bus: Bus,
        woken: Callable[[], None],
        nudge: Callable[[Hint], None],
    ) -> None:
        self._scopes = {name: scope for name, scope in scopes.items() if Source.WEBHOOK in scope.sources}
        self._secrets = secrets
        self._book = book
        self._observer = observer
        self._clock = clock
        self._bus = bus
        self._woken = woken
        self._nudge = nudge
        self._last: dict[str, float] = {}
        self._refused: dict[tuple[str, str], tuple[float, int]] = {}

    def recover(self) -> None:
        """At the start: what was told before, and may still count."""
        self._last = self._book.last()
        for word in self._book.told(self._clock.now()):
            if word.job.scope in self._scopes:
                self._observer.hear(word)

    @property
    def last(self) -> Mapping[str, float]:
        """When each scope's last delivery was taken (seconds since the epoch)."""
        return self._last

    def authentic(self, scope: str, signature: str, body: bytes) -> bool:
        """Whether the body is signed with the scope's secret; a scope that is not ours has none."""
        secret = self._secrets().get(scope) if scope in self._scopes else None
        signed = delivery.is_signed(_NOBODYS if secret is None else secret, body, signature)
        if signed and secret is not None:
            return True
        self._refuse(scope if secret is not None else "", "wrong or missing signature")
        return False

    def greeted(self, scope: str) -> None:
        """GitHub tries a hook that was just made: a sign of life, and nothing else."""
        self._taken(scope, "", "ping", "greeting", None)

    def refused(self, scope: str, reason: str) -> None:
        """A signed delivery that cannot be read."""
        self._refuse(scope, reason)

    def _refuse(self, scope: str, reason: str) -> None:
        """Tell of it, but not of each: anybody may send anything, and is not to fill the log."""
        now = self._clock.now()
        told, times = self._refused.get((scope, reason), (float("-inf"), 0))
        if 0 <= now - told < REFUSALS_SPACING:
            self._refused[scope, reason] = (told, times + 1)
            return
        self._refused[scope, reason] = (now, 0)
        self._bus.emit(DeliveryRefused(at=now, scope=scope, reason=reason, times=times + 1))

    def take(self, scope: str, guid: str, body: Mapping[str, Any]) -> str:
        """Take a signed ``workflow_job`` delivery; what became of it, in a word. Raises Malformed and JournalError."""
        now = self._clock.now()
        news = delivery.job_news(dict(body), now)
        if news is None:
            return self._taken(scope, guid, str(body.get("action", ""))[:40], "unused", None)
        place = self._place(scope, news.repository)
        if place is None:
            self._book.note(guid, scope, now)
            return self._taken(scope, guid, news.action, "foreign", news)
        job = replace(news.job, scope=place[0], repository=place[1])
        word = Told(job, now, late=self._observer.is_late(job, now))
        changed = self._book.take(guid, word)
        if not changed:
            return self._taken(scope, guid, news.action, "known" if changed is None else "old", news)
        self._observer.hear(word)
        if word.late and job.status is not JobStatus.COMPLETED:
            self._nudge(Hint(job.scope, job.repository, job.run_id))
        outcome = self._taken(scope, guid, news.action, "late" if word.late else "new", replace(news, job=job))
        self._woken()
        return outcome

    def _place(self, scope: str, full_name: str) -> tuple[str, str] | None:
        """Scope and repository by our names. One hook may serve several scopes, as an App's does, by one secret."""
        secrets = self._secrets()
        for name in (scope, *self._scopes):
            if name in secrets and secrets[name] == secrets[scope]:
                repository = delivery.repository_of(self._scopes[name], full_name)
                if repository is not None:
                    return name, repository
        return None

    def _taken(self, scope: str, guid: str, action: str, outcome: str, news: delivery.JobNews | None) -> str:
        now = self._clock.now()
        self._last[scope] = now
        self._bus.emit(
            DeliveryTaken(
                at=now,
                scope=scope,
                action=action,
                outcome=outcome,
                delivery=guid,
                job_id=None if news is None else news.job.id,
                repository=None if news is None else news.repository,
            )
        )
        return outcome
