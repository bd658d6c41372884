"""A network of a test's own, for real: root, namespaces, a cable with a limit."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from slurm_gha.testing.github.serve import serve_in_thread, url_of
from slurm_gha.testing.network import Network, NetworkError

pytestmark = pytest.mark.slow
HOLDING = """
from slurm_gha.testing.network import Network
with Network() as network, network.listen():
    print(network.near, flush=True)
    input()
"""


@contextmanager
def sender(network: Network, size: int) -> Iterator[tuple[str, int]]:
    """A server at the far end that sends ``size`` bytes to its one client."""
    with network.listen() as listening:

        def send() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(bytes(size))

        thread = threading.Thread(target=send)
        thread.start()
        yield listening.getsockname()
        thread.join()


def receive(address: tuple[str, int]) -> int:
    with socket.create_connection(address) as connection:
        total = 0
        while got := connection.recv(1 << 16):
            total += len(got)
        return total


def links() -> str:
    return subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout


def test_several_networks_at_once_are_apart_and_leave_nothing() -> None:
    with Network() as first, Network() as second:
        assert len({first.near, first.address, second.near, second.address}) == 4
        for network in (first, second):
            assert network.address.startswith(("198.18.", "198.19."))
            with sender(network, 1000) as address:
                assert address[0] == network.address
                assert receive(address) == 1000
        with first.listen() as listening, pytest.raises(OSError):
            socket.create_connection((second.address, listening.getsockname()[1]), 5)
        with second.listen() as listening, pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", listening.getsockname()[1]), 5)
        cables = [line.split("@")[0] for line in links().splitlines() if line.startswith("sgnet")]
        assert len(cables) >= 2
        inside = subprocess.run(
            first.inside(["ip", "-4", "-brief", "address"]), capture_output=True, text=True, check=True
        )
        assert first.address in inside.stdout
        assert second.address not in inside.stdout
    assert first.near not in subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout


def test_the_limit_is_on_both_ends_of_the_cable() -> None:
    with Network(rate="20mbit") as network:
        here = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
        there = subprocess.run(
            network.inside(["tc", "qdisc", "show"]), capture_output=True, text=True, check=True
        ).stdout
        assert "rate 20Mbit" in here
        assert "rate 20Mbit" in there
        with sender(network, 1_000_000) as address:
            assert receive(address) == 1_000_000


def test_nothing_is_left_of_a_process_that_is_killed() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    near = holder.stdout.readline().strip()
    assert near.startswith("198.")
    holder.kill()
    holder.communicate()
    for _ in range(500):  # the kernel takes namespaces away in the background
        shown = subprocess.run(["ip", "address"], capture_output=True, text=True, check=True).stdout
        if f"{near}/" not in shown:
            break
        threading.Event().wait(0.02)
    assert f"{near}/" not in shown


def test_a_server_of_ours_is_reached_there() -> None:
    def make(url: str) -> Starlette:
        async def say(_: object) -> PlainTextResponse:
            return PlainTextResponse(url)

        return Starlette(routes=[Route("/", say)])

    with Network() as network, network.listen() as far, serve_in_thread(make, far) as served:
        assert url_of(far).startswith(f"http://{network.address}:")
        assert httpx2.get(url_of(far)).text == httpx2.get(served.url).text == url_of(far)


def test_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match="context manager"):
        Network().listen()
    with pytest.raises(NetworkError, match="furlongs"), Network(rate="7furlongs"):
        pass
    assert not [line for line in links().splitlines() if "furlongs" in line]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NetworkError, match="root"), Network():
        pass
