"""The route that GitHub's webhooks are sent to: signed, kept, answered; nothing is asked of anybody meanwhile.

Source: docs.github.com, "Webhook events and payloads" (headers), "Best practices for using webhooks" (2xx within 10 s).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from slurm_gha.github.delivery import EVENT, Malformed, decode
from slurm_gha.store.errors import StoreError
from slurm_gha.web.bodies import BadRequest, plain, read_body

LONGEST_BODY = 2 * 1024 * 1024
"""Bytes. A ``workflow_job`` has some 30,000; GitHub sends at most 25 MB of anything."""
BODY_SECONDS = 8.0
"""GitHub itself waits 10 s for an answer."""

_GUID = re.compile(r"[0-9A-Za-z-]{1,100}")
_EVENT = re.compile(r"[a-z][a-z_]{0,63}")


class DeliveryDesk(Protocol):
    """What knows the secrets and takes deliveries; :class:`slurm_gha.controller.deliveries.DeliveryDesk` fits."""

    def authentic(self, scope: str, signature: str, body: bytes) -> bool:
        """Whether the body is signed with the scope's secret."""
        ...

    def greeted(self, scope: str) -> None:
        """A ping came."""
        ...

    def refused(self, scope: str, reason: str) -> None:
        """A signed delivery could not be read."""
        ...

    def take(self, scope: str, guid: str, body: Mapping[str, Any]) -> str:
        """Take a ``workflow_job`` delivery; what became of it, in a word. Raises Malformed and StoreError."""
        ...


class WebhookRoutes:
    """The handler, over one desk."""

    def __init__(self, desk: DeliveryDesk) -> None:
        self._desk = desk

    async def deliver(self, request: Request) -> Response:
        """2xx once the delivery is on disk or of no use here; 401 unsigned, 400 malformed, 413 too long, 503 failed."""
        scope = str(request.path_params["scope"])
        try:
            body = await read_body(request, most=LONGEST_BODY, seconds=BODY_SECONDS)
        except BadRequest as error:
            return plain(error.status, str(error))
        if not self._desk.authentic(scope, request.headers.get("x-hub-signature-256", ""), body):
            return plain(401, "the signature is missing or wrong")
        try:
            return self._take(scope, request.headers, body)
        except Malformed as error:
            self._desk.refused(scope, str(error))
            return plain(400, str(error))
        except StoreError:
            self._desk.refused(scope, "the journal failed")
            return plain(503, "not now")

    def _take(self, scope: str, headers: Mapping[str, str], body: bytes) -> Response:
        event, guid = headers.get("x-github-event", ""), headers.get("x-github-delivery", "")
        if _EVENT.fullmatch(event) is None or _GUID.fullmatch(guid) is None:
            raise Malformed("the header X-GitHub-Event or X-GitHub-Delivery is missing or malformed")
        if event not in (EVENT, "ping"):
            return plain(202, "not needed")
        if not headers.get("content-type", "").lower().startswith("application/json"):
            raise Malformed("the hook's content type must be application/json")
        value = decode(body)
        if event == "ping":
            self._desk.greeted(scope)
            return plain(200, "pong")
        return plain(202, self._desk.take(scope, guid, value))
