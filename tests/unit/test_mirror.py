"""Pull-through caches: what is written, what is refused, and what a look at one tells."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import anyio
import pytest
import yaml
from click.testing import CliRunner

from slurm_gha.cli import inquiry
from slurm_gha.cli.image.mirror import command
from slurm_gha.domain.secret import Secret
from slurm_gha.images import mirror
from slurm_gha.images.mirror import Login, Mirror, MirrorError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
        ("registry.example:5000", "https://registry.example:5000"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
    ],
)
def test_upstreams(given: str, url: str) -> None:
    assert mirror.upstream_url(given) == url


@pytest.mark.parametrize(
    "given", ["", "ftp://x", "https://x/path", "https://user:secret@x", "x y", "https://x?y", "-x", "https://"]
)
def test_what_is_no_registry_is_refused(given: str) -> None:
    with pytest.raises(MirrorError, match="is no registry"):
        mirror.upstream_url(given)


def test_the_configuration_is_what_docker_registry_reads() -> None:
    login = Login('us"er: {', Secret("pass\\word # \"'\U0001f600"))
    wanted = Mirror("ghcr.io", Path("/srv/a b: c"), "127.0.0.1:5001", 3600, login)
    text = mirror.registry_config(wanted)
    assert yaml.safe_load(text) == {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": "/srv/a b: c"}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:5001"},
        "proxy": {
            "remoteurl": "https://ghcr.io",
            "ttl": "3600s",
            "username": login.user,
            "password": login.password.reveal(),
        },
    }
    assert mirror.upstream_of(text) == "https://ghcr.io"
    assert "password" not in mirror.registry_config(Mirror("ghcr.io", Path("/srv")))
    with pytest.raises(MirrorError, match="no upstream in it"):
        mirror.upstream_of("version: 0.1\n")


def test_credentials_come_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "login"
    path.write_text("user:pa:ss\n")
    path.chmod(0o644)
    with pytest.raises(MirrorError, match=r"is open to others \(mode 0644\): chmod 600"):
        mirror.read_login(path)
    path.chmod(0o600)
    assert mirror.read_login(path) == Login("user", Secret("pa:ss"))
    path.write_text("user\n")
    with pytest.raises(MirrorError, match="must hold user:password"):
        mirror.read_login(path)
    with pytest.raises(MirrorError, match="cannot be read: No such file"):
        mirror.read_login(tmp_path / "none")


def _write(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, ["write", *arguments])
    return result.exit_code, result.output


def test_write_makes_all_that_is_needed(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.write_text("user:secret-word\n")
    login.chmod(0o600)
    file, storage, unit = tmp_path / "mirror.yml", tmp_path / "a" / "storage", tmp_path / "mirror.service"
    options = ("--storage", str(storage), "--listen", "0.0.0.0:5001", "--unit", str(unit))
    code, text = _write("ghcr.io", str(file), *options, "--credentials-file", str(login))
    assert code == 0, text
    assert "secret-word" not in text
    assert '"ghcr.io" = "http://THIS-HOST:5001"' in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert yaml.safe_load(file.read_text())["proxy"]["password"] == "secret-word"
    assert storage.is_dir()
    assert f"image mirror serve {file}\n" in unit.read_text()
    assert f"ReadWritePaths={storage}\n" in unit.read_text()
    assert "secret-word" not in unit.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"login", "mirror.yml", "a", "mirror.service"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nothing at all", "m.yml", "--storage", "s"), "'nothing at all' is no registry"),
        (("ghcr.io", "m.yml", "--storage", "s", "--listen", "x"), "--listen or --ttl"),
        (("ghcr.io", "m.yml", "--storage", "s", "--ttl", "soon"), "--listen or --ttl"),
        (("ghcr.io", "none/m.yml", "--storage", "s"), "cannot write"),
        (("ghcr.io", "m.yml", "--storage", "s", "--credentials-file", "none"), "cannot be read: No such file"),
    ],
)
def test_write_refuses_in_one_sentence(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = _write(*arguments)
    assert code in {1, 2}
    assert says in text
    assert "Traceback" not in text
    assert not (tmp_path / "m.yml").exists()


class _Answering(BaseHTTPRequestHandler):
    statuses: list[int]

    def do_GET(self) -> None:
        self.send_response(self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[tuple[str, list[int]]]:
    """A registry's URL, and the statuses with which it answers, the last one again and again."""
    statuses = [200]
    handler = type("Handler", (_Answering,), {"statuses": statuses})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", statuses
        server.shutdown()


