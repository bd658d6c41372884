"""The simulated GitHub behind a real socket: in this process' event loop, or in a thread of its own for a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its base URL, and the application."""

    url: str
    app: Starlette


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    listening = socket.create_server((host, port))
    # Inherited by connections: the end of an answer would wait 40 ms for the other side to confirm its beginning.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{host}:{port}"


def server_of(app: Starlette) -> uvicorn.Server:
    """A server that leaves the Date header to the application: the simulation's clock may be another."""
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", date_header=False, server_header=False, lifespan="off")
    )


async def serve(app: Starlette, listening: socket.socket) -> None:
    """Serve until cancelled or told to stop by a signal."""
    await server_of(app).serve(sockets=[listening])


@contextmanager
def serve_in_thread(make: Callable[[str], Starlette], also: socket.socket | None = None) -> Iterator[Served]:
    """A server on a free port of the loopback interface, stopped at the end.

    ``make`` is given the URL by which the application will know itself. That is the one of ``also``, a listening socket
    which is served as well, where there is one: for runners that cannot reach the loopback interface.
    """
    with listen() as listening:
        url = url_of(listening)
        app = make(url_of(also) if also is not None else url)
        sockets = [listening] if also is None else [listening, also]
        server = server_of(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, name="simulated-github", daemon=True)
        thread.start()
        try:
            yield Served(url, app)
        finally:
            server.should_exit = True
            thread.join(STOP_SECONDS)
            if thread.is_alive():
                raise RuntimeError(f"the simulated GitHub at {url} did not stop within {STOP_SECONDS:.0f} s")
