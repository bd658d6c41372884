"""With slurmdbd and without: what became of a Slurm job that the listing no longer shows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.scene import CommandLog, Scene, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm


@pytest.fixture(scope="module")
def accounted() -> Iterator[PrivateSlurm]:
    """slurmdbd with its limits enforced; slurmctld forgets ended jobs after 2 s."""
    with PrivateSlurm(nodes=2, cpus=4, accounting=True, min_job_age=2, message_timeout=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def forgetful() -> Iterator[PrivateSlurm]:
    """No accounting at all; slurmctld forgets ended jobs after 2 s."""
    with PrivateSlurm(nodes=2, cpus=4, min_job_age=2, message_timeout=2) as cluster:
        yield cluster


def test_the_main_way_is_in_the_accounts(accounted: PrivateSlurm) -> None:
    charged = pool(slurm={"account": "ci", "qos": "normal"})
    with scene(accounted, pools=[charged]) as stage:
        run = stage.push(workflow(a=job(), b=job("false")))
        assert stage.until_completed(run) == {"a": "success", "b": "failure"}
        stage.ends_clean()
        assert stage.outcomes() == ["finished"] * 2
        fields = ("sacct", "-n", "-P", "-X", "--format=JobName,Account,QOS,State,Comment")
        lines = [line.split("|", 4) for line in accounted.run(*fields).stdout.splitlines()]
        ours = {line[0]: line for line in lines if line[0] in {r["name"] for r in stage.records()}}
        assert {tuple(line[1:4]) for line in ours.values()} == {("ci", "normal", "COMPLETED")}
        told = [json.loads(line[4]) for line in ours.values()]
        assert {each["job"] for each in told} == {j.id for j in stage.github.present_jobs(run)}
        assert {each["repository"] for each in told} == {"lab/demo"}


def test_an_end_that_the_service_missed_is_learnt_from_the_accounts(accounted: PrivateSlurm) -> None:
    log = CommandLog(accounted)
    with scene(accounted, overrides=log.overrides) as stage:
        name = end_unseen(stage)
        stage.start_service()
        stage.ends_clean()
        assert len(log.calls("sacct")) == 1
        (record,) = stage.records()
        assert (record["name"], record["outcome"]) == (name, "finished")
        assert "COMPLETED" in record["detail"]


def test_an_end_that_the_service_missed_without_accounts(forgetful: PrivateSlurm) -> None:
    with scene(forgetful) as stage:
        name = end_unseen(stage)
        stage.start_service()
        stage.ends_clean()
        (record,) = stage.records()
        assert (record["name"], record["outcome"]) == (name, "finished")
        assert "GONE" in record["detail"]


def test_jobs_go_on_without_a_database_that_was_there(accounted: PrivateSlurm) -> None:
    accounted.stop_accounting()
    try:
        with scene(accounted) as stage:
            run = stage.push(workflow(a=job(), b=job(needs="a")))
            assert stage.until_completed(run) == {"a": "success", "b": "success"}
            stage.ends_clean()
            assert stage.outcomes() == ["finished"] * 2
    finally:
        accounted.start_accounting()


def test_a_limit_of_the_quality_of_service(accounted: PrivateSlurm) -> None:
    """One submitted job at a time: the others are refused, shown, and tried again until all have run."""
    with scene(accounted, pools=[pool(slurm={"qos": "tight"})]) as stage:
        run = stage.push(workflow(a=job(), b=job()))
        stage.until(lambda: stage.pool("small").failures, 20, "a refusal is shown")
        assert "QOSMaxSubmitJobPerUserLimit" in stage.pool("small").reason
        assert stage.until_completed(run, 60) == {"a": "success", "b": "success"}
        stage.ends_clean()
        assert stage.outcomes().count("finished") == 2
        assert stage.pool("small").until is None


def test_an_account_that_does_not_exist_yet(accounted: PrivateSlurm) -> None:
    with scene(accounted, pools=[pool(slurm={"account": "physics"})]) as stage:
        run = stage.push(workflow(a=job()))
        stage.until(lambda: stage.pool("small").failures, 20, "the refusal is shown")
        assert "Invalid account or account/partition combination specified" in stage.pool("small").reason
        accounted.run("sacctmgr", "-i", "add", "account", "physics", f"cluster={accounted.cluster_name}")
        accounted.run("sacctmgr", "-i", "add", "user", accounted.user, "account=physics")
        assert stage.until_completed(run) == {"a": "success"}
        stage.ends_clean()
        assert stage.outcomes()[-1] == "finished"


def end_unseen(stage: Scene) -> str:
    """A job that ends, and is forgotten by slurmctld, while the service is away; its runner's name."""
    hold = stage.base / "hold"
    hold.touch()
    run = stage.push(workflow(a=job(f"while test -e {hold}; do sleep 0.2; done")))
    name = str(stage.until_running(run, "a").runner_name)
    stage.stop_service()
    hold.unlink()
    assert stage.until_completed(run) == {"a": "success"}
    stage.until(lambda: name not in stage.slurm_jobs(), 90, "slurmctld has forgotten it")
    return name
