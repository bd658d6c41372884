"""The route that GitHub's webhooks are sent to: signed, kept, answered; nothing is asked of anybody meanwhile.

Source: docs.github.com, "Webhook events and payloads" (headers), "Best practices for using webhooks" (2xx within 10 s).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from slurm_gha.github.delivery import EVENT, Malformed, decode
from slurm_gha.store.errors import StoreError

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


class Unreadable(Exception):
    """The body cannot be taken in; the text is sent back."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class WebhookRoutes:
    """The handler, over one desk."""

    def __init__(self, desk: DeliveryDesk) -> None:
        self._desk = desk

    async def deliver(self, request: Request) -> Response:
        """2xx once the delivery is on disk or of no use here; 401 unsigned, 400 malformed, 413 too long, 503 failed."""
        scope = str(request.path_params["scope"])
        try:
            body = await _body(request)
        except Unreadable as error:
            return _text(error.status, str(error))
        if not self._desk.authentic(scope, request.headers.get("x-hub-signature-256", ""), body):
            return _text(401, "the signature is missing or wrong")
        try:
            return self._take(scope, request.headers, body)
        except Malformed as error:
            self._desk.refused(scope, str(error))
            return _text(400, str(error))
        except StoreError:
            self._desk.refused(scope, "the journal failed")
            return _text(503, "not now")

    def _take(self, scope: str, headers: Mapping[str, str], body: bytes) -> Response:
        event, guid = headers.get("x-github-event", ""), headers.get("x-github-delivery", "")
        if _EVENT.fullmatch(event) is None or _GUID.fullmatch(guid) is None:
            raise Malformed("the header X-GitHub-Event or X-GitHub-Delivery is missing or malformed")
        if event not in (EVENT, "ping"):
            return _text(202, "not needed")
        if not headers.get("content-type", "").lower().startswith("application/json"):
            raise Malformed("the hook's content type must be application/json")
        value = decode(body)
        if event == "ping":
            self._desk.greeted(scope)
            return _text(200, "pong")
        return _text(202, self._desk.take(scope, guid, value))


async def _body(request: Request) -> bytes:
    """The raw body, read within bounds of size and time."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:12]) > LONGEST_BODY:
        raise Unreadable(f"the body is longer than {LONGEST_BODY} bytes", 413)
    body = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > LONGEST_BODY:
                    raise Unreadable(f"the body is longer than {LONGEST_BODY} bytes", 413)
    except TimeoutError:
        raise Unreadable("the body did not arrive in time", 408) from None
    except ClientDisconnect:
        raise Unreadable("the body broke off", 400) from None
    return bytes(body)


def _text(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status, {"cache-control": "no-store"})
