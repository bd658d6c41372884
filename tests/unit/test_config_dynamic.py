"""``[pool.dynamic]``: the bounds as the planner gets them, and what is refused."""

from __future__ import annotations

import pytest
from tests.unit.test_config_loading import VALID, complaints

from slurm_gha.config.loading import examine_text
from slurm_gha.domain.pool import Bounds, GpuBound, Pool

DYNAMIC = """\
[pool.dynamic]
max_cpus = 16
max_mem = "64G"
max_time = "4h"
max_nodes = 4
gpus = ["1", "A100:4", "v100:2"]
max_tmpdisk = "20G"
"""
FIRST = len(VALID.splitlines()) + 1


def pool(text: str) -> Pool:
    examined = examine_text(text, "c.toml")
    assert examined.mistakes == ()
    assert examined.settings is not None
    return examined.settings.policy().pools[0]


def test_the_bounds_in_the_domain_s_words() -> None:
    assert pool(VALID).dynamic is None
    assert pool(VALID + DYNAMIC).dynamic == Bounds(
        cpus=16,
        memory_mb=64 * 1024,
        time_seconds=4 * 3600,
        nodes=4,
        gpus=(GpuBound(1), GpuBound(4, "A100"), GpuBound(2, "v100")),
        tmpdisk_mb=20 * 1024,
        memory_per_cpu_mb=2048,
        least_seconds=60,
    )
    assert pool(VALID + "[pool.dynamic]\n").dynamic == Bounds(memory_per_cpu_mb=2048, least_seconds=60)


def test_gpus_may_be_one_text() -> None:
    bounds = pool(VALID.replace("gpu:1,", "") + '[pool.dynamic]\ngpus = "a100:4,v100:2"\n').dynamic
    assert bounds is not None
    assert bounds.gpus == (GpuBound(4, "a100"), GpuBound(2, "v100"))


def test_the_nodes_of_a_pool() -> None:
    assert pool(VALID).request.nodes == 1
    assert pool(VALID.replace("cpus = 2", "cpus = 2\nnodes = 3")).request.nodes == 3


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("max_cpus = 16", "max_cpus = 1", 1, "max_cpus: must not be below cpus in [pool.slurm] (2)"),
        ("max_cpus = 16", "max_cpu = 16", 1, 'max_cpu: is not a known key; did you mean "max_cpus"?'),
        ('"64G"', '"16G"', 2, "max_mem: must not be below mem_per_cpu for 16 CPUs (32G)"),
        ('"4h"', '"10m"', 3, "max_time: must not be below time in [pool.slurm] (30m)"),
        ('"4h"', "4", 3, "max_time: must be a time limit"),
        ('"1", ', "", 5, "gpus: must not be below gres in [pool.slurm] (gpu:1)"),
        ('"v100:2"', '"a100:2"', 5, 'gpus: has the type "a100" twice (case does not matter in labels)'),
        ('"v100:2"', '"v100"', 5, 'gpus[3]: must be a type of GPUs and their most, such as "a100:4"'),
        ('"v100:2"', '"v100:0"', 5, "gpus[3]: must be a type of GPUs"),
        ('"20G"', '"4000M"', 6, "max_tmpdisk: must not be below gres in [pool.slurm] (tmpdisk:4096)"),
    ],
)
def test_a_mistake_has_its_line(old: str, new: str, line: int, said: str) -> None:
    assert old in DYNAMIC
    found = complaints(VALID + DYNAMIC.replace(old, new))
    assert len(found) == 1, found
    assert found[0].startswith(f"c.toml:{FIRST + line}: pool[small].dynamic.{said}")


def test_the_pool_s_own_memory_is_a_bound_s_least() -> None:
    (found,) = complaints(VALID.replace('mem_per_cpu = "2G"', 'mem = "128G"') + DYNAMIC)
    assert found.endswith("dynamic.max_mem: must not be below mem in [pool.slurm] (128G)")


def test_tmpdisk_is_counted_in_megabytes() -> None:
    (found,) = complaints(VALID.replace("tmpdisk:4096", "tmpdisk:4G") + DYNAMIC)
    assert 'dynamic.max_tmpdisk: needs tmpdisk to be counted in MB, as in gres = "tmpdisk:4096"' in found


def test_nodes_beside_the_first_are_for_the_host_launcher() -> None:
    contained = VALID.replace('runner_dir = "/opt/runner"', 'launcher = "docker"\nimage = "runner"')
    (found,) = complaints(contained + DYNAMIC)
    assert 'dynamic.max_nodes: must be 1 with launcher = "docker"' in found
    (found,) = complaints(contained.replace("cpus = 2", "cpus = 2\nnodes = 2"))
    assert 'slurm.nodes: must be 1 with launcher = "docker"' in found
    assert complaints(contained + DYNAMIC.replace("max_nodes = 4\n", "")) == []


@pytest.mark.parametrize("option", ["--gpus=a100:1", "--gpus-per-node=1", "--mem-per-gpu=16G"])
def test_options_that_say_the_same_are_refused(option: str) -> None:
    (found,) = complaints(VALID.replace('"--nice=100"', f'"{option}"') + DYNAMIC)
    assert f"cannot be beside {option.split('=')[0]} in extra of [pool.slurm]" in found


def test_labels_of_jobs_need_room_beside_the_pool_s() -> None:
    many = ", ".join(f'"l{number}"' for number in range(98))
    (found,) = complaints(VALID.replace('["Self-Hosted", "small"]', f"[{many}]") + DYNAMIC)
    assert "pool[small].labels: must be at most 93 with [pool.dynamic]" in found
