"""The main way: a workflow file is pushed, and its jobs run as Slurm jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.e2e.scene import Sources, job, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm

WORKFLOW = """
name: CI
on: push
jobs:
  prepare:
    runs-on: [self-hosted, small]
    outputs:
      version: ${{ steps.find.outputs.version }}
    steps:
      - id: find
        run: echo "version=1.2.3" >>"$GITHUB_OUTPUT"
  build:
    needs: prepare
    runs-on: [self-hosted, large]
    strategy:
      fail-fast: false
      matrix:
        colour: [red, green, blue]
    steps:
      - run: echo "building ${{ needs.prepare.outputs.version }} in ${{ matrix.colour }}"
      - run: test ${{ matrix.colour }} != green
  allocation:
    runs-on: [Self-Hosted, SMALL]
    steps:
      - run: echo "in Slurm job $SLURM_JOB_ID named $SLURM_JOB_NAME on $SLURMD_NODENAME"
  publish:
    needs: build
    runs-on: [self-hosted, small]
    steps:
      - run: echo never
  mourn:
    needs: build
    if: ${{ always() }}
    runs-on: [self-hosted, small]
    steps:
      - run: echo "the builds were a ${{ needs.build.result }}"
"""


def test_a_whole_workflow(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources) as stage:
        before = content(stage.runner_dir)
        run = stage.push(WORKFLOW)
        assert stage.until_completed(run, 90) == {
            "prepare": "success",
            "build (red)": "success",
            "build (green)": "failure",
            "build (blue)": "success",
            "allocation": "success",
            "publish": "skipped",
            "mourn": "success",
        }
        assert run.conclusion == "failure"
        jobs = {each.name: each for each in stage.github.present_jobs(run)}
        assert "building 1.2.3 in green" in jobs["build (green)"].log
        assert "the builds were a failure" in jobs["mourn"].log
        stage.ends_clean()

        ran = [each for each in jobs.values() if each.conclusion != "skipped"]
        runners = [each.runner_name for each in ran]
        assert len(set(runners)) == len(ran)
        assert stage.slurm_jobs() == dict.fromkeys(runners, "COMPLETED")
        assert stage.outcomes() == ["finished"] * len(ran)
        allocation = jobs["allocation"]
        assert f"in Slurm job {stage.slurm_id(str(allocation.runner_name))} named " in allocation.log
        assert content(stage.runner_dir) == before, "the runner's directory is only ever read"

        record = next(r for r in stage.records() if r["name"] == jobs["build (red)"].runner_name)
        listing = ("squeue", "-h", "-t", "all", "-j", str(record["slurm_id"]), "-o", "%C|%m|%k")
        cpus, memory, comment = slurm.run(*listing).stdout.strip().split("|", 2)
        assert (cpus, memory) == ("2", "400M")
        told = json.loads(comment)
        assert told["installation"] == stage.installation
        assert (told["pool"], told["scope"], told["repository"]) == ("large", "lab", "lab/demo")


def test_a_job_that_no_pool_can_take_is_named_once_and_holds_up_nobody(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources) as stage:
        run = stage.push(workflow(able=job(), unable=job(labels=["self-hosted", "gpu"])))
        stage.until(lambda: stage.job(run, "able").conclusion == "success", 30, "the other job is done")
        if sources == ("scaleset",):
            # GitHub tells a scale set of its own jobs alone.
            stage.until(lambda: not stage.now().jobs, 20, "nothing else is known")
            stage.github.cancel_run("lab/demo", run.id)
            return
        waiting = stage.until(lambda: [j for j in stage.now().jobs if j.unservable], 10, "it is shown")
        assert [each.name for each in waiting] == ["unable"]
        assert waiting[0].why.endswith("lacks: gpu)")
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.now().jobs, 20, "it is shown no longer")
        assert len(stage.events("job_unservable")) == 1
        assert len(stage.records()) == 1


def test_several_repositories_at_once(slurm: PrivateSlurm, sources: Sources) -> None:
    names = ("one", "two", "three")
    with scene(slurm, sources=sources, repositories=[f"lab/{name}" for name in names]) as stage:
        runs = [stage.push(workflow(a=job(f"echo from {name}")), f"lab/{name}") for name in names]
        for run in runs:
            assert stage.until_completed(run) == {"a": "success"}
            name = run.repository.full_name
            assert f"from {name.partition('/')[2]}" in stage.job(run, "a").log
        stage.ends_clean()
        # For which repository a runner was made is a hint: news of the jobs may come in any order.
        assert {r["repository"] for r in stage.records()} <= {"lab/one", "lab/three", "lab/two"}
        assert len(stage.records()) == 3


def content(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below, with its mode and what it holds."""
    paths = (Path(place) / name for place, _, names in os.walk(directory) for name in names)
    return {str(path): (path.stat().st_mode, path.read_bytes()) for path in paths}
