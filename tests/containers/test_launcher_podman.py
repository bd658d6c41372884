"""The launcher ``podman``: Podman's service in the place of a Docker daemon, in real Slurm jobs."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from tests.containers.cases import DockerCases, log_of, told_of_misfit
from tests.containers.site import Images, processes_of_job
from tests.e2e.scene import Scene, job, workflow

DETAILS = """
mkdir context
printf 'FROM runner:1\\nRUN mkdir -p /d/old && touch /d/old/x\\nRUN rm -r /d/old && mkdir /d/old && touch /d/new\\n' \
  > context/Dockerfile
DOCKER_BUILDKIT=0 docker build -q -t layered context
test "$(docker run --rm layered ls -A /d /d/old | tr '\\n' ' ')" = '/d: new old  /d/old: '
docker run --rm layered sh -c 'rm -r /usr/share && mkdir /usr/share && test -z "$(ls -A /usr/share)"'
docker run --rm --memory 200m --cpus 0.5 --pids-limit 100 runner:1 echo 'limits are no obstacle'
code=0
docker run --rm --name once runner:1 sh -c 'exit 3' || code=$?
test "$code" = 3
docker run --rm --name once runner:1 true
"""
HEALTHY = """
docker network create side
docker run -d --name server --network side --health-cmd 'test -e /ready' --health-interval 1s runner:1 sh -c \
  'sleep 2; touch /ready; exec python3 -m http.server 8000 --directory /home'
for try in $(seq 100); do
  state=$(docker inspect --format '{{.State.Health.Status}}' server)
  test "$state" != healthy || break
  sleep 0.2
done
echo "the server is $state"
test "$state" = healthy
docker run --rm --network side runner:1 curl -sf http://server:8000/ > listing
grep runner listing
"""


@pytest.fixture(scope="module", autouse=True)
def podman_store(images: Images) -> Path:
    images.publish("runner", "podman")
    return images.home_of("runner") / "podman"


class TestPodman(DockerCases):
    launcher = "podman"
    victims = ("rootlesskit", "exe", "slirp4netns", "podman", "conmon", "perl", "run.sh", "python3", "Runner.Worker")

    def test_layers_limits_and_exit_statuses(self, stage: Scene) -> None:
        run = stage.push(workflow(a=job(DETAILS)))
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
        assert "limits are no obstacle" in log_of(stage, run)

    def test_names_on_a_network_and_health(self, stage: Scene) -> None:
        run = stage.push(workflow(a=job(HEALTHY)))
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
        assert "the server is healthy" in log_of(stage, run)

    def test_a_signal_to_all_leaves_the_runner_its_time(self, stage: Scene) -> None:
        """As scancel does it where Slurm knows all processes: Podman's service ends, and the runner still reports."""
        run = stage.push(workflow(a=job(self.busy())))
        slurm_id = self.running(stage, run, "a")
        for pid, name in processes_of_job(stage, slurm_id).items():
            if name != "slurmstepd":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        assert stage.until_completed(run, 60) == {"a": "cancelled"}, log_of(stage, run)

    def test_a_store_of_another_podman_is_left_alone(self, stage: Scene, podman_store: Path) -> None:
        """One line says why, and the image is had in another way."""
        said = told_of_misfit(stage, podman_store.with_name("podman.env"), "0.1")
        assert said.count("its podman store is not used, since it was made by podman 0.1") == 1, said
