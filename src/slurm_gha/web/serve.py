"""The HTTP server: uvicorn in the running event loop, with TLS if wanted, until an event says stop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

GRACE = 10.0
"""Seconds that requests in progress have to end after a stop."""


class CannotListen(Exception):
    """The address cannot be listened on, or the certificate cannot be used; the text says which and why."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error}") from None
    # Inherited by connections: the end of an answer would wait 40 ms for the other side to confirm its beginning.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    stop: anyio.Event,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    grace: float = GRACE,
    task_status: TaskStatus[int] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests until ``stop`` is set; those in progress then get ``grace`` seconds. Needs asyncio.

    The listener is closed at the end. Started with ``TaskGroup.start`` it gives the port, once certificate and key
    are loaded. Raises CannotListen. No request is logged: their headers hold secrets.
    """
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        http="h11",
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=2000,
        h11_max_incomplete_event_size=16 * 1024,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=max(1, round(grace)),
        ssl_certfile=tls_certificate,
        ssl_keyfile=tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        listener.close()
        raise CannotListen(f"cannot use certificate {tls_certificate} with key {tls_key}: {error}") from None
    server = _Server(config)
    async with anyio.create_task_group() as tasks:

        async def stop_when_told() -> None:
            await stop.wait()
            server.should_exit = True

        tasks.start_soon(stop_when_told)
        task_status.started(listener.getsockname()[1])
        try:
            await server.serve(sockets=[listener])
        finally:
            listener.close()
            tasks.cancel_scope.cancel()


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: signals are the service's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
