"""Webhooks of the simulated GitHub: who is told of what, and the history of every try to tell.

Bodies are made at the moment of the event; :mod:`~slurm_gha.testing.github.sending` sends them. Nothing is ever sent
again by itself. Source: docs.github.com, "Handling failed webhook deliveries", "Redelivering webhooks".
"""

from __future__ import annotations

import itertools
import json
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from slurm_gha.domain.clock import Clock
from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github import hook_bodies
from slurm_gha.testing.github.apps import Apps
from slurm_gha.testing.github.errors import NotThere, Unprocessable
from slurm_gha.testing.github.sending import Attempted, Outbox, Sending
from slurm_gha.testing.github.values import Repository, SimJob

HISTORY = 3 * 86400.0
"""How long tries to deliver can be listed and repeated (seconds)."""
FIRST_HOOK = 400_000_001
FIRST_DELIVERY = 90_000_000_001
ACTIONS = {"queued": "queued", "in_progress": "in_progress", "completed": "completed", "waiting": "waiting"}


@dataclass(slots=True)
class Weather:
    """What befalls deliveries, by probability.

    ``lost``: the try fails and is recorded. ``vanished``: it is never made, and no history tells. ``doubled``: sent
    twice. ``delay``: up to so many seconds pass first, so that the order changes. ``unreachable``: windows (begin, end;
    seconds since the epoch) in which every try fails.
    """

    lost: float = 0.0
    vanished: float = 0.0
    doubled: float = 0.0
    delay: float = 0.0
    unreachable: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Hook:
    """A webhook of ``owner``: ``repos/o/r``, ``orgs/o`` (lower case), or ``app/1001``, the App's."""

    id: int
    owner: str
    url: str
    secret: Secret | None
    events: tuple[str, ...]
    created_at: float
    content_type: str = "json"
    active: bool = True
    last: Delivery | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try to deliver. ``guid`` stays the same when it is tried again."""

    id: int
    hook_id: int
    sending: Sending
    attempted: Attempted

    @property
    def guid(self) -> str:
        return self.sending.guid


class Hooks:
    """All webhooks, and their history."""

    def __init__(self, clock: Clock, url: str, apps: Apps, seed: int = 0) -> None:
        self._clock = clock
        self._url = url
        self._apps = apps
        self._chance = random.Random(f"{seed}/webhooks")
        self._ids = itertools.count(FIRST_HOOK)
        self._numbers = itertools.count(FIRST_DELIVERY)
        self.hooks: dict[int, Hook] = {}
        self.history: list[Delivery] = []
        self.weather = Weather()
        self.outbox = Outbox(self._attempted)

    def add(
        self, owner: str, url: str, *, secret: str | None = None, events: Sequence[str] = ("workflow_job",)
    ) -> Hook:
        """A hook of ``repos/o/r``, ``orgs/o`` or an App, ``app/1001``, which has but one; it is greeted with a ping."""
        owner = owner.strip("/").lower()
        kind, _, number = owner.partition("/")
        if kind == "app" and number not in map(str, self._apps.apps):
            raise NotThere(f"no App {number}")
        if any(hook.owner == owner and (hook.url == url or kind == "app") for hook in self.hooks.values()):
            raise Unprocessable("Hook already exists on this " + kind.removesuffix("s"))
        known = Secret(secret) if secret else None
        hook = Hook(next(self._ids), owner, url, known, tuple(events), self._clock.now())
        self.hooks[hook.id] = hook
        self.ping(hook)
        return hook

    def find(self, owner: str, number: int) -> Hook:
        hook = self.hooks.get(number)
        if hook is None or hook.owner != owner:
            raise NotThere("Not Found")
        return hook

    def of(self, owner: str) -> list[Hook]:
        return [hook for hook in self.hooks.values() if hook.owner == owner]

    def remove(self, hook: Hook) -> None:
        del self.hooks[hook.id]

    def ping(self, hook: Hook) -> None:
        """Send a ping."""
        self._send(hook, "ping", None, hook_bodies.ping(self._url, hook.id, hook.owner, hook.url, hook.events))

    def on_job(self, what: str, job: SimJob) -> None:
        """A job's status has changed: tell whoever wants to know."""
        action = ACTIONS.get(what)
        if action is None or not self.hooks:
            return
        repository = job.repository
        installations = {f"app/{each.app.id}": each.id for each in self._apps.told_of(repository)}
        owners = {f"repos/{repository.full_name.lower()}", f"orgs/{repository.owner.login.lower()}", *installations}
        for hook in list(self.hooks.values()):
            if hook.owner in owners and hook.active and {"workflow_job", "*"} & set(hook.events):
                installation = installations.get(hook.owner)
                body = hook_bodies.workflow_job(self._url, action, job, installation=installation)
                self._send(hook, "workflow_job", action, body, repository, installation)

    def deliveries(self, hook: Hook) -> list[Delivery]:
        """The tries that can still be listed, newest first."""
        oldest = self._clock.now() - HISTORY
        return [each for each in reversed(self.history) if each.hook_id == hook.id and each.attempted.at >= oldest]

    def delivery(self, hook: Hook, number: int) -> Delivery:
        for each in self.deliveries(hook):
            if each.id == number:
                return each
        raise NotThere("Not Found")

    def repeat(self, hook: Hook, number: int) -> None:
        """Send a delivery again, with its GUID, to where the hook points now."""
        sending = self.delivery(hook, number).sending
        again = replace(sending, url=hook.url, due=self._clock.now(), redelivery=True, fails=False)
        self.outbox.put(self._fated(again))

    def _send(
        self,
        hook: Hook,
        event: str,
        action: str | None,
        body: object,
        repository: Repository | None = None,
        installation: int | None = None,
    ) -> None:
        content = json.dumps(body, separators=(",", ":")).encode()
        now = self._clock.now()
        sending = Sending(
            due=now,
            hook_id=hook.id,
            guid=str(uuid.UUID(int=self._chance.getrandbits(128), version=1)),
            url=hook.url,
            event=event,
            action=action,
            body=content,
            headers=hook_bodies.headers(hook.id, hook.owner, event, content, hook.secret),
            repository_id=None if repository is None else repository.id,
            installation_id=installation,
        )
        weather, chance = self.weather, self._chance
        if weather.vanished and chance.random() < weather.vanished:
            return
        sending = self._fated(replace(sending, due=now + (chance.uniform(0.0, weather.delay) if weather.delay else 0)))
        self.outbox.put(sending)
        if weather.doubled and chance.random() < weather.doubled:
            self.outbox.put(replace(sending, due=sending.due + chance.uniform(0.0, weather.delay)))

    def _fated(self, sending: Sending) -> Sending:
        """Whether this try is to fail."""
        lost = self.weather.lost > 0 and self._chance.random() < self.weather.lost
        cut_off = any(begin <= sending.due < end for begin, end in self.weather.unreachable)
        return replace(sending, fails=lost or cut_off)

    def _attempted(self, sending: Sending, attempted: Attempted) -> None:
        delivery = Delivery(next(self._numbers), sending.hook_id, sending, attempted)
        self.history.append(delivery)
        if (hook := self.hooks.get(sending.hook_id)) is not None:
            hook.last = delivery
        oldest = self._clock.now() - HISTORY
        if len(self.history) > 100 and self.history[0].attempted.at < oldest:
            self.history = [each for each in self.history if each.attempted.at >= oldest]
