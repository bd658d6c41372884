"""Resource labels: what each says, and what is said of those that are wrong."""

from __future__ import annotations

import pytest

from slurm_gha.domain.resources import Ask, Resource, is_meant, read


def asks(*labels: str) -> dict[str, int | tuple[int, str]]:
    """What labels without a mistake ask for, by resource."""
    reading = read(labels)
    assert reading.mistakes == ()
    assert reading.labels == frozenset(labels)
    return {ask.resource.value: (ask.amount, ask.type) if ask.type else ask.amount for ask in reading.asks}


@pytest.mark.parametrize(
    ("label", "asked"),
    [
        ("slurm-cpus=8", {"cpus": 8}),
        ("slurm-mem=32g", {"mem": 32 * 1024}),
        ("slurm-mem=1500m", {"mem": 1500}),
        ("slurm-time=2h", {"time": 7200}),
        ("slurm-time=1h30m", {"time": 5400}),
        ("slurm-time=1:30:00", {"time": 5400}),
        ("slurm-time=2-00:00", {"time": 2 * 86400}),
        ("slurm-nodes=4", {"nodes": 4}),
        ("slurm-gpus=2", {"gpus": 2}),
        ("slurm-gpus=a100", {"gpus": (1, "a100")}),
        ("slurm-gpus=a100:2", {"gpus": (2, "a100")}),
        ("slurm-tmpdisk=20g", {"tmpdisk": 20 * 1024}),
    ],
)
def test_a_label_asks_for_one_resource(label: str, asked: dict[str, int]) -> None:
    assert asks(label) == asked


@pytest.mark.parametrize(
    ("label", "asked"),
    [
        ("slurm-runner-4cpu-2mempercpu", {"cpus": 4, "mempercpu": 2048}),
        ("slurm-runner-4cpu-2mempercpu-30:00time", {"cpus": 4, "mempercpu": 2048, "time": 1800}),
        ("slurm-runner-4cpu-2mempercpu-01:00:00time", {"cpus": 4, "mempercpu": 2048, "time": 3600}),
        ("slurm-runner-4cpu-2mempercpu-90time", {"cpus": 4, "mempercpu": 2048, "time": 5400}),
        ("slurm-runner-4cpu-2mempercpu-16tmpdisk", {"cpus": 4, "mempercpu": 2048, "tmpdisk": 16384}),
        (
            "slurm-runner-16cpu-4mempercpu-30:00time-16tmpdisk",
            {"cpus": 16, "mempercpu": 4096, "time": 1800, "tmpdisk": 16384},
        ),
    ],
)
def test_one_label_may_ask_for_a_whole_size(label: str, asked: dict[str, int]) -> None:
    assert asks(label) == asked


def test_labels_of_several_resources_are_read_together() -> None:
    reading = read({"self-hosted", "slurm-cpus=8", "slurm-gpus=a100:2", "big"})
    assert reading.asks == (
        Ask("slurm-cpus=8", Resource.CPUS, 8),
        Ask("slurm-gpus=a100:2", Resource.GPUS, 2, "a100"),
    )
    assert reading.labels == {"slurm-cpus=8", "slurm-gpus=a100:2"}


@pytest.mark.parametrize(
    "label", ["self-hosted", "slurm", "slurm-runner-small", "slurm-cluster", "slurm-runner-2xlarge", "cpus=8", "", "="]
)
def test_other_labels_are_not_meant_as_resources(label: str) -> None:
    assert not is_meant(label)
    assert read([label]) == read([])


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("slurm-cpu=8", "slurm-cpu=8: there is no slurm-cpu; did you mean slurm-cpus?"),
        ("slurm_cpus=8", "slurm_cpus=8: there is no slurm_cpus; did you mean slurm-cpus?"),
        ("slurm-memory=8g", "slurm-memory=8g: there is no slurm-memory; did you mean slurm-mem?"),
        ("slurm-gpu=1", "slurm-gpu=1: there is no slurm-gpu; did you mean slurm-gpus?"),
        ("slurm-walltime=1h", "slurm-walltime=1h: there is no slurm-walltime; did you mean slurm-time?"),
        (
            "slurm-partition=ci",
            "slurm-partition=ci: there is no slurm-partition; "
            "there is slurm-cpus, slurm-mem, slurm-time, slurm-nodes, slurm-gpus, slurm-tmpdisk",
        ),
        ("slurm-cpus=x", "slurm-cpus=x is no whole number"),
        ("slurm-cpus=8.5", "slurm-cpus=8.5 is no whole number"),
        ("slurm-cpus=-1", "slurm-cpus=-1 is no whole number"),
        ("slurm-cpus=\u0663", "slurm-cpus=\u0663 is no whole number"),
        ("slurm-cpus=0", "slurm-cpus=0 asks for nothing; the least is 1"),
        ("slurm-cpus=99999999", "slurm-cpus=99999999 is too large"),
        ("slurm-cpus=", "slurm-cpus= has no value; it is written as slurm-cpus=8"),
        ("slurm-cpus", "slurm-cpus has no value; it is written as slurm-cpus=8"),
        ("slurm-cpus:8", 'slurm-cpus:8: a resource is written with "=", as in slurm-cpus=8'),
        (
            "slurm-mem=32",
            'slurm-mem=32: must be a whole number with K, M, G or T, such as "512M" or "2G"',
        ),
        ("slurm-time=30s", 'slurm-time=30s: must be from "1m" to "366d"; Slurm counts in minutes'),
        (
            "slurm-gpus=a100,v100",
            'slurm-gpus=a100,v100: must be a number of GPUs such as "2", or a type of GPUs such as "a100:2"',
        ),
        ("slurm-gpus=a100:0", "slurm-gpus=a100:0 asks for nothing; the least is 1"),
        (
            "slurm-runner-4cpus-2mempercpu",
            "slurm-runner-4cpus-2mempercpu is no size of the form "
            "slurm-runner-<CPUs>cpu-<GiB>mempercpu[-<time>time][-<GiB>tmpdisk]",
        ),
        ("slurm-cpus=8\nrm -rf", "slurm-cpus=8?rm -rf is no whole number"),
    ],
)
def test_what_is_wrong_is_said_precisely(label: str, said: str) -> None:
    assert read(["self-hosted", label]).mistakes == (said,)
    assert read(["self-hosted", label]).labels == {label}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("slurm-cpus=4", "slurm-cpus=8"), "cpus is asked for twice, by slurm-cpus=4 and by slurm-cpus=8"),
        (("slurm-mem=1g", "slurm-mem=1024m"), "mem is asked for twice, by slurm-mem=1024m and by slurm-mem=1g"),
        (
            ("slurm-mem=8g", "slurm-runner-4cpu-2mempercpu"),
            "mem is asked for twice, by slurm-mem=8g and by slurm-runner-4cpu-2mempercpu",
        ),
        (("slurm-gpus=a100", "slurm-gpus=v100"), "gpus is asked for twice, by slurm-gpus=a100 and by slurm-gpus=v100"),
    ],
)
def test_a_resource_that_is_asked_for_twice_is_said_not_guessed(labels: tuple[str, ...], said: str) -> None:
    assert read(labels).mistakes == (said,)
