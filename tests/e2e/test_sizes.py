"""Jobs that ask for a size by their labels, on a real Slurm: what they get, on how many nodes, with which GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.scene import Scene, job, pool, scene, workflow

from slurm_gha.testing.private_slurm import PrivateSlurm
from slurm_gha.testing.stage import StagePool

BOUNDS = {
    "max_cpus": 4,
    "max_mem": "2G",
    "max_time": "1h",
    "max_nodes": 2,
    "gpus": ["A100:2", "v100:1"],
    "max_tmpdisk": "4G",
}


@pytest.fixture(scope="module")
def slurm() -> Iterator[PrivateSlurm]:
    """Two nodes of four CPUs and three GPUs, no accounting database."""
    with PrivateSlurm(nodes=2, cpus=4, gpus={"A100": 2, "v100": 1}, message_timeout=2) as cluster:
        yield cluster


def sized(**keys: Any) -> StagePool:
    """A pool whose jobs may ask for a size."""
    return pool("sized", slurm={"gres": ["tmpdisk:100"]}, dynamic=BOUNDS, **keys)


def shown(stage: Scene, slurm_id: str) -> dict[str, str]:
    """What Slurm itself says of a job."""
    text = stage.slurm.run("scontrol", "show", "job", slurm_id).stdout
    return dict(re.findall(r"(\S+?)=(\S+)", text))


def test_a_step_reaches_every_node_by_srun(slurm: PrivateSlurm) -> None:
    step = (
        "srun bash -c 'echo \"here $SLURMD_NODENAME $SLURM_PROCID of $SLURM_NTASKS with $SLURM_CPUS_ON_NODE CPUs\"'; "
        "srun --ntasks=4 bash -c 'echo \"many $SLURMD_NODENAME.\"'"
    )
    labels = ["self-hosted", "slurm-nodes=2", "slurm-cpus=3"]
    with scene(slurm, pools=[sized()]) as stage:
        run = stage.push(workflow(wide=job(step, labels=labels)))
        assert stage.until_completed(run) == {"wide": "success"}
        log = stage.job(run, "wide").log
        assert sorted(re.findall(r"here (\S+) (\d) of 2 with 3 CPUs", log)) == [("n1", "0"), ("n2", "1")]
        assert sorted(re.findall(r"many (n\d)\.", log)) == ["n1", "n1", "n2", "n2"]
        assert "can't honor" not in log
        (record,) = stage.records()
        job_shown = shown(stage, str(record["slurm_id"]))
        assert (job_shown["NumNodes"], job_shown["NumCPUs"], job_shown["NodeList"]) == ("2", "6", "n[1-2]")


def test_a_pool_of_several_nodes_needs_no_label(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[pool("wide", slurm={"nodes": 2})]) as stage:
        run = stage.push(workflow(a=job("srun printenv SLURMD_NODENAME", labels=["self-hosted", "wide"])))
        assert stage.until_completed(run) == {"a": "success"}
        assert set(re.findall(r"\bn[12]\b", stage.job(run, "a").log)) == {"n1", "n2"}


def test_each_label_is_in_the_slurm_job_as_it_was_asked(slurm: PrivateSlurm) -> None:
    expected = {
        "slurm-cpus=3": {"CPUs/Task": "3", "NumCPUs": "3"},
        "slurm-mem=700m": {"MinMemoryNode": "700M"},
        "slurm-time=25m": {"TimeLimit": "00:25:00"},
        "slurm-nodes=2": {"NumNodes": "2"},
        "slurm-gpus=v100": {"TresPerNode": "gres:tmpdisk:100,gres:gpu:v100:1"},
        "slurm-gpus=a100:2": {"TresPerNode": "gres:tmpdisk:100,gres:gpu:A100:2"},
        "slurm-tmpdisk=3g": {"TresPerNode": "gres:tmpdisk:3072"},
        "slurm-runner-2cpu-1mempercpu-40:00time-1tmpdisk": {
            "NumCPUs": "2",
            "MinMemoryNode": "2G",
            "TimeLimit": "00:40:00",
            "TresPerNode": "gres:tmpdisk:1024",
        },
    }
    with scene(slurm, pools=[sized()]) as stage:
        jobs = {f"job{n}": job(labels=["self-hosted", "sized", label]) for n, label in enumerate(expected)}
        run = stage.push(workflow(**jobs))
        assert set(stage.until_completed(run, 90).values()) == {"success"}
        for number, (label, properties) in enumerate(expected.items()):
            name = stage.job(run, f"job{number}").runner_name
            job_shown = shown(stage, stage.slurm_id(str(name)))
            assert {key: job_shown[key] for key in properties} == properties, label


def test_jobs_see_their_own_gpus_and_no_others(slurm: PrivateSlurm) -> None:
    step = 'echo "mine ${CUDA_VISIBLE_DEVICES-none}."; srun bash -c \'echo "task $CUDA_VISIBLE_DEVICES."\'; sleep 4'
    labels = ["self-hosted", "slurm-gpus=a100"]
    # Both on one node, at the same time: each has one of its two.
    one_node = StagePool(
        "sized", ("self-hosted", "sized"), slurm={"extra": ["--nodelist=n1"]}, keys={"dynamic": BOUNDS}
    )
    with scene(slurm, pools=[one_node]) as stage:
        run = stage.push(workflow(a=job(step, labels=labels), b=job(step, labels=labels)))
        assert stage.until_completed(run) == {"a": "success", "b": "success"}
        (a, b) = stage.github.present_jobs(run)
        assert max(a.started_at or 0, b.started_at or 0) < min(a.completed_at or 0, b.completed_at or 0), "at once"
        seen = [re.findall(r"(?:mine|task) (\d|none)\.", each.log) for each in (a, b)]
        assert sorted(seen) == [["0", "0"], ["1", "1"]]
        bare = stage.push(workflow(c=job(step, labels=["self-hosted", "sized"])))
        assert stage.until_completed(bare) == {"c": "success"}
        assert "mine none." in stage.job(bare, "c").log


def test_what_is_out_of_bounds_or_misspelt_is_named_and_never_submitted(slurm: PrivateSlurm) -> None:
    wrong = {
        "large": ("slurm-cpus=64", "slurm-cpus=64 asks for 64 CPUs, and pool sized allows at most 4 CPUs (max_cpus)"),
        "odd": ("slurm-cpu=2", "slurm-cpu=2: there is no slurm-cpu; did you mean slurm-cpus?"),
        "hostile": ("slurm-gpus=a100:1 --wrap=reboot", "slurm-gpus=a100:1 --wrap=reboot: must be"),
    }
    with scene(slurm, pools=[sized()]) as stage:
        jobs = {key: job(labels=["self-hosted", label]) for key, (label, _) in wrong.items()}
        run = stage.push(workflow(fine=job(labels=["self-hosted", "slurm-cpus=2"]), **jobs))
        stage.until(lambda: stage.job(run, "fine").conclusion == "success", 30, "the other job is done")
        waiting = stage.until(
            lambda: len(found := {w.name: w.why for w in stage.now().jobs if w.unservable}) == 3 and found, 15, "shown"
        )
        for key, (_, said) in wrong.items():
            assert waiting[key].startswith(said)
        assert sorted(event["obstacle"] for event in stage.events("job_unservable")) == [
            "bounds",
            "misspelt",
            "misspelt",
        ]
        assert len(stage.records()) == 1
        assert len(stage.slurm_jobs()) == 1
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.now().jobs, 20, "they are shown no longer")
