"""Two services: on one state directory, and two installations side by side on one cluster and one organisation."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

from tests.e2e.scene import CommandLog, Scene, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import free_port


def another(stage: Scene) -> subprocess.CompletedProcess[str]:
    """``slurm-gha run`` with the stage's configuration once more; for one that ends by itself."""
    argv: Sequence[str] = (sys.executable, "-m", "slurm_gha", "run", "--config", str(stage.config))
    return stage.slurm.run(*argv, check=False)


def test_the_second_on_a_state_directory_is_refused(slurm: PrivateSlurm) -> None:
    log = CommandLog(slurm)
    with scene(slurm, overrides=log.overrides) as stage:
        hold = stage.base / "hold"
        hold.touch()
        run = stage.push(workflow(a=job(f"while test -e {hold}; do sleep 0.1; done")))
        stage.until_running(run, "a")
        assert stage.service is not None
        refused = another(stage)
        assert refused.returncode == 1
        assert f"process {stage.service.pid} already serves the state directory {stage.state_dir}" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert stage.service.poll() is None, "the first goes on"
        assert (len(log.calls("sbatch")), log.calls("scancel")) == (1, [])
        hold.unlink()
        assert stage.until_completed(run) == {"a": "success"}
        stage.ends_clean()
        assert stage.outcomes() == ["finished"]


def test_a_killed_one_leaves_no_lock(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        run = stage.push(workflow(a=job("sleep 2")))
        stage.until_running(run, "a")
        stage.stop_service(signal.SIGKILL)
        stage.start_service()
        assert stage.until_completed(run) == {"a": "success"}


def test_the_second_on_a_port_is_refused(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        place = f"127.0.0.1:{stage.port}"
        other_state = stage.slurm.run("mktemp", "-d", "-p", str(stage.base)).stdout.strip()
        stage.overrides = {"service": {"state_dir": other_state}}
        stage.write_config()
        refused = another(stage)
        assert refused.returncode == 1
        assert place in refused.stderr
        assert "Traceback" not in refused.stderr
        stage.overrides = {}
        stage.write_config()


def test_two_installations_leave_each_other_alone(slurm: PrivateSlurm) -> None:
    """One GitHub, one cluster, one user: each sees the other's Slurm jobs and registrations, and touches none."""
    with scene(slurm, pools=[pool("small")]) as stage:
        hold = stage.base / "hold"
        hold.touch()
        wait = f"while test -e {hold}; do sleep 0.1; done"
        run = stage.push(workflow(a=job(wait), b=job(wait, labels=["self-hosted", "other"])))
        first = stage.until_running(run, "a")
        with Neighbour(stage) as neighbour:
            stage.until_running(run, "b")
            # Both are started afresh, which is when each looks for what an earlier life may have left behind.
            stage.stop_service(signal.SIGKILL)
            neighbour.stop_service(signal.SIGKILL)
            stage.start_service()
            neighbour.start_service()
            idle = stage.push(workflow(c=job(labels=["self-hosted", "other"])))
            assert stage.until_completed(idle) == {"c": "success"}
            assert stage.job(run, "a").status == stage.job(run, "b").status == "in_progress"
            assert [r["name"] for r in stage.records()] == [first.runner_name]
            assert len(neighbour.records()) == 2
            hold.unlink()
            assert stage.until_completed(run) == {"a": "success", "b": "success"}
            neighbour.until(lambda: all(r["closed_at"] for r in neighbour.records()), 30, "the neighbour is done")
            assert neighbour.outcomes() == ["finished"] * 2
            for each in (stage, neighbour):
                assert each.events("stray_cancelled") == []
                assert each.events("runner_adopted") == []
                assert each.events("unexpected_error") == []
        stage.ends_clean()
        assert stage.outcomes() == ["finished"]


class Neighbour(Scene):
    """Another installation on the same GitHub, with directories of its own."""

    def __init__(self, stage: Scene) -> None:
        super().__init__(stage.slurm, pools=[pool("other")])
        self._stage = stage

    def __enter__(self) -> Neighbour:
        self.github, self.url, self.slurm = self._stage.github, self._stage.url, self._stage.slurm
        self.limits, self.faults = self._stage.limits, self._stage.faults
        self.base = self._stage.base / "neighbour"
        self.node_dir = self._stage.node_dir
        self.runner_dir, self.token_file = self._stage.runner_dir, self._stage.token_file
        made = [str(path) for path in (self.base, self.state_dir, self.output_dir, self.handover_dir)]
        self.slurm.run("mkdir", "-m", "700", *made)
        self.port = free_port()
        self.write_config()
        self.start_service()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_service()
