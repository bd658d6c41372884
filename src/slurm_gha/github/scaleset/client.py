"""The calls of the scale-set protocol for one scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from slurm_gha.domain.labels import Labels
from slurm_gha.domain.scaleset import Message, ScaleSet
from slurm_gha.github.errors import Forbidden, GitHubUnavailable, NotFound
from slurm_gha.github.scaleset import parse, wire
from slurm_gha.github.scaleset.connection import Connection
from slurm_gha.github.scaleset.errors import AgentNotFound, QueueTokenExpired, ScaleSetNotFound, SessionGone
from slurm_gha.github.scaleset.values import Session
from slurm_gha.github.values import Minted
from slurm_gha.github.wire import Answer

Value = TypeVar("Value")
# The service holds a poll open for about 50 s.
POLL_TIMEOUT = 90.0


class ScaleSetClient:
    """Every method raises GitHubError subclasses only."""

    def __init__(self, connection: Connection, *, poll_timeout: float = POLL_TIMEOUT) -> None:
        self._connection = connection
        self._poll_timeout = poll_timeout

    @property
    def renewals(self) -> int:
        """How many times a registration token was asked for over REST."""
        return self._connection.renewals

    # Scale sets

    async def group_id(self, name: str) -> int:
        """The id of a runner group; raises NotFound."""
        answer = await self._connection.admin("GET", wire.RUNNER_GROUPS, groupName=name)
        found = _read(answer, partial(parse.group_id, name=name))
        if found is None:
            raise NotFound(f"there is no runner group {name!r}, or the token may not see it")
        return found

    async def find(self, name: str, group_id: int) -> ScaleSet | None:
        """The scale set of that name in a runner group, if there is one."""
        answer = await self._connection.admin("GET", wire.SCALE_SETS, runnerGroupId=group_id, name=name)
        found = _read(answer, parse.scale_sets)
        return next((one for one in found if one.name.lower() == name.lower()), None)

    async def create(self, name: str, group_id: int, labels: Labels) -> ScaleSet:
        """A new scale set, with those of the labels that the service keeps."""
        answer = await self._connection.admin("POST", wire.SCALE_SETS, _body(name, group_id, labels))
        return _read(answer, parse.scale_set)

    async def update(self, scale_set_id: int, name: str, group_id: int, labels: Labels) -> ScaleSet:
        """The scale set with these labels, as far as the service keeps them; raises ScaleSetNotFound."""
        path = f"{wire.SCALE_SETS}/{int(scale_set_id)}"
        with_id = {"id": scale_set_id, **_body(name, group_id, labels)}
        return _read(await self._of_scale_set("PATCH", path, with_id), parse.scale_set)

    async def delete(self, scale_set_id: int) -> None:
        """Remove a scale set; one that is gone already is no error."""
        try:
            await self._of_scale_set("DELETE", f"{wire.SCALE_SETS}/{int(scale_set_id)}", ok=204)
        except ScaleSetNotFound:
            return

    # The session and its queue

    async def open_session(self, scale_set_id: int, owner: str) -> Session:
        """A session; raises SessionConflict while another one is alive, and ScaleSetNotFound."""
        path = f"{wire.SCALE_SETS}/{int(scale_set_id)}/sessions"
        answer = await self._of_scale_set("POST", path, {"ownerName": owner})
        return _read(answer, partial(parse.session, scale_set_id=scale_set_id))

    async def refresh_session(self, scale_set_id: int, session_id: str) -> Session:
        """The session with a new queue token; raises SessionGone, SessionConflict and ScaleSetNotFound."""
        path = f"{wire.SCALE_SETS}/{int(scale_set_id)}/sessions/{session_id}"
        try:
            answer = await self._connection.admin("PATCH", path)
        except ScaleSetNotFound:
            raise
        except (NotFound, Forbidden) as error:
            raise SessionGone(f"the session is over: {error}") from None
        return _read(answer, partial(parse.session, scale_set_id=scale_set_id))

    async def close_session(self, session: Session) -> None:
        """End a session; one that is over already is no error."""
        path = f"{wire.SCALE_SETS}/{session.scale_set_id}/sessions/{session.id}"
        try:
            await self._connection.admin("DELETE", path, ok=204)
        except (NotFound, SessionGone):
            return

    async def poll(self, session: Session, last_message_id: int, capacity: int) -> Message | None:
        """The next message, waited for up to about 50 s; None if there was none. Raises QueueTokenExpired.

        ``capacity``: how many jobs the scale set can run at the same time, running ones included.
        """
        url = wire.poll_url(session.queue_url, last_message_id)
        headers = {"accept": wire.QUEUE_ACCEPT, wire.CAPACITY_HEADER: str(max(0, capacity))}
        answer = await self._connection.exchange(
            "GET", url, session.queue_token, headers=headers, timeout=self._poll_timeout
        )
        self._of_queue("GET", url, answer, session, 200, 202)
        return None if answer.status == 202 else _read(answer, parse.message)

    async def acknowledge(self, session: Session, message_id: int) -> None:
        """Have a message never sent again; one that is gone already is no error. Raises QueueTokenExpired."""
        url = wire.message_url(session.queue_url, message_id)
        answer = await self._connection.exchange("DELETE", url, session.queue_token)
        self._of_queue("DELETE", url, answer, session, 204, 200, 404)

    async def acquire(self, session: Session, request_ids: Sequence[int]) -> tuple[int, ...]:
        """Take available jobs; the ids of those that are ours now. Raises QueueTokenExpired."""
        url = await self._connection.service_url(f"{wire.SCALE_SETS}/{session.scale_set_id}/acquirejobs")
        answer = await self._connection.exchange("POST", url, session.queue_token, list(request_ids))
        return _read(self._of_queue("POST", url, answer, session, 200), parse.acquired)

    # Runners

    async def mint(self, scale_set_id: int, name: str) -> Minted:
        """A JIT configuration; raises AgentExists when a runner of that name is registered, and ScaleSetNotFound."""
        path = f"{wire.SCALE_SETS}/{int(scale_set_id)}/generatejitconfig"
        answer = await self._of_scale_set("POST", path, {"name": name, "workFolder": "_work"})
        return _read(answer, parse.minted)

    async def find_runner(self, name: str) -> int | None:
        """The id of the runner of that name, if it is registered."""
        answer = await self._connection.admin("GET", wire.AGENTS, agentName=name)
        return _read(answer, partial(parse.agent_id, name=name))

    async def remove_runner(self, runner_id: int) -> None:
        """Deregister; raises JobStillRunning while it has a job; one that is gone already is no error."""
        try:
            await self._connection.admin("DELETE", f"{wire.AGENTS}/{int(runner_id)}", ok=204)
        except (AgentNotFound, NotFound):
            return

    async def _of_scale_set(self, method: str, path: str, body: Any = None, *, ok: int = 200) -> Answer:
        """A call on one scale set, where not finding anything means that the scale set is gone."""
        try:
            return await self._connection.admin(method, path, body, ok=ok)
        except ScaleSetNotFound:
            raise
        except NotFound as error:
            raise ScaleSetNotFound(str(error)) from None

    def _of_queue(self, method: str, url: str, answer: Answer, session: Session, *ok: int) -> Answer:
        if answer.status == 401:
            raise QueueTokenExpired(f"{method}: the queue token has expired", request_id=wire.trace(answer))
        return self._connection.accept(method, url, answer, ok, session.queue_token)


def _body(name: str, group_id: int, labels: Labels) -> dict[str, Any]:
    # The name first: where the service keeps one label only, it is to be this one. No update of the runner: it would
    # be of the image's version again at the next job.
    ordered = sorted(labels, key=lambda label: (label != name.lower(), label))
    kept = [{"name": label, "type": "System"} for label in ordered]
    return {"name": name, "runnerGroupId": group_id, "labels": kept, "RunnerSetting": {"disableUpdate": True}}


def _read(answer: Answer, parse_it: Callable[[Any], Value]) -> Value:
    try:
        return parse_it(wire.decode(answer))
    except GitHubUnavailable as error:
        if error.request_id is not None:
            raise
        raise GitHubUnavailable(str(error), request_id=wire.trace(answer)) from None
