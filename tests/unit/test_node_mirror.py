"""Mirrors as the node sees them: references, and what each kind of trouble costs."""

from __future__ import annotations

import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slurm_gha.slurm.script import part, quote


def _bash(body: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``body`` after the functions of the node's files, as strictly as in the batch script."""
    values = {"SG_IMAGE": "", "SG_IMAGE_HOME": "", "SG_MIRRORS": "()", **variables}
    head = "\n".join(f"{name}={text if text.startswith('(') else quote(text)}" for name, text in values.items())
    script = "\n".join(("set -euo pipefail", head, part("lib"), part("mirror"), body))
    return subprocess.run(["/bin/bash", "-p", "-c", script], capture_output=True, text=True, timeout=30, check=True)


@pytest.mark.parametrize(
    ("reference", "registry", "repository"),
    [
        ("debian", "docker.io", "library/debian"),
        ("debian:12", "docker.io", "library/debian:12"),
        ("debian@sha256:ab", "docker.io", "library/debian@sha256:ab"),
        ("library/debian", "docker.io", "library/debian"),
        ("owner/image:1.2", "docker.io", "owner/image:1.2"),
        ("docker.io/debian", "docker.io", "library/debian"),
        ("docker.io/owner/image", "docker.io", "owner/image"),
        ("index.docker.io/library/debian:12", "docker.io", "library/debian:12"),
        ("ghcr.io/owner/image:latest", "ghcr.io", "owner/image:latest"),
        ("ghcr.io/image", "ghcr.io", "image"),
        ("ghcr.io/owner/image:1@sha256:ab", "ghcr.io", "owner/image:1@sha256:ab"),
        ("registry.example:5000/a/b/c", "registry.example:5000", "a/b/c"),
        ("localhost/image", "localhost", "image"),
        ("localhost:5000/image@sha256:ab", "localhost:5000", "image@sha256:ab"),
        ("10.0.2.2:5000/image:x", "10.0.2.2:5000", "image:x"),
    ],
)
def test_a_reference_is_taken_apart_as_docker_does(reference: str, registry: str, repository: str) -> None:
    done = _bash(f'registry_of {quote(reference)}; printf "%s %s" "$SG_REGISTRY" "$SG_REPOSITORY"')
    assert done.stdout == f"{registry} {repository}"


@pytest.mark.parametrize(
    ("repository", "path"),
    [
        ("owner/image", "owner/image/manifests/latest"),
        ("owner/image:1.2", "owner/image/manifests/1.2"),
        ("owner/image@sha256:ab", "owner/image/manifests/sha256:ab"),
        ("owner/image:1.2@sha256:ab", "owner/image/manifests/sha256:ab"),
    ],
)
def test_the_manifest_asked_for_is_that_of_the_tag_or_the_digest(repository: str, path: str) -> None:
    assert _bash(f'path=; manifest_path {repository}; printf %s "$path"').stdout == path


class _Registry(http.server.BaseHTTPRequestHandler):
    """Answers each path by ``answers``; 404 for others."""

    answers: dict[str, int]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.answers.get(self.path, 404))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def _registry(answers: dict[str, int]) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (_Registry,), {"answers": answers, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


def _found(url: str, registry: str, reference: str) -> tuple[str, str]:
    """The mirror's URL if it is used, and what the job's output says."""
    body = f'registry_of {reference}; find_mirror {registry} || true; printf %s "$SG_MIRROR_URL"'
    done = _bash(body, SG_MIRRORS=f"({quote(f'{registry}={url}')})")
    return done.stdout, done.stderr


def test_a_mirror_that_has_the_image_is_used() -> None:
    with _registry({"/v2/owner/image/manifests/1": 200}) as (url, asked):
        assert _found(url, "ghcr.io", "ghcr.io/owner/image:1") == (url, "")
        assert asked == ["/v2/owner/image/manifests/1"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_mirror_that_asks_for_a_login_is_used(status: int) -> None:
    with _registry({"/v2/owner/image/manifests/latest": status}) as (url, _):
        assert _found(url, "ghcr.io", "ghcr.io/owner/image") == (url, "")


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"/v2/owner/image/manifests/1": 500}, "answers with HTTP status 500"),
        ({"/v2/owner/image/manifests/1": 503}, "answers with HTTP status 503"),
        ({"/v2/owner/image/manifests/1": 429}, "answers with HTTP status 429"),
        ({"/v2/": 200}, "does not have owner/image:1"),
    ],
)
def test_a_mirror_that_cannot_give_the_image_is_left_out(answers: dict[str, int], says: str) -> None:
    with _registry(answers) as (url, _):
        used, said = _found(url, "ghcr.io", "ghcr.io/owner/image:1")
    assert used == ""
    assert said == f"slurm-gha: the mirror {url} of ghcr.io {says}; pulling from ghcr.io itself\n"


