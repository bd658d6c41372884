"""What every launcher with a Docker socket in its jobs has to do; ``test_launcher_*.py`` says with which keys."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, ClassVar

from tests.containers.site import Images, processes_of_job
from tests.e2e.scene import Scene, job, workflow

from slurm_gha.testing.github.values import Run
from slurm_gha.testing.processes import inhabitants

# A step that goes on, with a container beside it that ignores TERM.
BUSY = "docker run -d {image} sh -c 'trap \"\" TERM; sleep 300'; sleep 300"

USES_DOCKER = """
echo "written by the step" > file
docker run --rm -v "$PWD:$PWD" -w "$PWD" {image} sh -c 'cat file && echo "and by its sibling" >> file'
grep -q 'and by its sibling' file
mkdir context && printf 'FROM {image}\\nRUN echo built > /built\\nCOPY file /file\\n' > context/Dockerfile
cp file context/ && DOCKER_BUILDKIT=0 docker build -q -t made context
docker run --rm made cat /built /file
docker run -d --name web -p 8123:8000 -w /home {image} python3 -m http.server 8000
for try in $(seq 50); do curl -sf http://localhost:8123/ > listing && break; sleep 0.1; done
grep -q runner listing
docker rm -f web
"""


class DockerCases:
    """``launcher`` and further ``keys`` of the pool; ``image`` is what the engine calls the runner's image."""

    launcher: ClassVar[str]
    keys: ClassVar[dict[str, Any]] = {}
    image: ClassVar[str] = "runner:1"
    # The processes of a job, by the names of their commands: each is killed, in a job of its own.
    victims: ClassVar[tuple[str, ...]]
    # Those of them that the engine starts anew, so that the job goes on.
    replaced: ClassVar[tuple[str, ...]] = ()

    def busy(self) -> str:
        return BUSY.format(image=self.image)

    def test_steps_use_docker(self, stage: Scene) -> None:
        run = stage.push(workflow(a=job(USES_DOCKER.format(image=self.image))))
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
        log = log_of(stage, run)
        assert "written by the step" in log
        assert "built" in log

    def test_jobs_in_containers_and_with_services(self, stage: Scene) -> None:
        inside = job("grep -q bookworm /etc/os-release; echo here > file; ls -la", container=self.image)
        served = job(
            "for try in $(seq 50); do curl -sf http://localhost:8124/ && break; sleep 0.1; done",
            services={"web": {"image": self.image, "ports": ["8124:8000"]}},
        )
        run = stage.push(workflow(inside=inside, served=served))
        done = stage.until_completed(run, 120)
        assert done == {"inside": "success", "served": "success"}, log_of(stage, run)

    def test_two_on_a_node_neither_clash_nor_meet(self, stage: Scene) -> None:
        """The same names and published ports at the same time; each sees its own containers and directory only."""
        step = (
            f"docker run -d --name same -p 8125:8000 {self.image} sleep 300; sleep 6; "
            "test $(docker ps -q --filter name=same | wc -l) = 1; "
            f"docker run --rm -v {stage.node_dir}:/dirs {self.image} ls /dirs > dirs; "
            "cat dirs; test $(wc -l < dirs) = 1"
        )
        run = stage.push(workflow(a=job(step), b=job(step)))
        assert stage.until_completed(run, 120) == {"a": "success", "b": "success"}, log_of(stage, run)
        (a, b) = stage.github.present_jobs(run)
        assert max(a.started_at or 0, b.started_at or 0) < min(a.completed_at or 0, b.completed_at or 0), "at once"

    def test_a_hostile_job_gets_nowhere(self, stage: Scene, images: Images) -> None:
        catalogue, service = images.catalogue, f"{stage.port}/healthz"
        before = content(images)
        # Not "rm -f", which is content where there is nothing.
        reaches = {
            "logs of others": f"ls /host{stage.output_dir}/*",
            "the journal": f"ls /host{stage.state_dir}/*",
            "directories of others": f"ls -d /host{stage.node_dir}/sg-* | grep -v /sg-$SLURM_JOB_ID$",
            "the catalogue": f"touch /host{catalogue}/x || rm -r /host{catalogue}/names/runner",
            "the stores": f"touch /host{images.stores}/x || rm -r /host{images.stores}/*/image",
            "processes of others": "grep -l slurmctld /host/proc/[0-9]*/comm",
            "the loopback of the node": f"curl -s -m 3 http://127.0.0.1:{service} || curl -s -m 3 http://10.0.2.2:{service}",
        }
        attempts = "\n".join(
            f"if docker run --rm --privileged --network host -e SLURM_JOB_ID -v /:/host {self.image} "
            f"sh -c '{attempt}'; "
            f"then echo 'reached {what}'; exit 1; fi"
            for what, attempt in reaches.items()
        )
        own = f"if curl -s -m 3 http://127.0.0.1:{service}; then echo 'reached the loopback itself'; exit 1; fi"
        run = stage.push(workflow(neighbour=job("sleep 20"), hostile=job(f"{attempts}\n{own}\necho 'nowhere'")))
        done = stage.until_completed(run, 120)
        assert done == {"neighbour": "success", "hostile": "success"}, log_of(stage, run)
        assert "nowhere" in log_of(stage, run)
        assert content(images) == before

    def test_nothing_is_left_however_a_job_ends(self, stage: Scene) -> None:
        """Every ending at once, each in a job of its own."""
        busy = job(self.busy())
        victims = {f"kill-{number}": busy for number, _ in enumerate(self.victims)}
        endings = stage.push(
            workflow(
                success=job("true"),
                failure=job("exit 3"),
                script=busy,
                scancel=busy,
                limit=job(self.busy(), labels=("self-hosted", "brief")),
                **victims,
            )
        )
        cancelled = stage.push(workflow(cancelled=busy))
        names = {key: self.running(stage, endings, key) for key in ("script", "scancel", "limit", *victims)}
        self.running(stage, cancelled, "cancelled")
        stage.github.cancel_run("lab/demo", cancelled.id)
        stage.slurm.run("scancel", names["scancel"])
        for number, victim in enumerate(self.victims):
            kill(stage, names[f"kill-{number}"], victim)
        # slurmstepd runs it as slurm_script; the shell that the guard and helpers are have other parents.
        kill(stage, names["script"], "slurm_script")
        lasting = {f"kill-{number}" for number, victim in enumerate(self.victims) if victim in self.replaced}
        stage.until(
            lambda: open_jobs(stage, endings) <= lasting,
            180,
            lambda: f"over are all jobs but those that go on, {sorted(lasting)}; open: {open_jobs(stage, endings)}",
        )
        if lasting:
            stage.github.cancel_run("lab/demo", endings.id)
        done = stage.until_completed(endings, 60)
        assert {key for key in victims if done[key] == "cancelled"} == lasting, "the job went on without it"
        assert done["success"] == "success"
        assert done["failure"] == "failure"
        assert done["limit"] == "cancelled", "GitHub hears of the end, and need not guess it"
        assert stage.until_completed(cancelled, 60) == {"cancelled": "cancelled"}
        stage.ends_clean(60)
        assert inhabitants(str(stage.node_dir)) == {}

    def running(self, stage: Scene, run: Run, key: str) -> str:
        """The Slurm job that runs it, once its step has a container beside it."""
        name = str(stage.until_running(run, key, 90).runner_name)
        slurm_id = stage.slurm_id(name)
        stage.until(lambda: "sleep" in processes_of_job(stage, slurm_id).values(), 60, f"the container of {key} runs")
        return slurm_id


