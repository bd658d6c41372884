"""The launcher ``podman``: Podman's service in the place of a Docker daemon, in real Slurm jobs."""

from __future__ import annotations

from tests.containers.cases import DockerCases


class TestPodman(DockerCases):
    launcher = "podman"
    victims = ("rootlesskit", "exe", "slirp4netns", "podman", "conmon", "run.sh", "python3", "act")
