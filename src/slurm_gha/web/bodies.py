"""What every route does with a request's body and its own answers: bounds of size and time, and plain texts."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response


class BadRequest(Exception):
    """The request cannot be understood or taken in; the text says why, and is sent back."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


async def read_body(request: Request, *, most: int, seconds: float) -> bytes:
    """The raw body, of ``most`` bytes, read within ``seconds``; raises BadRequest."""
    too_long = BadRequest(f"the body is longer than {most} bytes", 413)
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:12]) > most:
        raise too_long
    body = bytearray()
    try:
        with anyio.fail_after(seconds):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_long
    except TimeoutError:
        raise BadRequest("the body did not arrive in time", 408) from None
    except ClientDisconnect:
        raise BadRequest("the body broke off") from None
    return bytes(body)


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """One line that no cache keeps."""
    return PlainTextResponse(text + "\n", status, {"cache-control": "no-store", **(headers or {})})