def kill(stage: Scene, slurm_id: str, command: str) -> None:
    """SIGKILL to the process of the Slurm job with that command's name that has run longest."""
    found = processes_of_job(stage, slurm_id)
    # Process ids begin anew after a few thousand, so a lower one is not always an older process.
    pid = min((pid for pid, name in found.items() if name == command), key=started, default=None)
    assert pid is not None, f"no {command} among {sorted(set(found.values()))}"
    os.kill(pid, signal.SIGKILL)


def started(pid: int) -> int:
    """When a process began, in clock ticks since the boot of the machine; 0 where it is gone."""
    with contextlib.suppress(OSError):
        # The command, in brackets, may hold anything; the time is the 20th field after it (proc_pid_stat(5)).
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


def open_jobs(stage: Scene, run: Run) -> set[str]:
    return {each.key for each in stage.github.present_jobs(run) if each.status != "completed"}


def content(images: Images) -> list[str]:
    """Every path of the catalogue and the stores, but for the marks of jobs."""
    return sorted(str(path) for path in images.home.rglob("*") if "uses" not in path.parts)


def told_of_misfit(stage: Scene, values: Path, version: str) -> str:
    """What runners say while the store with these values was made by an engine of that version; the job succeeds."""
    right = values.read_text()
    lines = right.splitlines(keepends=True)
    values.write_text("".join(f"ENGINE_VERSION={version}\n" if "VERSION" in line else line for line in lines))
    try:
        run = stage.push(workflow(a=job("docker image ls")))
        assert stage.until_completed(run, 120) == {"a": "success"}, log_of(stage, run)
    finally:
        values.write_text(right)
    return "".join(path.read_text() for path in stage.output_dir.glob("*.log"))


def log_of(stage: Scene, run: Run) -> str:
    return "\n".join(f"{each.name}: {each.log}" for each in stage.github.present_jobs(run))
