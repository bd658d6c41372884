"""Our client over real sockets, on asyncio: what no in-process transport shows."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn

from slurm_gha.domain.clock import SystemClock
from slurm_gha.domain.secret import Secret
from slurm_gha.github import parse
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.errors import GitHubUnavailable

TOKEN = "ghp_" + "s3cr3t" * 6


class Server:
    """Answers by path; keeps the peers that asked, one for each connection."""

    def __init__(self) -> None:
        self.peers: set[Any] = set()
        self.requests = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.requests += 1
        self.peers.add(scope["client"])

        async def start(status: int, *headers: tuple[bytes, bytes]) -> None:
            await send({"type": "http.response.start", "status": status, "headers": headers})

        async def body(content: bytes, *, more: bool = False) -> None:
            await send({"type": "http.response.body", "body": content, "more_body": more})

        match scope["path"]:
            case "/list":
                known = dict(scope["headers"]).get(b"if-none-match") == b'"a"'
                await start(304 if known else 200, (b"etag", b'"a"'))
                await body(b"" if known else b'{"runners": []}')
            case "/cut":
                await start(200, (b"content-length", b"1000"))
                await body(b'{"runners":', more=True)
                raise ConnectionAbortedError
            case "/drip":
                await start(200)
                for _ in range(100):
                    await body(b" ", more=True)
                    await anyio.sleep(0.05)
                await body(b"")
            case "/bomb":
                await start(200, (b"content-encoding", b"gzip"))
                await body(gzip.compress(b" " * 5_000_000))


def over_a_socket(test: Callable[[GitHubClient, Server], Awaitable[None]]) -> None:
    async def main() -> None:
        app = Server()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
            async with anyio.create_task_group() as group, httpx2.AsyncClient() as http:
                group.start_soon(server.serve, [listener])
                with anyio.fail_after(10):
                    while not server.started:
                        await anyio.sleep(0.01)
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                options: Any = {"timeout": 1.0, "retries": 0, "most_bytes": 1_000_000}
                await test(GitHubClient(http, url, Secret(TOKEN), SystemClock(), **options), app)
                server.should_exit = True

    anyio.run(main, backend="asyncio")


def test_connections_are_kept_after_304_and_bounded() -> None:
    async def test(client: GitHubClient, server: Server) -> None:
        for _ in range(10):
            assert await client.items("/list", parse.registrations) == []
        assert (server.requests, len(server.peers)) == (10, 1)
        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(client.items, "/list", parse.registrations)
        assert len(server.peers) <= 16
        shown = client.budget.snapshot()
        assert (shown.counted, shown.uncounted) == (1, 109)

    over_a_socket(test)


@pytest.mark.parametrize(
    ("path", "words"), [("/cut", "RemoteProtocolError"), ("/drip", "within 1 s"), ("/bomb", "larger than")]
)
def test_an_answer_that_does_not_come_whole_is_none(path: str, words: str) -> None:
    async def test(client: GitHubClient, server: Server) -> None:
        with pytest.raises(GitHubUnavailable, match=words) as caught:
            await client.items(path, parse.registrations)
        assert path in str(caught.value)
        assert await client.items("/list", parse.registrations) == []

    over_a_socket(test)


def test_a_port_where_nobody_listens() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        async with httpx2.AsyncClient() as http:
            client = GitHubClient(http, f"http://127.0.0.1:{port}", Secret(TOKEN), SystemClock(), retries=0)
            with pytest.raises(GitHubUnavailable, match="ConnectError"):
                await client.look("/user")
            assert client.budget.snapshot().unanswered == 1

    anyio.run(main, backend="asyncio")
