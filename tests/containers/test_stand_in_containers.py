"""The stand-in runner on a real rootless Docker daemon: container: and services: jobs, container steps, endings."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from tests.containers.rootless_docker import BASE, WEB, RootlessDocker

from slurm_gha.domain.clock import SystemClock
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.runner_routes import routes
from slurm_gha.testing.github.serve import serve_in_thread
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob
from slurm_gha.testing.network import Network
from slurm_gha.testing.runner import directory

pytestmark = pytest.mark.slow

BOXED = f"""
name: A workflow whose name is longer than what Docker's names leave room for
on: push
jobs:
  boxed:
    runs-on: x
    strategy: {{matrix: {{image: ["{BASE}"]}}}}
    env: {{TOP: top}}
    outputs: {{made: "${{{{ steps.make.outputs.made }}}}"}}
    container:
      image: ${{{{ matrix.image }}}}
      env: {{GIVEN: "for ${{{{ github.repository }}}}"}}
      options: --hostname boxed
      volumes: ["/usr/share/dict:/words:ro", "kept:/kept"]
    services:
      web: {{image: "{WEB}", ports: ["8099:80"]}}
    steps:
      - uses: actions/checkout@v4
      - id: make
        run: |
          echo "on $(hostname) as $(id -u) with $GIVEN and $TOP in $PWD, home $HOME"
          cat README.md; ls -d /words /kept; echo made=it >> "$GITHUB_OUTPUT"; echo LATER=later >> "$GITHUB_ENV"
          for i in 1 2 3 4 5 6 7 8 9; do curl -sf http://web/ && break; sleep 0.3; done | head -1
          echo written > by-the-job
      - run: |
          test -S /var/run/docker.sock
          echo "$LATER $(curl -s --unix-socket /var/run/docker.sock http://engine/_ping)"
      - uses: docker://{BASE}
        with: {{args: cat by-the-job}}
      - run: seq 1 2000; exit 3
      - run: echo afterwards
        if: always()
"""
TEXT = f"on: push\njobs: {{a: {{runs-on: x, container: '{BASE}', steps: [{{run: 'cat /etc/debian_version; pwd'}}]}}}}"
HOST = f"""
on: push
jobs:
  host:
    runs-on: x
    services:
      web:
        image: "{WEB}"
        env: {{WHO: "it's ${{{{ github.repository }}}}"}}
        ports: ["80", "8098:81"]
        options: --health-cmd "curl -sf http://127.0.0.1/" --health-interval 1s
    steps:
      - run: |
          echo "ports ${{{{ job.services.web.ports['80'] }}}} ${{{{ job.services.web.ports[81] }}}}"
          docker exec ${{{{ job.services.web.id }}}} sh -c 'echo "$WHO"'
          docker run --rm --network ${{{{ job.services.web.network }}}} {BASE} curl -sf http://web/ | head -1
          echo from-the-step > file; echo SET=set >> "$GITHUB_ENV"
      - name: in a container
        uses: docker://{BASE}
        env: {{SEEN: yes}}
        with:
          entrypoint: sh
          args: -c 'cat file; echo $SEEN $SET $INPUT_ENTRYPOINT; echo from-the-container > other; pwd'
      - run: |
          cat other; rm other; pwd -P
          docker run --rm -v "$PWD:$PWD" -w "$PWD" {BASE} cat file
          printf 'FROM {BASE}\\nRUN echo built > /built\\n' | DOCKER_BUILDKIT=0 docker build -q -t made -
          docker run --rm made cat /built; docker rmi -f made
"""
UNHEALTHY = f"""
on: push
jobs:
  host:
    runs-on: x
    services: {{broken: {{image: "{BASE}", options: "--entrypoint false"}}}}
    steps: [{{run: echo unreachable}}]
"""
SLEEPING = f"""
on: push
jobs:
  a:
    runs-on: x
    container: {{image: "{BASE}"}}
    services: {{web: {{image: "{WEB}"}}}}
    steps:
      - run: touch started; sleep 300
      - run: echo unreachable
      - run: echo told to stop
        if: cancelled()
