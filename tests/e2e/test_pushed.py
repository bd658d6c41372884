"""Demand that is pushed: a job runs without anything being polled, and how soon its Slurm job is accepted."""

from __future__ import annotations

import statistics
from datetime import datetime

from tests.e2e.scene import Scene, job, scene, workflow

from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.private_slurm import PrivateSlurm

LOUD = {"service": {"log_level": "debug"}}


def outcomes(stage: Scene) -> list[str]:
    return [line["outcome"] for line in stage.log_lines() if line.get("event") == "delivery_taken"]


def test_a_pushed_job_runs_and_its_slurm_job_is_accepted_at_once(slurm: PrivateSlurm) -> None:
    with scene(slurm, sources=("webhook",), overrides=LOUD) as stage:
        stage.faults.faults.append(Fault(FaultKind.LATENCY, route=r"^\w+ /(repos|orgs)/", seconds=0.08))
        waits = []
        for _ in range(8):
            run = stage.push(workflow(build=job("true")))
            assert stage.until_completed(run, 60) == {"build": "success"}
            pushed = stage.job(run, "build")
            submitted = [
                datetime.fromisoformat(line["time"]).timestamp()
                for line in stage.log_lines()
                if line.get("event") == "runner_submitted" and line.get("job_id") == pushed.id
            ]
            assert len(submitted) == 1, "one Slurm job for one job"
            waits.append(submitted[0] - pushed.queued_at)
        print(f"\nqueued to sbatch accepted: {[round(1000 * each) for each in waits]} ms")
        assert statistics.median(waits) < 0.5
        status = stage.status()
        assert status is not None
        assert status.scopes[0].sources == ("webhook",)
        assert status.scopes[0].last_delivery is not None
        stage.until(lambda: outcomes(stage).count("new") == 3 * 8, 10, "every delivery is taken")
        stage.ends_clean()


def test_what_was_delivered_to_nobody_is_asked_for_again(slurm: PrivateSlurm) -> None:
    """The endpoint is unreachable while a job is pushed; nothing polls; the history of deliveries brings it back."""
    overrides = {**LOUD, "webhook": {"catch_up_interval": "30s"}}
    with scene(slurm, sources=("webhook",), overrides=overrides) as stage:
        stage.until(lambda: stage.github.hooks.outbox.unfinished == 0, 10, "the ping is away")
        stage.github.hooks.weather.lost = 1.0
        run = stage.push(workflow(build=job("true")))
        stage.until(lambda: stage.github.hooks.outbox.unfinished == 0, 10, "the delivery is lost")
        stage.github.hooks.weather.lost = 0.0
        assert stage.until_completed(run, 90) == {"build": "success"}
        assert [line["missed"] for line in stage.log_lines() if line.get("event") == "deliveries_missed"] == [1]
        stage.ends_clean()


def test_a_kill_takes_no_delivery_back(slurm: PrivateSlurm) -> None:
    with scene(slurm, sources=("webhook",), overrides=LOUD) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(build=job("true")))
        stage.until(stage.live_slurm_jobs, 10, "the runner is submitted")
        stage.stop_service(9)
        stage.start_service()
        stage.empty_cluster()
        assert stage.until_completed(run, 60) == {"build": "success"}
        submissions = [line for line in stage.log_lines() if line.get("event") == "runner_submitted"]
        assert len(submissions) == 1
        stage.ends_clean()
