"""Scale sets through hours of what can go wrong with them: each job gets a runner, none gets two, no hour is lost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_gha.domain.allow import Allow
from slurm_gha.domain.scope import Source
from slurm_gha.domain.warm import LAST_MOMENT
from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.simulation.run import Outcome, Simulation
from slurm_gha.testing.simulation.scenario import EPOCH, FAIR_WEATHER, Scenario

pytestmark = pytest.mark.slow

CALM = replace(
    FAIR_WEATHER,
    seed=21,
    hours=3.0,
    pushes_per_hour=6.0,
    longest_job=60.0,
    sources=(Source.SCALESET,),
)
SERVICE = r"^\w+ /(_services|actions)/"
# What a job waits at most where nothing is wrong: for the cluster, which is full now and then.
USUAL = 400.0


def play(
    scenario: Scenario, directory: Path, meanwhile: Callable[[Simulation], Coroutine[Any, Any, None]] | None = None
) -> Outcome:
    """Run it; nothing is lost, doubled or left, whatever happened."""
    directory.mkdir(exist_ok=True)
    outcome = Simulation(scenario, directory, keep_story=True, meanwhile=meanwhile).run()
    assert outcome.violations == []
    assert outcome.unexpected == []
    ran = outcome.ran
    waits = sorted(outcome.waits)
    print(
        f"{ran} jobs on {outcome.slurm_jobs} Slurm jobs ({outcome.withdrawn} withdrawn), waits: half of them up to "
        f"{waits[len(waits) // 2]:.1f} s, longest {waits[-1]:.0f} s; {outcome.counted} counted REST calls"
    )
    assert ran > 50
    return outcome


def told(outcome: Outcome, event: str) -> int:
    return sum(line.startswith(f"{event}(") for line in outcome.story)


def test_in_calm_weather_every_job_costs_one_slurm_job_and_next_to_no_rest_call(tmp_path: Path) -> None:
    outcome = play(CALM, tmp_path)
    assert outcome.slurm_jobs == outcome.ran
    assert sorted(outcome.waits)[len(outcome.waits) // 2] < 10.0
    assert max(outcome.waits) < USUAL
    # A registration token an hour, when queue tokens and with them the admin token end; five hours in all.
    assert outcome.counted <= 5


def test_a_day_of_bad_weather(tmp_path: Path) -> None:
    day = Scenario(seed=11, hours=8.0, kills=8, outages=3, mishaps=6, sources=(Source.SCALESET,))
    outcome = play(day, tmp_path)
    assert outcome.slurm_jobs < 1.2 * outcome.jobs


def test_all_ways_at_once_double_nothing(tmp_path: Path) -> None:
    outcome = play(replace(CALM, sources=(Source.POLL, Source.SCALESET)), tmp_path)
    assert outcome.slurm_jobs == outcome.ran


def test_handed_over_on_standard_input(tmp_path: Path) -> None:
    outcome = play(replace(CALM, hours=2.0, stdin_share=1.0), tmp_path)
    assert outcome.slurm_jobs == outcome.ran


def test_where_jobs_have_to_be_acquired(tmp_path: Path) -> None:
    outcome = play(replace(CALM, scale_sets=ScaleSetBehaviour(acquire=True)), tmp_path)
    assert outcome.slurm_jobs == outcome.ran
    assert max(outcome.waits) < USUAL


def test_tokens_that_end_all_the_time(tmp_path: Path) -> None:
    short = ScaleSetBehaviour(queue_token_lifetime=70.0, admin_token_lifetime=150.0, byte_order_mark=True)
    outcome = play(replace(CALM, scale_sets=short), tmp_path)
    assert outcome.slurm_jobs == outcome.ran
    assert max(outcome.waits) < USUAL


def test_the_service_moves(tmp_path: Path) -> None:
    async def move(simulation: Simulation) -> None:
        while True:
            await simulation.clock.sleep(700.0)
            simulation.github.scale_sets.move()

    brief = ScaleSetBehaviour(queue_token_lifetime=300.0, admin_token_lifetime=500.0)
    outcome = play(replace(CALM, scale_sets=brief), tmp_path, move)
    assert outcome.slurm_jobs == outcome.ran
    assert max(outcome.waits) < USUAL


def test_scale_sets_that_are_deleted_under_us(tmp_path: Path) -> None:
    async def delete(simulation: Simulation) -> None:
        sets = simulation.github.scale_sets
        for _ in range(3):
            await simulation.clock.sleep(1800.0)
            for scale_set in list(sets.sets.values()):
                if not scale_set.claims:
                    sets.remove(scale_set)

    outcome = play(CALM, tmp_path, delete)
    assert told(outcome, "ScaleSetGone") >= 6
    assert outcome.slurm_jobs <= outcome.ran + outcome.withdrawn + 3
    assert max(outcome.waits) < USUAL


def test_another_controller_takes_the_session_and_is_waited_for(tmp_path: Path) -> None:
    stolen = 900.0

    async def steal(simulation: Simulation) -> None:
        sets = simulation.github.scale_sets
        await simulation.clock.sleep(3600.0)
        sessions = []
        for scale_set in sets.sets.values():
            assert scale_set.session is not None
            sets.sessions.end(scale_set.session)
            sessions.append(sets.sessions.open(scale_set, "another controller", sets.tenant))
        for _ in range(int(stolen / 50)):
            await simulation.clock.sleep(50.0)
            for session in sessions:
                sets.sessions.find(session.id)  # it reads, and does nothing
        for session in sessions:
            sets.sessions.close(session)

    outcome = play(CALM, tmp_path, steal)
    conflicts = [line for line in outcome.story if line.startswith("SessionConflict(")]
    assert len(conflicts) == 3
    assert all("another controller" in line for line in conflicts)
    # The other's time, one pause, and what is usual.
    print(f"lost: {max(outcome.waits) - stolen:.0f} s beyond the {stolen:.0f} s that another controller had")
    assert max(outcome.waits) < stolen + 60.0 + USUAL
    assert outcome.slurm_jobs == outcome.ran


def test_ten_minutes_of_errors(tmp_path: Path) -> None:
    outage = Fault(FaultKind.ERROR, route=SERVICE, start=EPOCH + 3600.0, end=EPOCH + 4200.0, status=503)
    outcome = play(replace(CALM, more_faults=(outage,)), tmp_path)
    assert told(outcome, "QueueUnreadable") >= 3
    print(f"lost: {max(outcome.waits) - 600.0:.0f} s beyond the outage")
    assert max(outcome.waits) < 600.0 + 90.0 + USUAL
    assert outcome.slurm_jobs == outcome.ran


def test_killed_between_a_message_and_its_acknowledgement(tmp_path: Path) -> None:
    deaf = Fault(FaultKind.DROP, probability=0.5, route=r"^DELETE /_services/.*/messages/")
    scenario = replace(CALM, hours=2.0, kills=12, sudden=0.05, more_faults=(deaf,))
    outcome = play(scenario, tmp_path)
    handled = [line.partition("message_id=")[2].partition(",")[0] for line in outcome.story if "QueueMessage(" in line]
    print(f"{outcome.deaths} deaths; {len(handled) - len(set(handled))} messages came again")
    assert len(handled) > len(set(handled))
    # Claims whose answer died with the service cost a Slurm job each, as they do with any source.
    assert outcome.slurm_jobs <= 1.05 * outcome.ran
    assert told(outcome, "PoolBackedOff") <= outcome.deaths / 4


def test_down_for_an_hour(tmp_path: Path) -> None:
    outcome = play(replace(CALM, kills=2, longest_death=3600.0), tmp_path)
    print(f"lost: longest wait {max(outcome.waits):.0f} s")
    assert max(outcome.waits) < 3600.0 + 120.0 + USUAL
    assert outcome.slurm_jobs <= outcome.ran + outcome.withdrawn


def test_jobs_that_are_called_completed_while_they_run_are_not_killed(tmp_path: Path) -> None:
    early = ScaleSetBehaviour(completed_early=5.0)
    outcome = play(replace(CALM, longest_job=1500.0, hours=1.5, scale_sets=early), tmp_path)
    assert set(outcome.conclusions) <= {"success", "failure", "skipped"}


def test_assignments_that_are_taken_back_while_the_cluster_is_full(tmp_path: Path) -> None:
    hasty = ScaleSetBehaviour(assignment_timeout=60.0)
    outcome = play(replace(CALM, longest_job=600.0, hours=2.0, scale_sets=hasty), tmp_path)
    # Its Slurm job keeps its place in the queue, unless GitHub gives the job to another scale set with its labels.
    assert outcome.slurm_jobs - outcome.withdrawn == outcome.ran
    assert outcome.withdrawn <= 0.05 * outcome.ran


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    rough = Scenario(seed=5, hours=1.0, quiet_hours=1.0, sources=(Source.SCALESET,))
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        digests.append(Simulation(rough, tmp_path / name).run().digest)
    assert digests[0] == digests[1]


PULL_REQUESTS = {
    ".github/workflows/pull.yml": """
