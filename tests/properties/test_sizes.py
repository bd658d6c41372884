"""Whatever labels a job has: what is asked of Slurm is within bounds, and made of numbers and configured names."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import event, given
from hypothesis import strategies as st

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import normalise, satisfies
from slurm_gha.domain.pool import Bounds, GpuBound, Policy, Pool, SlurmRequest
from slurm_gha.domain.resources import is_meant, read
from slurm_gha.domain.submission import Submission
from slurm_gha.planner.serving import Option, Serving
from slurm_gha.planner.sizing import largest
from slurm_gha.slurm import commands

KEYS = ("cpus", "mem", "time", "nodes", "gpus", "tmpdisk", "cpu", "memory", "partition")
TYPES = ("A100", "v100", "")

amounts = st.integers(0, 200).map(str)
values = st.one_of(
    amounts,
    st.builds("{}{}".format, amounts, st.sampled_from("kKmMgGtThd")),
    st.builds("{}:{}".format, st.sampled_from(("a100", "V100", "h100")), amounts),
    st.sampled_from(("a100", "1:00:00", "2-00:00", "1h30m")),
    st.text(max_size=12),
    st.sampled_from(
        ("8 --wrap=reboot", "1\n#SBATCH --uid=0", "1,gpu:9", "$(id)", "1;id", "-1", "1e3", "a100:1:2", "\0")
    ),
)
labels = st.one_of(
    st.sampled_from(("linux", "x64", "arm", "slurm-runner-small")),
    st.builds("slurm-{}={}".format, st.sampled_from(KEYS), values),
    st.builds(
        "slurm-runner-{}cpu-{}mempercpu{}{}".format,
        st.integers(0, 40),
        st.integers(0, 10),
        st.sampled_from(("", "-30:00time", "-90time", "-1time", "-:time")),
        st.sampled_from(("", "-16tmpdisk", "-999999tmpdisk", "-xtmpdisk")),
    ),
    st.text(max_size=20).map("slurm-".__add__),
    st.text(max_size=20),
)
bounds = st.builds(
    Bounds,
    cpus=st.none() | st.integers(2, 64),
    memory_mb=st.none() | st.integers(2**17, 2**20),
    time_seconds=st.none() | st.integers(3600, 86400),
    nodes=st.none() | st.integers(1, 8),
    gpus=st.lists(
        st.builds(GpuBound, st.integers(1, 8), st.sampled_from(TYPES)), unique_by=lambda bound: bound.type, max_size=3
    ).map(tuple),
    tmpdisk_mb=st.none() | st.integers(1024, 2**20),
    memory_per_cpu_mb=st.none() | st.integers(512, 2048),
    least_seconds=st.sampled_from((0, 60, 300)),
)
OWN = SlurmRequest(2, 1800, partition="ci", memory_mb=2048, gres=("gpu:A100:1", "tmpdisk:512", "license:2"))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """One to three pools, with and without bounds; some have a label that looks like a resource."""
    pools = []
    for number in range(draw(st.integers(1, 3))):
        own = draw(st.sampled_from((frozenset({"linux", "x64"}), frozenset({"linux"}), frozenset({"slurm-cpus=4"}))))
        dynamic = draw(st.none() | bounds)
        pools.append(Pool(f"p{number}", frozenset({"s"}), own, OWN, "/opt/runner", dynamic=dynamic))
    return Policy("abc", tuple(pools))


def options(policy: Policy, wanted: list[str]) -> tuple[Job, tuple[Option, ...], Serving]:
    job = Job(1, "s", "o/r", 1, 1, "a", "ci", normalise(wanted), JobStatus.QUEUED, 0.0)
    serving = Serving(policy)
    return job, serving.options(job), serving


@given(policies(), st.lists(labels, min_size=1, max_size=5))
def test_every_request_is_within_its_pool_s_bounds(policy: Policy, wanted: list[str]) -> None:
    _, found, _ = options(policy, wanted)
    for option in found:
        most, request = option.pool.dynamic, option.request
        if request == option.pool.request or most is None:
            assert request == OWN
            continue
        event("sized")
        assert request.cpus == OWN.cpus or 1 <= request.cpus <= (most.cpus or 0)
        grown = None if most.memory_per_cpu_mb is None else most.memory_per_cpu_mb * request.cpus
        assert request.memory_mb in (OWN.memory_mb, grown) or 1 <= (request.memory_mb or 0) <= (most.memory_mb or 0)
        assert request.time_seconds == OWN.time_seconds or (
            most.least_seconds < request.time_seconds <= (most.time_seconds or 0)
        )
        assert request.nodes == 1 or 1 <= request.nodes <= (most.nodes or 0)
        limits = {f"gpu:{bound.type}".rstrip(":"): bound.count for bound in most.gpus}
        for gres in set(request.gres) - set(OWN.gres):
            name, count = gres.rsplit(":", 1)
            assert 1 <= int(count) <= (most.tmpdisk_mb or 0 if name == "tmpdisk" else limits[name])
        assert len({gres.split(":")[0] for gres in request.gres}) == len(request.gres), "each gres once"
        rest = {"cpus": 2, "time_seconds": 1800, "memory_mb": 2048, "gres": OWN.gres, "nodes": 1}
        assert replace(request, **rest) == OWN, "nothing else is changed"


@given(policies(), st.lists(labels, min_size=1, max_size=5))
def test_the_runner_has_all_labels_of_the_job_and_no_more_than_needed(policy: Policy, wanted: list[str]) -> None:
    job, found, _ = options(policy, wanted)
    for option in found:
        assert satisfies(option.labels, job.labels)
        assert option.labels == option.pool.labels | job.labels
        added = option.labels - option.pool.labels
        assert all(map(is_meant, added))
        assert not added or read(added).mistakes == ()


@given(policies(), st.lists(labels, min_size=1, max_size=5))
def test_a_job_that_nobody_serves_is_told_why(policy: Policy, wanted: list[str]) -> None:
    job, found, serving = options(policy, wanted)
    if found:
        return
    _, reason = serving.obstacle(job)
    assert reason
    own = frozenset[str]().union(*(pool.labels for pool in policy.pools))
    meant = {label for label in job.labels - own if is_meant(label)}
    if meant:
        event("resource labels")
        named = [label for label in meant if "".join(c if c.isprintable() else "?" for c in label)[:80] in reason]
        assert named, "the label is named"
        assert reason.isprintable() or not all(label.isprintable() for label in job.labels)


@given(policies(), st.lists(labels, min_size=1, max_size=5))
def test_no_text_of_a_label_gets_into_sbatch_s_arguments(policy: Policy, wanted: list[str]) -> None:
    for option in options(policy, wanted)[1]:
        submission = Submission("sg-abc-p-1", option.request, "", "{}", "/out")
        argv = commands.sbatch(submission)
        plain = commands.sbatch(replace(submission, request=OWN))
        for argument in set(argv) - set(plain):
            event("an argument of its own")
            assert re.fullmatch(
                r"--(nodes|ntasks|cpus-per-task)=[0-9]+|--mem=[0-9]+M|--time=[0-9]+-[0-9:]{8}"
                r"|--gres=(license:2|gpu(:(A100|v100))?:[0-9]+|tmpdisk:[0-9]+|,)+",
                argument,
            ), argument


@given(policies())
def test_the_largest_request_is_within_the_bounds_and_asks_for_all_of_them(policy: Policy) -> None:
    for pool in policy.pools:
        assert bool(largest(pool)) == (pool.dynamic is not None)
        for _, request in largest(pool):
            assert pool.dynamic is not None
            assert request.cpus == (pool.dynamic.cpus or OWN.cpus)
            assert request.nodes == (pool.dynamic.nodes or 1)
            assert request.time_seconds == (pool.dynamic.time_seconds or OWN.time_seconds)


@given(st.lists(st.text(max_size=30) | labels, max_size=6))
def test_reading_never_fails_and_says_something_of_every_label_it_takes(wanted: list[str]) -> None:
    reading = read(wanted)
    assert reading.labels == {label for label in wanted if is_meant(label)}
    assert bool(reading.labels) == bool(reading.asks or reading.mistakes)
    assert all(mistake.isprintable() for mistake in reading.mistakes)