def _closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_probe_tells_what_a_job_would_see(registry: tuple[str, list[int]]) -> None:
    url, statuses = registry
    for status, trouble in ((200, ""), (401, ""), (500, "answers with HTTP status 500")):
        statuses[:] = [status]
        health = mirror.probe("ghcr.io", url)
        assert (health.status, health.trouble) == (status, trouble)
    assert "cannot be reached" in mirror.probe("ghcr.io", _closed()).trouble
    with socket.create_server(("127.0.0.1", 0)) as silent:
        health = mirror.probe("ghcr.io", f"http://127.0.0.1:{silent.getsockname()[1]}", patience=0.2)
    assert health.trouble == "no answer within 0.2 s"


def test_check_of_the_configuration_takes_a_mirror_that_is_down_for_a_doubt(registry: tuple[str, list[int]]) -> None:
    mirrors = {"ghcr.io": registry[0], "docker.io": _closed()}
    docker, ghcr = anyio.run(inquiry.ask_mirrors, mirrors)
    assert str(ghcr) == f"✓ mirror of ghcr.io: {registry[0]} answers"
    assert str(docker).startswith(f"! mirror of docker.io: {mirrors['docker.io']} cannot be reached")
    assert str(docker).endswith("; jobs start without it, and pull from docker.io itself")
    assert anyio.run(inquiry.ask_mirrors, {}) == []


def test_mirror_check_fails_if_one_is_down(registry: tuple[str, list[int]], tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    text = """
[service]
installation = "lab1"
node_url = "http://head:1"
[slurm]
output_dir = "/out"
[[scope]]
name = "a"
url = "https://github.com/a"
token_env = "TOKEN"
[[pool]]
name = "small"
labels = ["x"]
runner_dir = "/opt/runner"
slurm = { cpus = 1, time = "5m" }
[images.mirrors]
"""
    config.write_text(text)
    result = CliRunner().invoke(command, ["check", "-c", str(config)])
    assert (result.exit_code, "names no mirrors" in result.output) == (1, True)
    config.write_text(f'{text}"ghcr.io" = "{registry[0]}"\n')
    result = CliRunner().invoke(command, ["check", "-c", str(config)])
    assert result.exit_code == 0
    assert result.output.startswith(f"✓ ghcr.io: {registry[0]} answers with HTTP status 200 within ")
    registry[1][:] = [502]
    result = CliRunner().invoke(command, ["check", "-c", str(config)])
    assert result.exit_code == 1
    assert "✗ ghcr.io" in result.output
    assert "jobs wait at most 3 s for it, then pull from ghcr.io itself" in result.output


def test_pauses_grow_up_to_a_limit() -> None:
    assert list(islice(mirror.pauses(longest=5), 5)) == [1, 2, 4, 5, 5]


def test_serve_becomes_docker_registry_when_the_upstream_answers(
    registry: tuple[str, list[int]], tmp_path: Path
) -> None:
    url, statuses = registry
    statuses[:] = [503, 200]
    program = tmp_path / "docker-registry"
    program.write_text('#!/bin/sh\necho "became: $*"\n')
    program.chmod(0o755)
    file = tmp_path / "mirror.yml"
    file.write_text(mirror.registry_config(Mirror(url, tmp_path / "s", login=Login("user", Secret("hidden")))))
    call = "from slurm_gha.cli.image.mirror import command; command()"
    done = subprocess.run(
        [sys.executable, "-c", call, "serve", str(file)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"upstream {url}: answers with HTTP status 503; the cache starts when it answers (next try in 1 s)",
        f"became: serve {file}",
    ]
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", [None, "version: 0.1\n", '  remoteurl: "bad\n'])
def test_serve_refuses_what_it_cannot_read(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker-registry"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "mirror.yml"
    if text is not None:
        file.write_text(text)
    result = CliRunner().invoke(command, ["serve", str(file)])
    assert result.exit_code == 1
    assert str(file) in result.output
    program.unlink()
    result = CliRunner().invoke(command, ["serve", str(file)])
    assert "docker-registry is not on PATH" in result.output
