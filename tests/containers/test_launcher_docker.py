"""The launcher ``docker``: a rootless Docker daemon a job, in real Slurm jobs."""

from __future__ import annotations

from tests.containers.cases import DockerCases, log_of, told_of_misfit
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
        "Runner.Worker",
    )
    replaced = ("containerd",)

    def test_the_number_of_the_job_s_gpu_gets_into_the_container(self, stage: Scene) -> None:
        step = 'echo "mine ${CUDA_VISIBLE_DEVICES-none}, ordinal ${GPU_DEVICE_ORDINAL-none}, of $SLURM_JOB_ID"'
        asking = job(step, labels=["self-hosted", "small", "slurm-gpus=a100:2"])
        run = stage.push(workflow(a=asking, plain=job(step)))
        assert set(stage.until_completed(run, 120).values()) == {"success"}, log_of(stage, run)
        assert "mine 0,1, ordinal 0,1, of " in stage.job(run, "a").log
        assert "mine none, ordinal none, of " in stage.job(run, "plain").log

    def test_a_store_of_another_engine_is_left_alone(self, stage: Scene, images: Images) -> None:
        """One line says why, and the image is had in another way."""
        said = told_of_misfit(stage, images.home_of("runner") / "store.env", "1.2.3")
        assert said.count("its store is not used, since it was made by dockerd 1.2.3") == 1, said
        assert said.count("its store is not used") == 1, "all others have used it"
