"""Submissions that Slurm refuses: shown in its own words, tried again ever more rarely, and well once the cause is."""

from __future__ import annotations

from tests.e2e.scene import CommandLog, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm


def test_a_partition_that_does_not_exist_yet(slurm: PrivateSlurm) -> None:
    log = CommandLog(slurm)
    pools = [pool(slurm={"partition": "tomorrow"}), pool("large", cpus=2)]
    with scene(slurm, pools=pools, overrides=log.overrides) as stage:
        run = stage.push(workflow(a=job(), b=job(), c=job(), other=job(labels=["self-hosted", "large"])))
        stage.until(lambda: stage.job(run, "other").conclusion == "success", 30, "the other pool goes on")
        shown = stage.until(lambda: stage.pool("small").failures >= 2 and stage.pool("small"), 30, "a second refusal")
        assert "invalid partition specified: tomorrow" in shown.reason
        assert shown.until is not None
        assert all("tomorrow" in waiting.why for waiting in stage.until(lambda: stage.now().jobs, 5, "waiting jobs"))
        # Several rounds a second could have tried. At first three are submitted at once; from then on, one alone tries.
        assert len(stage.events("submission_refused")) <= 3 + 1
        times = log.calls("sbatch")
        assert len(times) <= 1 + 3 + 1
        assert times[-1] - times[-2] > 4, "the first back-off lasts 5 s"
        slurm.run("scontrol", "create", "partitionname=tomorrow", "nodes=ALL")
        try:
            assert set(stage.until_completed(run, 60).values()) == {"success"}
            stage.ends_clean()
        finally:
            slurm.run("scontrol", "delete", "partitionname=tomorrow", check=False)
        assert stage.pool("small").until is None
        assert stage.events("pool_recovered")
        assert stage.outcomes().count("finished") == 4


def test_a_constraint_that_no_node_has(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[pool(slurm={"constraint": "quantum"})]) as stage:
        run = stage.push(workflow(a=job()))
        stage.until(lambda: stage.pool("small").failures, 20, "the refusal is shown")
        assert "Invalid feature specification" in stage.pool("small").reason
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.now().jobs, 20, "the job is gone")
        stage.ends_clean()
        assert set(stage.outcomes()) == {"refused"}
        assert stage.slurm_jobs() == {}


def test_a_request_that_slurm_accepts_but_can_never_meet(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[pool(cpus=64)]) as stage:
        run = stage.push(workflow(a=job()))
        stage.until_pending()
        waiting = stage.until(lambda: [each for each in stage.now().jobs if "Slurm:" in each.why], 20, "why it waits")
        assert waiting[0].why == "its runner waits in Slurm: PartitionConfig"
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.live_slurm_jobs(), 20, "it is withdrawn")
        stage.ends_clean()
        assert stage.outcomes() == ["withdrawn"]
