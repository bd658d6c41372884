"""SIGHUP, SIGTERM, drain and resume: what an administrator does to a service that has runners."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace

from tests.e2e.scene import SMALL, CommandLog, Scene, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm

SMALL_POOL = pool("small")
LATE = pool("late")


def reload(stage: Scene) -> None:
    assert stage.service is not None
    stage.service.send_signal(signal.SIGHUP)


def until_logged(stage: Scene, kind: str, number: int = 1) -> None:
    stage.until(lambda: len(stage.events(kind)) == number, 20, f"{kind} is logged")


def cli(stage: Scene, command: str) -> subprocess.CompletedProcess[str]:
    """An administrator's command, as the service's user."""
    return stage.slurm.run(sys.executable, "-m", "slurm_gha", command, "--config", str(stage.config), check=False)


def until_late_is_unservable(stage: Scene) -> None:
    stage.until(lambda: [j for j in stage.now().jobs if j.unservable], 20, "no pool serves the job")


def test_a_new_pool_is_taken_over_and_an_old_one_changed(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[SMALL_POOL]) as stage:
        run = stage.push(workflow(a=job(labels=["self-hosted", "late"])))
        until_late_is_unservable(stage)
        stage.pools = [replace(SMALL_POOL, keys={"max_runners": 1}), LATE]
        stage.write_config()
        reload(stage)
        assert stage.until_completed(run) == {"a": "success"}
        stage.until(lambda: [p.name for p in stage.now().pools] == ["small", "late"], 20, "the status shows both pools")
        two = stage.push(workflow(b=job("sleep 2"), c=job("sleep 2")))
        stage.until(lambda: [j for j in stage.now().jobs if "limit of 1" in j.why], 20, "the new limit holds")
        most: list[int] = []

        def over() -> bool:
            # The runner of the other pool may still be ending.
            most.append(sum("-small-" in name for name in stage.live_slurm_jobs()))
            return two.status == "completed"

        stage.until(over, 60, "both are over")
        assert max(most) == 1
        stage.ends_clean()
        assert stage.outcomes() == ["finished"] * 3


def test_a_pool_that_is_gone_starts_nothing_more_and_ends_nothing(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[SMALL_POOL, LATE]) as stage:
        hold = stage.base / "hold"
        hold.touch()
        run = stage.push(workflow(a=job(f"while test -e {hold}; do sleep 0.1; done", labels=["self-hosted", "late"])))
        stage.until_running(run, "a")
        stage.pools = [SMALL_POOL]
        stage.write_config()
        reload(stage)
        until_logged(stage, "reloaded")
        second = stage.push(workflow(b=job(labels=["self-hosted", "late"]), c=job()))
        until_late_is_unservable(stage)
        stage.until(lambda: stage.job(second, "c").conclusion == "success", 30, "the other pool goes on")
        assert stage.job(run, "a").status == "in_progress"
        hold.unlink()
        assert stage.until_completed(run) == {"a": "success"}
        stage.github.cancel_run("lab/demo", second.id)
        stage.ends_clean()
        assert stage.outcomes() == ["finished"] * 2


def test_a_bad_file_changes_nothing(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[SMALL_POOL]) as stage:
        good = stage.config.read_text()
        for number, bad in enumerate((good.replace('"10m"', '"ten minutes"'), "[[pool", "", None), start=1):
            stage.config.unlink()
            if bad is not None:
                stage.config.write_text(bad)
            reload(stage)
            stage.until(lambda n=number: len(stage.events("unexpected_error")) == n, 20, "the mistake is told")
        told = [line["error"] for line in stage.events("unexpected_error")]
        assert f"{stage.config}:" in told[0]
        assert "ten minutes" in told[0]
        assert "No such file" in told[-1]
        run = stage.push(workflow(a=job()))
        assert stage.until_completed(run) == {"a": "success"}, "the old configuration is in force"
        stage.log.write_text("")  # those errors were expected
        stage.config.write_text(good)
        reload(stage)
        until_logged(stage, "reloaded")


def test_what_needs_a_restart_is_said(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[SMALL_POOL]) as stage:
        stage.overrides = {"poll": {"idle_interval": "3s"}}
        stage.pools = [SMALL_POOL, LATE]
        stage.write_config()
        reload(stage)
        until_logged(stage, "reload_incomplete")
        run = stage.push(workflow(a=job(labels=["self-hosted", "late"])))
        assert stage.until_completed(run) == {"a": "success"}, "pools were taken over all the same"


def test_a_stop_touches_no_running_job(slurm: PrivateSlurm) -> None:
    """Stopped, away for a while, started again: the job that ran through it all ends well, in its one Slurm job."""
    log = CommandLog(slurm)
    with scene(slurm, overrides=log.overrides) as stage:
        hold = stage.base / "hold"
        hold.touch()
        run = stage.push(workflow(a=job(f"while test -e {hold}; do sleep 0.1; done"), after=job(needs="a")))
        stage.until_running(run, "a")
        for number in (signal.SIGTERM, signal.SIGINT):
            assert stage.stop_service(number) == 0
            assert log.calls("scancel") == []
            time.sleep(1)
            assert list(stage.live_slurm_jobs().values()) == ["RUNNING"]
            assert stage.job(run, "a").status == "in_progress"
            stage.start_service()
        assert [line["reason"] for line in stage.events("service_stopped")] == ["SIGTERM", "SIGINT"]
        hold.unlink()
        assert stage.until_completed(run) == {"a": "success", "after": "success"}
        stage.ends_clean()
        assert stage.outcomes() == ["finished"] * 2
        assert (len(log.calls("sbatch")), log.calls("scancel")) == (2, [])


def test_drain_and_resume(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        hold = stage.base / "hold"
        hold.touch()
        run = stage.push(workflow(a=job(f"while test -e {hold}; do sleep 0.1; done")))
        stage.until_running(run, "a")
        assert cli(stage, "drain").returncode == 0
        second = stage.push(workflow(b=job(labels=SMALL)))
        stage.until(lambda: [j for j in stage.now().jobs if j.name == "b" and "drain" in j.why], 20, "it is said why")
        stage.stop_service()
        stage.start_service()
        hold.unlink()
        assert stage.until_completed(run) == {"a": "success"}, "what runs goes on"
        time.sleep(3)
        assert len(stage.records()) == 1, "a drain outlives a restart"
        assert stage.job(second, "b").status == "queued"
        assert cli(stage, "resume").returncode == 0
        assert stage.until_completed(second) == {"b": "success"}
        stage.ends_clean()
        assert stage.outcomes() == ["finished"] * 2
