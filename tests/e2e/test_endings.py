"""Slurm jobs that end otherwise than by their runner's own end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.scene import LONG, Gate, Scene, job, pool, scene, workflow

from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.private_slurm import PrivateSlurm

# GitHub's own patience with a runner that is gone without a word is minutes; these tests have seconds.
IMPATIENT = Behaviour(lease=8, session_timeout=4)


def test_time_limit(slurm: PrivateSlurm) -> None:
    brief = pool(slurm={"time": "1m"})
    # Slurm looks at time limits every half minute: the warning may come that much earlier.
    with scene(slurm, pools=[brief], overrides={"slurm": {"signal_before_end": "50s"}}) as stage:
        run = stage.push(workflow(a=job(LONG)))
        running = stage.until_running(run, "a")
        assert stage.until_completed(run, 90) == {"a": "cancelled"}, "GitHub hears of the end, and need not guess it"
        stage.ends_clean()
        name = str(running.runner_name)
        assert stage.slurm_jobs() == {name: "FAILED"}
        assert exit_code(stage, name) == "124:0"
        assert "stopped by SIGUSR1" in (stage.output_dir / f"{name}.log").read_text()
        assert stage.outcomes() == ["finished"]


def test_a_running_one_is_cancelled_in_slurm(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        run = stage.push(workflow(a=job(LONG)))
        running = stage.until_running(run, "a")
        slurm.run("scancel", "--name", str(running.runner_name))
        # scancel signals the step's own processes too: a step that dies of it first has failed. Neither is lost.
        assert stage.until_completed(run, 20)["a"] in ("cancelled", "failure"), "ended, not lost"
        stage.ends_clean()
        assert stage.slurm_jobs() == {running.runner_name: "CANCELLED"}
        assert stage.outcomes() == ["finished"]


def test_a_pending_one_is_cancelled_in_slurm_and_its_job_gets_another(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job()))
        first = stage.until_pending()
        slurm.run("scancel", "--name", first)
        stage.until(lambda: stage.pool("small").until, 20, "the pool backs off")
        assert "CANCELLED" in stage.pool("small").reason
        stage.empty_cluster()
        assert stage.until_completed(run) == {"a": "success"}
        stage.ends_clean()
        assert stage.outcomes() == ["cancelled in Slurm", "finished"]
        assert stage.pool("small").until is None


def test_node_failure_under_a_running_job(slurm: PrivateSlurm) -> None:
    with scene(slurm, behaviour=IMPATIENT) as stage:
        run = stage.push(workflow(a=job(LONG)))
        name = str(stage.until_running(run, "a").runner_name)
        fail_node_of(stage, name)
        stage.until_completed(run)
        stage.ends_clean()
        assert stage.slurm_jobs() == {name: "NODE_FAIL"}
        assert stage.outcomes() == ["node failure"]


def test_node_failure_before_the_runner_took_its_job(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        gate = Gate(stage)
        run = stage.push(workflow(a=job()))
        (lost,) = stage.until(lambda: list(stage.github.runners.values()), 20, "the runner is registered")
        fail_node_of(stage, lost.name)
        gate.open()
        assert stage.until_completed(run) == {"a": "success"}, "its job got another runner"
        stage.ends_clean()
        assert stage.outcomes() == ["node failure", "finished"]
        assert stage.job(run, "a").runner_name == stage.records()[1]["name"]
        assert lost.id not in stage.github.runners


def test_preemption(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[pool(slurm={"partition": "low"})], behaviour=IMPATIENT) as stage:
        run = stage.push(workflow(a=job(LONG)))
        name = str(stage.until_running(run, "a").runner_name)
        stage.fill_cluster()
        stage.until_completed(run)
        assert stage.slurm_jobs() == {name: "PREEMPTED"}
        stage.ends_clean()
        assert stage.outcomes() == ["preempted"]
        assert stage.pool("small").until is None, "not the pool's fault"


def test_held(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=job()))
        held = stage.until_pending()
        slurm.run("scontrol", "hold", stage.slurm_id(held))
        stage.until(lambda: stage.pool("small").until, 20, "the pool backs off")
        assert "held by Slurm: JobHeld" in stage.pool("small").reason
        stage.empty_cluster()
        assert stage.until_completed(run) == {"a": "success"}, "it did not wait for somebody to release the other"
        stage.ends_clean()
        first, second = stage.records()
        assert (first["name"], first["outcome"], second["outcome"]) == (held, "withdrawn", "finished")


def test_a_node_whose_prolog_fails(breakable: tuple[PrivateSlurm, Path]) -> None:
    cluster, flag = breakable
    with scene(cluster) as stage:
        flag.touch()
        run = stage.push(workflow(a=job()))
        stage.until(lambda: stage.pool("small").until, 30, "the pool backs off")
        flag.unlink()
        for node in cluster.node_names:
            cluster.resume(node)
        assert stage.until_completed(run) == {"a": "success"}
        stage.ends_clean()
        assert stage.outcomes()[-1] == "finished"
        assert set(stage.outcomes()[:-1]) == {"cancelled in Slurm"}, "what Slurm does to a job it may not requeue"


@pytest.fixture
def breakable() -> Iterator[tuple[PrivateSlurm, Path]]:
    """A cluster whose prologs fail while a file is there."""
    directory = Path(tempfile.mkdtemp(prefix="prolog-", dir="/tmp"))
    directory.chmod(0o755)
    prolog = directory / "prolog"
    prolog.write_text(f"#!/bin/sh\ntest ! -e {directory}/broken\n")
    prolog.chmod(0o755)
    try:
        with PrivateSlurm(nodes=2, cpus=4, message_timeout=2, slurm_conf=[f"Prolog={prolog}"]) as cluster:
            yield cluster, directory / "broken"
    finally:
        shutil.rmtree(directory)


def exit_code(stage: Scene, name: str) -> str:
    shown = stage.slurm.run("scontrol", "show", "job", stage.slurm_id(name)).stdout
    return next(word.partition("=")[2] for word in shown.split() if word.startswith("ExitCode="))


def fail_node_of(stage: Scene, name: str) -> None:
    """Mark the node under a Slurm job as down, then bring it back."""
    node = stage.slurm.run("squeue", "-h", "-o", "%N", "--name", name).stdout.strip()
    stage.slurm.node_down(node)
    stage.until(lambda: stage.slurm_jobs()[name] == "NODE_FAIL", 20, "the node has failed")
    stage.slurm.resume(node)