name: Pull
on: pull_request
jobs:
  look:
    runs-on: [self-hosted, small]
    steps: [{run: make lint}]
  build:
    runs-on: [self-hosted, large]
    steps: [{run: make}]
  test:
    needs: build
    runs-on: [self-hosted, small]
    steps: [{run: make test}]
""",
}


class PullRequests:
    """First forks' alone, then those of branches, and forks' among them; at the end those of forks are closed."""

    def __init__(self) -> None:
        self.forks: list[int] = []
        self.own: list[int] = []
        self.slurm_jobs_for_forks_alone = -1

    async def __call__(self, simulation: Simulation) -> None:
        github, clock = simulation.github, simulation.clock
        github.add_repository("lab/contributed", PULL_REQUESTS)
        for number in range(10):
            await clock.sleep(5.0)
            self.forks += [run.id for run in github.pull_request("lab/contributed", number, branch="x", fork=True)]
        await clock.sleep(900.0)
        self.slurm_jobs_for_forks_alone = len(simulation.slurm.history)
        for number in range(10, 40):
            await clock.sleep(180.0)
            fork = number % 3 == 0
            runs = github.pull_request("lab/contributed", number, branch="x", fork=fork)
            (self.forks if fork else self.own).extend(run.id for run in runs)
        await clock.sleep(1800.0)
        for number in self.forks:
            if github.runs[number].status != "completed":
                github.cancel_run("lab/contributed", number)


@pytest.mark.parametrize("acquire", [False, True])
def test_forks_cost_no_slurm_job_and_each_pull_request_two_calls(tmp_path: Path, acquire: bool) -> None:
    # Pushes come after the forks have been alone.
    pulls = PullRequests()
    scenario = replace(
        CALM, allow=Allow(), working=(0.5, 2.0), repositories=1, scale_sets=ScaleSetBehaviour(acquire=acquire)
    )
    simulation = Simulation(scenario, tmp_path, meanwhile=pulls)
    outcome = simulation.run()
    assert outcome.violations == []
    assert outcome.unexpected == []
    github = simulation.github
    assert pulls.slurm_jobs_for_forks_alone == 0
    assert all(github.runs[number].status == "completed" for number in (*pulls.forks, *pulls.own))
    taken = [job for job in github.jobs.values() if job.runner_id is not None]
    # A runner takes any job that is assigned to its scale set: what is refused there, the runner's hook ends.
    stray = [job for job in taken if job.run_id in pulls.forks]
    own = [job for job in github.jobs.values() if job.run_id in pulls.own]
    assert len(own) == 3 * len(pulls.own)
    assert all(job in taken or job.conclusion == "skipped" for job in own)
    runs = len(pulls.forks) + len(pulls.own)
    looks = sum(count.counted for (_, route), count in simulation.limits.counters.items() if "/actions/runs/" in route)
    pushes = len({job.run_id for job in github.jobs.values()}) - runs
    print(
        f"{len(taken)} jobs on {outcome.slurm_jobs} Slurm jobs, {len(stray)} of them forks' that a runner took; "
        f"{looks} REST calls for {runs} runs of pull requests and {pushes} of pushes; {outcome.counted} in all"
    )
    assert pushes > 5
    assert looks == 2 * runs
    assert outcome.counted <= looks + 5
    assert outcome.slurm_jobs == len(taken)
    assert acquire is False or not stray


READY = replace(CALM, hours=6.0, working=(1.0, 6.0), pushes_per_hour=1.5, ready=2, recycle_after=1800.0)


class Idle:
    """Looks in working hours at what the scale sets count, and whose runners are there without a job."""

    def __init__(self) -> None:
        self.looks = 0
        self.ready: list[int] = []
        self.outside: set[str] = set()
        self.counted: list[int] = []

    async def __call__(self, simulation: Simulation) -> None:
        github, clock, sets = simulation.github, simulation.clock, simulation.github.scale_sets
        while True:
            await clock.sleep(30.0)
            idle = [runner for runner in github.runners.values() if runner.online and not runner.busy]
            self.outside |= {runner.name for runner in idle if runner.scale_set_id is None}
            if 3600.0 + 300.0 < clock.now() - EPOCH < READY.end:
                self.looks += 1
                self.ready.append(len(idle))
                self.counted.append(sum(sets.statistics(each).idle for each in sets.sets.values()))


def test_runners_kept_ready_are_those_of_scale_sets(tmp_path: Path) -> None:
    idle = Idle()
    cold, warm = play(replace(READY, ready=0), tmp_path / "cold"), play(READY, tmp_path / "warm", idle)
    quick = sum(wait < 10.0 for wait in warm.first_waits) / len(warm.first_waits)
    share = sum(number >= 4 for number in idle.ready) / idle.looks
    print(
        f"{quick:.0%} of first jobs within 10 s; two of two pools ready {share:.0%} of the time; oldest idle "
        f"{warm.longest_idle:.0f} s; {cold.slurm_jobs} Slurm jobs cold, {warm.slurm_jobs} warm for {warm.ran} jobs"
    )
    assert idle.outside == set()
    assert share > 0.5
    # GitHub counts them as idle, and that confuses no level: no job is left without a runner, and none gets two.
    assert max(idle.counted) >= 4
    assert statistics.median(warm.first_waits) < 5.0
    assert 0.9 * READY.recycle_after < warm.longest_idle <= LAST_MOMENT * READY.recycle_after + 120.0
    # Two of two pools, renewed every half an hour of five hours, and at worst one for each job.
    assert warm.slurm_jobs <= warm.ran + 2 * 2 * (5 * 2 + 1)
