"""Ways to GitHub, for real: a server with a certificate authority of its own, through an HTTP proxy, from a file."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.contract.app_world import PERMISSIONS, key_pair

from slurm_gha.config.loading import load_with_tokens
from slurm_gha.config.mistakes import ConfigError
from slurm_gha.domain.clock import SystemClock
from slurm_gha.github.clients import github_clients
from slurm_gha.github.errors import GitHubUnavailable
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.state import GitHub

TOKEN = "ghp_" + "Ab1" * 12


@dataclass
class Proxy:
    """An HTTP proxy that tunnels (CONNECT); ``seen`` are the hosts it was asked for."""

    listener: socket.socket
    seen: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        method, target, _ = head.split(b" ", 2)
        assert method == b"CONNECT"
        self.seen.append(target.decode())
        host, _, port = target.decode().rpartition(":")
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()
        client.close()
        server.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    found = Proxy(listener)
    thread = threading.Thread(target=found.serve, daemon=True)
    thread.start()
    yield found
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@dataclass(frozen=True)
class Server:
    github: GitHub
    host: str
    ca: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A GitHub Enterprise Server on the loopback interface, its certificate made by an authority of its own."""
    place = tmp_path_factory.mktemp("tls")
    certificates(place)
    listener = socket.create_server(("127.0.0.1", 0))
    host = f"localhost:{listener.getsockname()[1]}"
    github = GitHub(SystemClock(), url=f"https://{host}")
    github.add_repository("octo/app", {})
    github.add_token(TOKEN)
    app = github.apps.add("runners", key_pair(0)[1], owner="octo", permissions=PERMISSIONS)
    github.apps.install(app.id, "octo")
    with serving(create_app(github, in_process=False), listener, place):
        yield Server(github, host, place / "ca.pem")


@contextmanager
def serving(app: Any, listener: socket.socket, place: Path) -> Iterator[None]:
    files = {"ssl_certfile": str(place / "server.pem"), "ssl_keyfile": str(place / "server.key")}
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", date_header=False, **files))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        running.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def certificates(place: Path) -> None:
    """An authority (ca.pem) and a certificate for localhost that it signed (server.pem, server.key)."""
    now = datetime.datetime.now(datetime.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server")}
    names = {name: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {name}")]) for name in keys}
    for name in keys:
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["ca"])
            .public_key(keys[name].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
        )
        if name == "server":
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), address]), False)
        certificate = builder.sign(keys["ca"], hashes.SHA256())
        (place / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    text = keys["server"].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / "server.key").write_bytes(text)


def config(place: Path, host: str, *keys: str) -> Path:
    """A configuration of one scope with a token, or with what ``keys`` say."""
    secrets = {"token": TOKEN, "app.pem": key_pair(0)[0]}
    for name, text in secrets.items():
        (place / name).touch(mode=0o600)
        (place / name).write_text(text)
    signing = () if any(key.startswith("app_id") for key in keys) else (f'token_file = "{place}/token"',)
    lines = "\n".join([*signing, *keys])
    path = place / "config.toml"
    path.write_text(
        f"""
[service]
installation = "lab1"
node_url = "https://head:8480"
[slurm]
output_dir = "/shared/out"
[[scope]]
name = "one"
url = "https://{host}/octo/app"
{lines}
[[pool]]
name = "small"
labels = ["small"]
runner_dir = "/opt/runner"
slurm = {{ cpus = 1, time = "30m" }}
"""
    )
    return path


def look(path: Path) -> int:
    """The number of runners that the scope of a configuration shows, asked for as the service does."""

    async def ask() -> int:
        settings, secrets = load_with_tokens(path)
        async with github_clients(settings.scope_tables, secrets, SystemClock()) as clients:
            return len(await clients.scope("one").runners())

    return anyio.run(ask)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_server_with_an_authority_of_its_own(server: Server, tmp_path: Path) -> None:
    assert look(config(tmp_path, server.host, f'ca_file = "{server.ca}"')) == 0
    with pytest.raises(GitHubUnavailable, match="certificate authority of its own, name it in the scope's ca_file"):
        look(config(tmp_path, server.host))


def test_an_app_on_a_server_of_one_s_own(server: Server, tmp_path: Path) -> None:
    keys = ("app_id = 1001", f'private_key_file = "{tmp_path}/app.pem"', f'ca_file = "{server.ca}"')
    assert look(config(tmp_path, server.host, *keys)) == 0
    assert any(token.installation for token in server.github.tokens.values())


def test_a_proxy_of_the_scope(server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    assert look(config(tmp_path, server.host, f'ca_file = "{server.ca}"', f'proxy = "{proxy.url}"')) == 0
    assert proxy.seen == [server.host]


def test_a_proxy_of_the_environment(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(tmp_path, server.host, f'ca_file = "{server.ca}"')
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert look(path) == 0
    assert proxy.seen == [server.host]
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert look(path) == 0
    assert proxy.seen == [server.host]


def test_a_proxy_that_is_away_is_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(GitHubUnavailable, match="GET /repos/octo/app/actions/runners: ConnectError"):
        look(config(tmp_path, server.host, f'ca_file = "{server.ca}"', 'proxy = "http://127.0.0.1:9"'))


@pytest.mark.parametrize(("content", "says"), [(None, "cannot be read: No such file"), ("x", "must hold certificates")])
def test_an_authority_that_is_none(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ConfigError, match=rf"scope\[one\].ca_file: {tmp_path}/ca.pem {says}"):
        load_with_tokens(config(tmp_path, "github.example", f'ca_file = "{tmp_path}/ca.pem"'))
