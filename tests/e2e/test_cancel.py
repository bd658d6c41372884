"""Jobs cancelled on GitHub, at every moment of their runner's life: the allocation goes, and nothing else stays."""

from __future__ import annotations

from tests.e2e.scene import LONG, Gate, Sources, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm


def test_cancelled_while_its_runner_waits_in_slurm(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job(), b=job(labels=["self-hosted", "large"])))
        stage.until(lambda: list(stage.live_slurm_jobs().values()) == ["PENDING"] * 2, 20, "two pending Slurm jobs")
        waiting = stage.until(lambda: [j for j in stage.now().jobs if "Slurm:" in j.why], 20, "why they wait")
        assert waiting[0].why.startswith("its runner waits in Slurm: ")
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.live_slurm_jobs(), 20, "the Slurm jobs are withdrawn")
        stage.ends_clean()
        assert stage.outcomes() == ["withdrawn", "withdrawn"]
        assert all(record["minted_at"] is None for record in stage.records()), "no credential was ever made"
        assert set(stage.slurm_jobs().values()) == {"CANCELLED"}


def test_one_of_two_waiting_jobs_cancelled_leaves_the_other_its_runner(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job(), b=job()))
        stage.until(lambda: list(stage.live_slurm_jobs().values()) == ["PENDING"] * 2, 20, "two pending Slurm jobs")
        stage.github.cancel_job(stage.job(run, "a").id)
        stage.until(lambda: len(stage.live_slurm_jobs()) == 1, 20, "one Slurm job is withdrawn")
        stage.empty_cluster()
        assert stage.until_completed(run) == {"a": "cancelled", "b": "success"}
        stage.ends_clean()
        assert sorted(map(str, stage.outcomes())) == ["finished", "withdrawn"]


def test_a_runner_whose_job_vanished_just_before_it_started_is_told_so(slurm: PrivateSlurm, sources: Sources) -> None:
    # Withdrawal is put off for so long that only the claim can notice.
    with scene(slurm, sources=sources, overrides={"timeouts": {"withdraw_after": "300s"}}) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job()))
        name = stage.until_pending()
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.now().jobs, 20, "the service knows that the job is gone")
        assert stage.live_slurm_jobs() == {name: "PENDING"}
        stage.empty_cluster()
        stage.ends_clean()
        assert [event["runner"] for event in stage.events("demand_vanished")] == [name]
        # By itself, or cancelled: whichever is quicker.
        assert stage.slurm_jobs()[name] in ("COMPLETED", "CANCELLED")
        assert [record["minted_at"] for record in stage.records()] == [None]
        assert stage.pool("small").until is None, "that is nobody's fault"


def test_cancelled_while_running(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources) as stage:
        run = stage.push(workflow(a=job(LONG), after=job("echo never", needs="a")))
        running = stage.until_running(run, "a")
        stage.github.cancel_run("lab/demo", run.id)
        assert stage.until_completed(run) == {"a": "cancelled", "after": "skipped"}
        assert run.conclusion == "cancelled"
        stage.until(lambda: not stage.live_slurm_jobs(), 20, "the allocation is released")
        stage.ends_clean()
        assert [record["name"] for record in stage.records()] == [running.runner_name]
        assert stage.outcomes() == ["finished"]


def test_a_registered_runner_whose_job_was_cancelled_idles_out(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources, pools=[pool(idle_timeout="2s")]) as stage:
        gate = Gate(stage)
        run = stage.push(workflow(a=job()))
        stage.until(lambda: list(stage.github.runners.values()), 20, "the runner is registered")
        stage.github.cancel_run("lab/demo", run.id)
        gate.open()
        stage.until(lambda: stage.events("runner_withdrawn"), 30, "the idle runner is withdrawn")
        stage.ends_clean()
        (record,) = stage.records()
        assert record["outcome"] == "withdrawn"
        assert record["withdrawn_because"] == "idle for 2 s with no job to take"
        assert record["deregistered_at"] is not None, "deregistered first, by us"
        assert stage.slurm_jobs() == {record["name"]: "CANCELLED"}


def test_an_idle_runner_takes_the_next_job(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources) as stage:
        gate = Gate(stage)
        run = stage.push(workflow(a=job()))
        (runner,) = stage.until(lambda: list(stage.github.runners.values()), 20, "the runner is registered")
        stage.github.cancel_run("lab/demo", run.id)
        gate.open()
        stage.until(lambda: runner.online, 20, "the runner is online, and has no job")
        second = stage.push(workflow(b=job()))
        assert stage.until_completed(second) == {"b": "success"}
        stage.ends_clean()
        assert [record["name"] for record in stage.records()] == [runner.name], "no second runner was made"
