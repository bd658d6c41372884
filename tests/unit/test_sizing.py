"""What a runner asks of Slurm for a job with resource labels, and why no pool can have such a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.planner_worlds import NOW, SCOPE, job, policy, pool, runner, world

from slurm_gha.domain.pool import Bounds, GpuBound, Pool, SlurmRequest
from slurm_gha.planner.actions import Cause, Submit, Waiting
from slurm_gha.planner.plan import plan
from slurm_gha.planner.sizing import largest

BOUNDS = Bounds(
    cpus=16,
    memory_mb=64 * 1024,
    time_seconds=4 * 3600,
    nodes=4,
    gpus=(GpuBound(4, "A100"), GpuBound(2, "v100")),
    tmpdisk_mb=20 * 1024,
    least_seconds=60,
)
OWN = SlurmRequest(
    cpus=2, time_seconds=1800, partition="ci", memory_mb=4096, gres=("tmpdisk:4096", "gpu:A100:1", "license:1")
)

EIGHT = replace(OWN, cpus=8)


def big(bounds: Bounds | None = BOUNDS, **changes: Any) -> Pool:
    return replace(pool("big", "linux", "x64"), dynamic=bounds, request=OWN, **changes)


def submitted(*labels: str, pools: tuple[Pool, ...] = (big(),)) -> Submit:
    (action,) = plan(world(job(1, *labels)), policy(*pools), NOW).actions
    assert isinstance(action, Submit)
    return action


def obstacle(*labels: str, pools: tuple[Pool, ...] = (big(),)) -> Waiting:
    decided = plan(world(job(1, *labels)), policy(*pools), NOW)
    assert decided.actions == ()
    (waiting,) = decided.waiting
    assert waiting.unservable
    return waiting


def test_what_is_asked_takes_the_place_of_the_pool_s_own() -> None:
    submit = submitted(
        "linux",
        "slurm-cpus=8",
        "slurm-mem=32g",
        "slurm-time=2h",
        "slurm-nodes=4",
        "slurm-gpus=a100:2",
        "slurm-tmpdisk=20g",
    )
    assert submit.pool == "big"
    assert submit.request == SlurmRequest(
        cpus=8,
        time_seconds=7200,
        partition="ci",
        memory_mb=32 * 1024,
        gres=("license:1", "gpu:A100:2", "tmpdisk:20480"),
        nodes=4,
    )


def test_the_runner_has_the_pool_s_labels_and_exactly_the_job_s_resource_labels() -> None:
    assert submitted("linux", "slurm-cpus=8").labels == {"linux", "x64", "slurm-cpus=8"}
    assert submitted("slurm-cpus=8").labels == {"linux", "x64", "slurm-cpus=8"}


def test_what_is_not_asked_stays_as_it_is() -> None:
    assert submitted("linux", "slurm-cpus=8").request == replace(OWN, cpus=8)
    plain = submitted("linux")
    assert (plain.labels, plain.request) == (None, None)


def test_the_size_in_one_label_has_memory_for_each_cpu() -> None:
    request = submitted("slurm-runner-8cpu-4mempercpu-1:00:00time-16tmpdisk").request
    assert request is not None
    assert (request.cpus, request.memory_mb, request.time_seconds) == (8, 32 * 1024, 3600)
    assert "tmpdisk:16384" in request.gres


def test_memory_for_each_cpu_grows_with_the_cpus() -> None:
    growing = big(replace(BOUNDS, memory_per_cpu_mb=2048))
    request = submitted("linux", "slurm-cpus=8", pools=(growing,)).request
    assert request is not None
    assert request.memory_mb == 8 * 2048
    both = submitted("linux", "slurm-cpus=8", "slurm-mem=3g", pools=(growing,)).request
    assert both is not None
    assert both.memory_mb == 3072


def test_the_only_type_of_gpus_is_meant_where_none_is_named() -> None:
    one_type = big(replace(BOUNDS, gpus=(GpuBound(4, "A100"),)))
    request = submitted("slurm-gpus=2", pools=(one_type,)).request
    assert request is not None
    assert "gpu:A100:2" in request.gres
    untyped = big(replace(BOUNDS, gpus=(GpuBound(4),)))
    request = submitted("slurm-gpus=2", pools=(untyped,)).request
    assert request is not None
    assert "gpu:2" in request.gres
    assert "offers: any type" in obstacle("slurm-gpus=h100", pools=(untyped,)).reason


def test_a_label_that_a_pool_has_is_just_a_label() -> None:
    fixed = pool("fixed", "linux", "slurm-cpus=8")
    submit = submitted("linux", "slurm-cpus=8", pools=(big(), fixed))
    assert (submit.pool, submit.labels, submit.request) == ("fixed", None, None)
    odd = pool("odd", "linux", "slurm-cpu=8")
    assert submitted("linux", "slurm-cpu=8", pools=(big(), odd)).pool == "odd"


def test_the_first_pool_with_room_for_the_size_is_taken() -> None:
    little = replace(big(Bounds(cpus=4)), name="little")
    assert submitted("linux", "slurm-cpus=4", pools=(little, big())).pool == "little"
    assert submitted("linux", "slurm-cpus=8", pools=(little, big())).pool == "big"


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("slurm-cpus=64", "slurm-cpus=64 asks for 64 CPUs, and pool big allows at most 16 CPUs (max_cpus)"),
        ("slurm-mem=1t", "slurm-mem=1t asks for 1T of memory, and pool big allows at most 64G of memory (max_mem)"),
        ("slurm-time=1d", "slurm-time=1d asks for 1d, and pool big allows at most 4h (max_time)"),
        (
            "slurm-time=1m",
            "slurm-time=1m is too short for pool big: its runners are told to stop 1m before their limit",
        ),
        ("slurm-nodes=5", "slurm-nodes=5 asks for 5 nodes, and pool big allows at most 4 nodes (max_nodes)"),
        (
            "slurm-gpus=a100:8",
            "slurm-gpus=a100:8 asks for 8 GPUs of type A100, and pool big allows at most 4 GPUs of type A100 (gpus)",
        ),
        (
            "slurm-gpus=h100",
            "slurm-gpus=h100 names a type that pool big does not offer; pool big offers: A100, v100 (gpus)",
        ),
        ("slurm-gpus=1", "slurm-gpus=1 names no type; pool big offers: A100, v100 (gpus)"),
        (
            "slurm-tmpdisk=21g",
            "slurm-tmpdisk=21g asks for 21G of tmpdisk, and pool big allows at most 20G of tmpdisk (max_tmpdisk)",
        ),
        (
            "slurm-runner-16cpu-8mempercpu",
            "slurm-runner-16cpu-8mempercpu asks for 128G of memory, "
            "and pool big allows at most 64G of memory (max_mem)",
        ),
    ],
)
def test_a_job_out_of_bounds_names_label_bound_and_pool(label: str, said: str) -> None:
    waiting = obstacle("linux", label)
    assert (waiting.cause, waiting.reason) == (Cause.BOUNDS, said)


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("slurm-cpus=1", "max_cpus"),
        ("slurm-mem=1g", "max_mem"),
        ("slurm-time=1h", "max_time"),
        ("slurm-nodes=1", "max_nodes"),
        ("slurm-gpus=1", "gpus"),
        ("slurm-tmpdisk=1g", "max_tmpdisk"),
    ],
)
def test_what_has_no_bound_cannot_be_asked_for(label: str, key: str) -> None:
    assert obstacle("linux", label, pools=(big(Bounds()),)).reason == (
        f"pool big has no {key}, so {label} cannot be asked of it"
    )


def test_a_misspelt_label_is_named_and_no_pool_takes_the_job() -> None:
    waiting = obstacle("linux", "slurm-cpu=8")
    assert waiting.cause is Cause.MISSPELT
    assert waiting.reason == "slurm-cpu=8: there is no slurm-cpu; did you mean slurm-cpus?"
    assert obstacle("linux", "slurm-cpus=1", "slurm-cpus=2").cause is Cause.MISSPELT


def test_without_bounds_no_resource_can_be_asked_for() -> None:
    waiting = obstacle("linux", "slurm-cpus=1", pools=(big(None),))
    assert waiting.reason == "no pool lets jobs ask for resources by labels (slurm-cpus=1)"
    assert waiting.cause is Cause.LABELS


def test_the_other_labels_have_to_be_the_pool_s() -> None:
    waiting = obstacle("linux", "arm", "slurm-cpus=1", pools=(big(), pool("arm", "linux", "arm")))
    assert waiting.reason == (
        "no pool that takes slurm-cpus=1 has all of its other labels (the closest, big, lacks: arm)"
    )


def test_every_pool_that_is_too_small_is_named() -> None:
    little = replace(big(Bounds(cpus=4)), name="little")
    reason = obstacle("linux", "slurm-cpus=64", pools=(little, big())).reason
    assert "pool little allows at most 4 CPUs" in reason
    assert "pool big allows at most 16 CPUs" in reason


def test_a_plainer_job_may_have_a_runner_of_a_special_size() -> None:
    sized = runner("1", "RUNNING", "linux", "x64", "slurm-cpus=8", pool="big", online=True)
    decided = plan(world(job(1, "linux"), sized), policy(big()), NOW)
    assert decided.actions == ()
    assert decided.waiting[0].runner == sized.name
    both = plan(world(job(1, "linux"), job(2, "linux", "slurm-cpus=8"), sized), policy(big()), NOW)
    assert both.actions == (
        Submit("big", SCOPE, job(2, "linux", "slurm-cpus=8"), frozenset({"linux", "x64", "slurm-cpus=8"}), EIGHT),
    )


def test_the_largest_request_is_what_the_bounds_say_for_each_type_of_gpu() -> None:
    first, second = largest(big())
    assert first[0] == "16 CPUs, 64G of memory, 4h, 4 nodes, 20G of tmpdisk, 4 GPUs of type A100"
    assert (first[1].cpus, first[1].memory_mb, first[1].time_seconds, first[1].nodes) == (16, 65536, 14400, 4)
    assert set(first[1].gres) == {"license:1", "gpu:A100:4", "tmpdisk:20480"}
    assert "gpu:v100:2" in second[1].gres
    assert largest(big(None)) == ()