def test_a_mirror_that_is_down_costs_next_to_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    used, said = _found(url, "ghcr.io", "ghcr.io/owner/image")
    assert used == ""
    assert "pulling from ghcr.io itself" in said


def test_a_mirror_that_hangs_is_given_up() -> None:
    """It accepts connections, and never says a word; the limit is curl's own, and is 3 s."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        used, said = _found(url, "ghcr.io", "ghcr.io/owner/image")
    assert used == ""
    assert "does not answer within 3 s; pulling from ghcr.io itself" in said


def test_a_digest_is_asked_for_as_such() -> None:
    with _registry({"/v2/owner/image/manifests/sha256:ab": 200}) as (url, asked):
        assert _found(url, "ghcr.io", "ghcr.io/owner/image@sha256:ab") == (url, "")
        assert asked.pop() == "/v2/owner/image/manifests/sha256:ab"
        assert _arguments(url, "owner/image@sha256:ab")[:2] == ["--registry-mirror", url]
        assert asked == ["/v2/owner/image/manifests/sha256:ab"]


def test_only_the_mirror_of_that_registry_is_asked() -> None:
    with _registry({}) as (url, asked):
        done = _bash("registry_of quay.io/a/b; find_mirror quay.io || printf none", SG_MIRRORS=f"('ghcr.io={url}')")
    assert done.stdout == "none"
    assert asked == []


def _arguments(url: str, image: str = "", **more: str) -> list[str]:
    mirrors = f"('docker.io={url}' 'ghcr.io=http://cache:5001' 'quay.io=https://cache:5002')"
    done = _bash(
        'dockerd_mirrors; printf "%s\\n" "${SG_DOCKERD_MIRRORS[@]}"', SG_MIRRORS=mirrors, SG_IMAGE=image, **more
    )
    return done.stdout.split()


def test_the_daemon_is_told_of_docker_ios_mirror_and_of_those_without_encryption() -> None:
    with _registry({"/v2/": 200}) as (url, asked):
        host = url.removeprefix("http://")
        expected = ["--registry-mirror", url, "--insecure-registry", host, "--insecure-registry", "cache:5001"]
        assert _arguments(url) == expected
        assert asked == ["/v2/"]


def test_the_daemon_is_told_of_a_mirror_that_lacks_the_image_too() -> None:
    """The daemon goes on to docker.io by itself, and steps may ask for other images."""
    with _registry({"/v2/": 200}) as (url, asked):
        assert _arguments(url, "debian:12")[:2] == ["--registry-mirror", url]
        assert asked == ["/v2/library/debian/manifests/12"]


def test_the_daemon_is_not_told_of_a_mirror_with_an_upstream_that_is_down() -> None:
    with _registry({"/v2/": 200, "/v2/library/debian/manifests/12": 500}) as (url, _):
        assert "--registry-mirror" not in _arguments(url, "debian:12")


def test_an_image_of_another_registry_says_nothing_about_docker_ios_mirror() -> None:
    with _registry({"/v2/": 200}) as (url, asked):
        assert _arguments(url, "ghcr.io/owner/image")[:2] == ["--registry-mirror", url]
        assert asked == ["/v2/"]


def test_without_mirrors_the_daemon_gets_no_arguments() -> None:
    assert _bash('dockerd_mirrors; printf %s "${#SG_DOCKERD_MIRRORS[@]}"').stdout == "0"