"""
NOTHING_LEFT = {"containers": [], "networks": []}


@pytest.fixture(scope="module")
def docker() -> Iterator[RootlessDocker]:
    with RootlessDocker() as daemon:
        yield daemon


class Site:
    """A simulated GitHub with one workflow, and a self-contained runner of the daemon's user."""

    def __init__(self, docker: RootlessDocker, github: GitHub, root: Path) -> None:
        self.docker, self.github, self.root = docker, github, root
        self.jit = github.mint_runner("repos/octo/app", "r1", ["x"])[1]
        github.push("octo/app")

    def start(self, **environment: str) -> subprocess.Popen[str]:
        given = {**self.docker.env, "ACTIONS_RUNNER_INPUT_JITCONFIG": self.jit, **environment}
        return subprocess.Popen(
            self.docker.as_user([str(self.root / "run.sh")]),
            env={name: value for name, value in given.items() if value},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def job(self) -> SimJob:
        (job,) = self.github.jobs.values()
        return job

    def run(self, **environment: str) -> list[str]:
        """The job's log, without times."""
        said, _ = self.start(**environment).communicate(timeout=300)
        assert "Running job" in said, said
        return [line.partition(" ")[2] for line in self.job().log.splitlines()]


@contextmanager
def site(docker: RootlessDocker, workflow: str, listening: Any = None) -> Iterator[Site]:
    made: list[GitHub] = []

    def make(url: str) -> Starlette:
        github = GitHub(SystemClock(), url=url)
        github.add_repository("octo/app", {".github/workflows/b.yml": workflow, "README.md": "read me\n"})
        made.append(github)
        return create_app(github, extra_routes=routes(github), in_process=False)

    with serve_in_thread(make, listening):
        root = Path(tempfile.mkdtemp(prefix="sgr-", dir="/tmp"))
        try:
            directory.build(root, carried=True)
            docker.own(root)
            yield Site(docker, made[0], root)
        finally:
            shutil.rmtree(root)


def left(docker: RootlessDocker) -> Mapping[str, list[str]]:
    everything = docker.everything()
    return {kind: everything[kind] for kind in NOTHING_LEFT}


def test_a_job_in_a_container_with_a_service(docker: RootlessDocker) -> None:
    with site(docker, BOXED) as here:
        said = here.run()
        workspace = here.root / "_work" / "app" / "app"
        assert f"on boxed as 0 with for octo/app and top in {workspace}, home /root" in said
        assert said.count("read me") == 1
        assert said.index("/kept") < said.index("/words") < said.index("<!DOCTYPE HTML>")
        assert "later OK" in said
        assert said.count("written") == 1
        numbers = said.index("1")
        assert said[numbers : numbers + 2001] == [
            *(str(number) for number in range(1, 2001)),
            "##[error]Process completed with exit code 3.",
        ]
        assert "afterwards" in said
        assert (workspace / "by-the-job").read_text() == "written\n"
        assert (workspace / "by-the-job").owner() == here.root.owner()
        assert here.job().conclusion == "failure"
        assert here.job().outputs == {"made": "it"}
        assert [step["conclusion"] for step in here.job().steps] == [
            *["success"] * 5,
            "failure",
            *["success"] * 2,
        ]
        assert left(docker) == NOTHING_LEFT
        assert "kept" in docker.everything()["volumes"]  # the author's own
        docker.docker("volume", "rm", "kept")


def test_a_container_given_as_text(docker: RootlessDocker) -> None:
    with site(docker, TEXT) as here:
        said = here.run()
        assert any(line.startswith("12.") for line in said)
        assert said[-1] == f"{here.root}/_work/app/app"
        assert here.job().conclusion == "success"
        assert left(docker) == NOTHING_LEFT


def test_a_job_on_the_machine_with_a_service_and_docker_in_its_steps(docker: RootlessDocker) -> None:
    with site(docker, HOST) as here:
        said = here.run()
        assert here.job().conclusion == "success", "\n".join(said)
        (ports,) = (line for line in said if line.startswith("ports ") and line.endswith(" 8098"))
        assert ports.split()[1].isdigit()
        assert "it's octo/app" in said
        assert "<!DOCTYPE HTML>" in said
        assert said.count("from-the-step") == 2
        assert "yes set sh" in said
        assert said.count("from-the-container") == 1
        assert said.count(f"{here.root}/_work/app/app") == 2
        assert "built" in said
        assert [step["name"] for step in here.job().steps][1:4:2] == ["Initialize containers", "in a container"]
        assert left(docker) == NOTHING_LEFT


def test_a_service_that_does_not_run_fails_the_job(docker: RootlessDocker) -> None:
    with site(docker, UNHEALTHY) as here:
        said = here.run()
        assert here.job().conclusion == "failure"
        assert any(line.startswith("##[error]Service broken does not run as it should: exited") for line in said)
        assert not any("unreachable" in line for line in said if not line.startswith("Run"))
        assert left(docker) == NOTHING_LEFT


@pytest.mark.parametrize("workflow", [BOXED, HOST])
def test_without_docker_one_sentence_says_so(docker: RootlessDocker, workflow: str) -> None:
    with site(docker, workflow) as here:
        said = here.run(DOCKER_HOST=f"unix://{here.root}/no.sock")
        errors = [line for line in said if line.startswith("##[error]")]
        assert errors == [
            f"##[error]This job needs Docker for its containers, and there is no Docker socket at {here.root}/no.sock."
        ]
        assert here.job().conclusion == "failure"


def test_an_image_that_is_not_there_is_named(docker: RootlessDocker) -> None:
    with site(docker, TEXT.replace(BASE, "127.0.0.1:1/none:1")) as here:
        said = here.run()
        assert here.job().conclusion == "failure"
        assert any("127.0.0.1:1" in line for line in said if line.startswith("##[error]"))


def test_a_cancelled_job_leaves_no_container(docker: RootlessDocker) -> None:
    with site(docker, SLEEPING) as here:
        runner = here.start()
        started = here.root / "_work" / "app" / "app" / "started"
        for _ in range(3000):
            if started.exists():
                break
            threading.Event().wait(0.1)
        assert len(left(docker)["containers"]) == 2
        here.github.cancel_job(here.job().id)
        said, _ = runner.communicate(timeout=300)
        assert here.job().conclusion == "cancelled", said
        log = here.job().log
        assert "Z told to stop\n" in log
        assert "Z unreachable\n" not in log
        assert left(docker) == NOTHING_LEFT


def test_two_jobs_at_once_do_not_meet(docker: RootlessDocker) -> None:
    with site(docker, SLEEPING) as first, site(docker, TEXT) as second:
        runner = first.start()
        started = first.root / "_work" / "app" / "app" / "started"
        for _ in range(3000):
            if started.exists():
                break
            threading.Event().wait(0.1)
        second.run()
        assert second.job().conclusion == "success"
        assert len(left(docker)["containers"]) == 2
        first.github.cancel_job(first.job().id)
        runner.communicate(timeout=300)
        assert left(docker) == NOTHING_LEFT


def test_the_runner_itself_in_a_container_that_has_only_python(docker: RootlessDocker) -> None:
    """As the docker launcher does it: the root directory by its own path, the daemon's network, its socket."""
    with Network() as network, site(docker, BOXED, network.listen()) as here:
        said = docker.run(
            *("docker", "run", "--rm", "--network", "host", "--user", "0:0", "--volume", f"{here.root}:{here.root}"),
            *("--volume", f"{docker.dir}/docker.sock:/var/run/docker.sock"),
            *("--volume", f"{shutil.which('docker')}:/usr/bin/docker:ro", "--workdir", str(here.root)),
            *("--env", "ACTIONS_RUNNER_INPUT_JITCONFIG", "--env", "RUNNER_ALLOW_RUNASROOT=1"),
            *(BASE, "./run.sh"),
            env={"ACTIONS_RUNNER_INPUT_JITCONFIG": here.jit},
        ).stdout
        assert f"Job boxed ({BASE}) completed" in said
        assert here.job().outputs == {"made": "it"}, here.job().log
        assert "afterwards" in here.job().log
        assert left(docker) == NOTHING_LEFT
        docker.docker("volume", "rm", "kept")
