"""A network of its own on this machine: a namespace at the far end of a cable, as slow as a test wants it.

What listens there is reached from this machine, and from rootless containers, by an address that is not the loopback's,
which is closed to them. Needs root and iproute2.

The namespace has no name and is nowhere mounted: it is there as long as somebody holds it open, which is this process
and what it starts inside. When they end, in whatever way, the kernel takes it away, and both ends of the cable with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import json
import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

RANGE = ipaddress.IPv4Network("198.18.0.0/15")  # for benchmarks of networks: RFC 2544
LOCK = Path("/run/slurm-gha-networks.lock")
_CLONE_NEWNET = 0x40000000
T = TypeVar("T")


class NetworkError(Exception):
    """The network cannot be made; the text says why."""


class Network:
    """A context manager. ``rate``, like ``100mbit``, limits the cable in both directions.

    ``address`` is the far end's, where :meth:`listen` and :meth:`inside` are; ``near`` is this machine's.
    """

    def __init__(self, *, rate: str | None = None) -> None:
        self._rate = rate
        self._namespace: int | None = None
        self._cable = f"sgnet{secrets.token_hex(4)}"
        self.near = self.address = ""

    def __enter__(self) -> Network:
        if os.geteuid() != 0:
            raise NetworkError("only root can make a network: run this as root")
        self._namespace = _in_thread(_new_namespace)
        try:
            with LOCK.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._connect(_free_subnet())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def listen(self, port: int = 0) -> socket.socket:
        """A listening socket at the far end; port 0 takes a free one."""
        return _in_thread(lambda: self._listen(port))

    def inside(self, argv: Sequence[str]) -> list[str]:
        """``argv`` as a command that runs at the far end."""
        return ["nsenter", f"--net={self._path()}", "--", *argv]

    def _listen(self, port: int) -> socket.socket:
        if self._namespace is None:
            raise NetworkError("the network is not there: use it as a context manager")
        _call("setns", self._namespace, _CLONE_NEWNET)
        return socket.create_server((self.address, port))

    def _connect(self, subnet: ipaddress.IPv4Network) -> None:
        self.near, self.address = (str(address) for address in subnet.hosts())
        far = self._cable + "f"
        _run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", far, "netns", self._path())
        _run("ip", "address", "add", f"{self.near}/{subnet.prefixlen}", "dev", self._cable)
        _run("ip", "link", "set", self._cable, "up")
        _run(*self.inside(["ip", "link", "set", "lo", "up"]))
        _run(*self.inside(["ip", "address", "add", f"{self.address}/{subnet.prefixlen}", "dev", far]))
        _run(*self.inside(["ip", "link", "set", far, "up"]))
        _run(*self.inside(["ip", "route", "add", "default", "via", self.near]))
        if self._rate is not None:
            limit = ["root", "tbf", "rate", self._rate, "burst", "256kb", "latency", "200ms"]
            _run("tc", "qdisc", "add", "dev", self._cable, *limit)
            _run(*self.inside(["tc", "qdisc", "add", "dev", far, *limit]))

    def _path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._namespace}"

    def _close(self) -> None:
        if self._namespace is None:
            return
        # Sockets and processes inside may hold the namespace for longer; the cable goes now.
        with suppress(NetworkError):
            _run("ip", "link", "delete", self._cable)
        os.close(self._namespace)
        self._namespace = None


def _new_namespace() -> int:
    """Take this thread into a new namespace, and give a descriptor of it."""
    _call("unshare", _CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _free_subnet() -> ipaddress.IPv4Network:
    """One for two addresses that no interface of this machine is in. To be called with the lock held."""
    links = json.loads(_run("ip", "-json", "-4", "address", "show"))
    used = [
        ipaddress.ip_network(f"{address['local']}/{address['prefixlen']}", strict=False)
        for link in links
        for address in link.get("addr_info", ())
    ]
    taken = [network for network in used if isinstance(network, ipaddress.IPv4Network) and network.overlaps(RANGE)]
    for subnet in RANGE.subnets(new_prefix=30):
        if not any(subnet.overlaps(network) for network in taken):
            return subnet
    raise NetworkError(f"every subnet of {RANGE} is in use on this machine")


def _in_thread(work: Callable[[], T]) -> T:
    """``work`` in a thread of its own: a thread's namespace is not that of the others."""
    results: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again, in the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=do, name="network")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _call(function: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise NetworkError(f"{function}: {os.strerror(number)}: making a network needs the rights of a real root")


def _run(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NetworkError(f"there is no {argv[0]}: make install brings it") from None
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
