"""The launcher ``docker``: a rootless Docker daemon a job, in real Slurm jobs."""

from __future__ import annotations

from tests.containers.cases import DockerCases


class TestDocker(DockerCases):
    launcher = "docker"
    victims = (
        "rootlesskit",
        "exe",
        "slirp4netns",
        "dockerd",
        "containerd",
        "containerd-shim",
        "docker",
        "run.sh",
        "python3",
        "act",
    )
