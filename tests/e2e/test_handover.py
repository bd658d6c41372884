"""Configurations handed over on standard input, for nodes that cannot reach the service."""

from __future__ import annotations

from tests.e2e.scene import LONG, Scene, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm

STDIN = pool(handover="stdin")
# Nothing listens there: a node that tried to reach the service would fail.
UNREACHABLE = {"service": {"node_url": "http://127.0.0.1:9"}}


def test_a_workflow(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[STDIN], overrides=UNREACHABLE) as stage:
        run = stage.push(workflow(a=job("echo one"), b=job("false"), c=job("echo two", needs="a")))
        assert stage.until_completed(run) == {"a": "success", "b": "failure", "c": "success"}
        stage.ends_clean()
        assert stage.outcomes() == ["finished"] * 3
        assert set(stage.slurm_jobs().values()) == {"COMPLETED"}
        assert stage.events("claim_granted") == []


def test_the_configuration_is_private_while_its_runner_waits_and_gone_with_it(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[STDIN], overrides=UNREACHABLE) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job()))
        name = stage.until_pending()
        assert [runner.name for runner in stage.github.runners.values()] == [name]
        assert list(handed_over(stage).values()) == [0o600]
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.live_slurm_jobs(), 20, "it is withdrawn")
        stage.ends_clean()
        assert stage.outcomes() == ["withdrawn"]
        assert handed_over(stage) == {}


def test_a_refused_submission_leaves_neither_registration_nor_file(slurm: PrivateSlurm) -> None:
    pools = [pool(handover="stdin", slurm={"partition": "nowhere"})]
    with scene(slurm, pools=pools, overrides=UNREACHABLE) as stage:
        run = stage.push(workflow(a=job()))
        stage.until(lambda: stage.pool("small").failures, 20, "the refusal is shown")
        stage.github.cancel_run("lab/demo", run.id)
        stage.ends_clean()
        assert set(stage.outcomes()) == {"refused"}


def test_cancelled_in_slurm_while_pending(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[STDIN], overrides=UNREACHABLE) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job()))
        first = stage.until_pending()
        slurm.run("scancel", "--name", first)
        stage.empty_cluster()
        assert stage.until_completed(run) == {"a": "success"}, "another runner took it"
        stage.ends_clean()
        assert stage.outcomes() == ["cancelled in Slurm", "finished"], "and no third was made"


def test_cancelled_while_running(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[STDIN], overrides=UNREACHABLE) as stage:
        run = stage.push(workflow(a=job(LONG)))
        stage.until_running(run, "a")
        stage.github.cancel_run("lab/demo", run.id)
        assert stage.until_completed(run) == {"a": "cancelled"}
        stage.ends_clean()


def handed_over(stage: Scene) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in stage.handover_dir.iterdir()}
