"""The watch over a simulation sees what it is there to see: each invariant, fed a broken story and a sound one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_gha.domain.clock import SystemClock
from slurm_gha.domain.runner import runner_name
from slurm_gha.domain.slurm import SlurmJob
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob
from slurm_gha.testing.simulation.invariants import Watch
from slurm_gha.testing.simulation.scenario import INSTALLATION, WORKFLOWS, Scenario

POLICY = Scenario().policy()
OURS = runner_name(INSTALLATION, "small", "0a")


@pytest.fixture
def github() -> GitHub:
    github = GitHub(SystemClock())
    github.add_repository("lab/project1", WORKFLOWS)
    return github


@pytest.fixture
def watch(github: GitHub) -> Watch:
    foreign, _ = github.mint_runner("orgs/lab", "somebody-elses", ["windows"])
    return Watch(POLICY, github, frozenset({foreign.id}))


def running(number: int = 1, name: str = OURS, state: str = "RUNNING") -> SlurmJob:
    return SlurmJob(number, name, state)


def crowd(pool: str, number: int) -> list[SlurmJob]:
    return [running(i, runner_name(INSTALLATION, pool, f"{i:02x}")) for i in range(number)]


def test_a_name_is_submitted_once(watch: Watch) -> None:
    watch.submitted(1, 7, OURS)
    watch.submitted(2, 7, OURS)
    assert watch.violations == []
    watch.submitted(3, 8, OURS)
    assert watch.violations == [f"3: {OURS} was submitted twice: Slurm jobs 7 and 8"]


def test_a_busy_runner_is_not_cancelled(watch: Watch, github: GitHub) -> None:
    runner, _ = github.mint_runner("orgs/lab", OURS, ["small"])
    watch.cancelling(1, running())
    assert watch.violations == []
    runner.job_id = 5
    watch.cancelling(2, running(state="COMPLETED"))
    watch.cancelling(3, None)
    assert watch.violations == []
    watch.cancelling(4, running())
    assert watch.violations == [f"4: {OURS} was cancelled while it had job 5"]


@pytest.mark.parametrize("name", ["somebody-elses", "sg-other-small-0a"])
def test_what_is_not_ours_is_not_cancelled(watch: Watch, name: str) -> None:
    watch.cancelling(1, running(name=name))
    assert watch.violations == [f"1: Slurm job 1 {name} is not ours and was cancelled"]


def test_a_registration_that_is_not_ours_stays(watch: Watch, github: GitHub) -> None:
    watch.look(1, [])
    assert watch.violations == []
    (foreign,) = github.runners
    github.remove_runner(foreign)
    watch.look(2, [])
    assert watch.violations == [f"2: registration {foreign} is not ours and was removed"]


def test_the_limit_of_a_pool(watch: Watch) -> None:
    most = POLICY.pools_by_name["large"].max_runners
    over = crowd("large", most + 1)
    watch.look(1, over[1:])
    watch.look(2, [replace(over[0], state="COMPLETED"), *over[1:]])
    assert watch.violations == []
    watch.look(3, over)
    assert watch.violations == [f"3: pool large has {most + 1} Slurm jobs, more than {most}"]


def test_the_limit_of_the_installation(watch: Watch) -> None:
    pools = [(pool.name, pool.max_runners) for pool in POLICY.pools]
    everyone = [job for name, most in pools for job in crowd(name, most)]
    assert len(everyone) > POLICY.max_runners
    watch.look(1, everyone[: POLICY.max_runners])
    assert watch.violations == []
    watch.look(2, everyone[: POLICY.max_runners + 1])
    assert watch.violations == [f"2: {POLICY.max_runners + 1} Slurm jobs, more than {POLICY.max_runners}"]


def finished(github: GitHub) -> SimJob:
    """A repository whose jobs have all come to a good end; one of them."""
    (run,) = github.push("lab/project1")
    for job in github.present_jobs(run):
        job.status, job.conclusion = "completed", "success"
    return github.present_jobs(run)[0]


def test_a_sound_end(watch: Watch, github: GitHub) -> None:
    finished(github)
    watch.at_rest(1, [running(state="COMPLETED"), running(2, "somebody-elses")], 0)
    assert watch.violations == []


def test_a_slurm_job_is_left(watch: Watch) -> None:
    watch.at_rest(1, [running(state="PENDING")], 0)
    assert watch.violations == [f"1: Slurm job 1 {OURS} is left (PENDING)"]


def test_a_registration_is_left(watch: Watch, github: GitHub) -> None:
    github.mint_runner("orgs/lab", OURS, ["small"])
    watch.at_rest(1, [], 0)
    assert watch.violations == [f"1: registration {OURS} is left"]


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_job_never_ended(watch: Watch, github: GitHub, status: str) -> None:
    job = finished(github)
    job.status, job.conclusion = status, None
    watch.at_rest(1, [], 0)
    assert watch.violations == [f"1: job {job.id} {job.name} is {status}"]


@pytest.mark.parametrize("conclusion", ["timed_out", "startup_failure", None])
def test_a_job_ended_as_none_should(watch: Watch, github: GitHub, conclusion: str | None) -> None:
    job = finished(github)
    job.conclusion = conclusion
    watch.at_rest(1, [], 0)
    assert watch.violations == [f"1: job {job.id} ended {conclusion}"]


def test_a_record_is_open(watch: Watch) -> None:
    watch.at_rest(1, [], 2)
    assert watch.violations == ["1: 2 records are still open"]
