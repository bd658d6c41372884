"""slurmctld stopped and started: what cannot be seen is not gone."""

from __future__ import annotations

import time

from tests.e2e.scene import job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm


def test_stopped_while_jobs_run_and_wait(slurm: PrivateSlurm) -> None:
    # One runner at a time fits the partition's node, so that the second waits in Slurm.
    with scene(slurm, pools=[pool(slurm={"extra": ["--exclusive"]}, max_runners=10)]) as stage:
        hold = stage.base / "hold"
        hold.touch()
        waiting = f"while test -e {hold}; do sleep 0.2; done"
        run = stage.push(workflow(a=job(waiting), b=job(waiting), c=job()))
        stage.until(lambda: sorted(stage.live_slurm_jobs().values()) == ["PENDING", "RUNNING", "RUNNING"], 20, "3 jobs")
        stage.until(lambda: sum(j.status == "in_progress" for j in stage.github.jobs.values()) == 2, 30, "2 are busy")
        before = stage.live_slurm_jobs()
        slurm.stop_controller()
        try:
            stage.until(lambda: not stage.now().slurm.readable, 30, "the service sees that it cannot see")
            late = stage.push(workflow(d=job()))
            known = stage.until(lambda: [j for j in stage.now().jobs if j.name == "d"], 20, "the new job is seen")
            assert known[0].why == "Slurm cannot be read: no new runner is started until it can"
            stage.github.cancel_job(stage.job(run, "c").id)
            stage.until(lambda: "c" not in [j.name for j in stage.now().jobs], 20, "the cancellation is seen")
            time.sleep(3)  # withdraw_after is over
            assert stage.outcomes() == [None, None, None], "nothing is closed, nothing new is intended"
            assert all(record["withdrawn_at"] is None for record in stage.records())
        finally:
            slurm.start_controller()
        stage.until(lambda: stage.now().slurm.readable, 20, "it sees again")
        assert before.keys() <= stage.slurm_jobs().keys()
        hold.unlink()
        assert stage.until_completed(late, 60) == {"d": "success"}
        assert stage.until_completed(run) == {"a": "success", "b": "success", "c": "cancelled"}
        stage.ends_clean()
        assert stage.outcomes().count("finished") == 3


def test_killed_while_a_job_runs_to_its_end(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        hold = stage.base / "hold"
        hold.touch()
        run = stage.push(workflow(a=job(f"while test -e {hold}; do sleep 0.2; done")))
        stage.until_running(run, "a")
        slurm.kill_controller()
        try:
            stage.until(lambda: not stage.now().slurm.readable, 30, "the service sees that it cannot see")
            hold.unlink()
            assert stage.until_completed(run) == {"a": "success"}, "the runner needs no slurmctld"
        finally:
            slurm.start_controller()
        stage.ends_clean()
        assert stage.outcomes() == ["finished"], "whatever the new slurmctld makes of a job that ended without it"
