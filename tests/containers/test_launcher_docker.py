"""The launcher ``docker``: a rootless Docker daemon a job, in real Slurm jobs."""

from __future__ import annotations

from tests.containers.cases import DockerCases, log_of
from tests.containers.site import Images
from tests.e2e.scene import Scene, job, workflow


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
        values = images.home_of("runner") / "store.env"
        right = values.read_text()
        lines = right.splitlines(keepends=True)
        values.write_text("".join("ENGINE_VERSION=1.2.3\n" if "VERSION" in line else line for line in lines))
        try:
            run = stage.push(workflow(a=job("docker image ls")))
            assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
        finally:
            values.write_text(right)
        said = "".join(path.read_text() for path in stage.output_dir.glob("*.log"))
        assert said.count("its store is not used, since it was made by dockerd 1.2.3") == 1, said
        assert said.count("its store is not used") == 1, "all others have used it"
