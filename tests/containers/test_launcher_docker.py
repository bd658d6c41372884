"""The launcher ``docker``: a rootless Docker daemon a job, in real Slurm jobs."""

from __future__ import annotations

from tests.containers.cases import DockerCases, told_of_misfit
from tests.containers.site import Images
from tests.e2e.scene import Scene


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
    replaced = ("containerd",)

    def test_a_store_of_another_engine_is_left_alone(self, stage: Scene, images: Images) -> None:
        """One line says why, and the image is had in another way."""
        said = told_of_misfit(stage, images.home_of("runner") / "store.env", "1.2.3")
        assert said.count("its store is not used, since it was made by dockerd 1.2.3") == 1, said
        assert said.count("its store is not used") == 1, "all others have used it"
