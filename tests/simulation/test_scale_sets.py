"""Scale sets through hours of what can go wrong with them: each job gets a runner, none gets two, no hour is lost."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_gha.domain.scope import Source
from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.simulation.run import Outcome, Simulation
from slurm_gha.testing.simulation.scenario import EPOCH, Scenario

pytestmark = pytest.mark.slow

CALM = Scenario(
    seed=21,
    hours=3.0,
    pushes_per_hour=6.0,
    kills=0,
    sudden=0.0,
    outages=0,
    mishaps=0,
    rough=False,
    cancelled=0.0,
    steal=False,
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
    ran = outcome.conclusions.get("success", 0) + outcome.conclusions.get("failure", 0)
    waits = sorted(outcome.waits)
    print(
        f"{ran} jobs on {outcome.slurm_jobs} Slurm jobs ({outcome.withdrawn} withdrawn), waits: half of them up to "
        f"{waits[len(waits) // 2]:.1f} s, longest {waits[-1]:.0f} s; {outcome.counted} counted REST calls"
    )
    assert ran > 50
    return outcome


def ran(outcome: Outcome) -> int:
    return outcome.conclusions.get("success", 0) + outcome.conclusions.get("failure", 0)


def told(outcome: Outcome, event: str) -> int:
    return sum(line.startswith(f"{event}(") for line in outcome.story)


def test_in_calm_weather_every_job_costs_one_slurm_job_and_next_to_no_rest_call(tmp_path: Path) -> None:
    outcome = play(CALM, tmp_path)
    assert outcome.slurm_jobs == ran(outcome)
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
    assert outcome.slurm_jobs == ran(outcome)


def test_handed_over_on_standard_input(tmp_path: Path) -> None:
    outcome = play(replace(CALM, hours=2.0, stdin_share=1.0), tmp_path)
    assert outcome.slurm_jobs == ran(outcome)


def test_where_jobs_have_to_be_acquired(tmp_path: Path) -> None:
    outcome = play(replace(CALM, scale_sets=ScaleSetBehaviour(acquire=True)), tmp_path)
    assert outcome.slurm_jobs == ran(outcome)
    assert max(outcome.waits) < USUAL


def test_tokens_that_end_all_the_time(tmp_path: Path) -> None:
    short = ScaleSetBehaviour(queue_token_lifetime=70.0, admin_token_lifetime=150.0, byte_order_mark=True)
    outcome = play(replace(CALM, scale_sets=short), tmp_path)
    assert outcome.slurm_jobs == ran(outcome)
    assert max(outcome.waits) < USUAL


def test_the_service_moves(tmp_path: Path) -> None:
    async def move(simulation: Simulation) -> None:
        while True:
            await simulation.clock.sleep(700.0)
            simulation.github.scale_sets.move()

    brief = ScaleSetBehaviour(queue_token_lifetime=300.0, admin_token_lifetime=500.0)
    outcome = play(replace(CALM, scale_sets=brief), tmp_path, move)
    assert outcome.slurm_jobs == ran(outcome)
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
    assert outcome.slurm_jobs <= ran(outcome) + outcome.withdrawn + 3
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
    assert outcome.slurm_jobs == ran(outcome)


def test_ten_minutes_of_errors(tmp_path: Path) -> None:
    outage = Fault(FaultKind.ERROR, route=SERVICE, start=EPOCH + 3600.0, end=EPOCH + 4200.0, status=503)
    outcome = play(replace(CALM, more_faults=(outage,)), tmp_path)
    assert told(outcome, "QueueUnreadable") >= 3
    print(f"lost: {max(outcome.waits) - 600.0:.0f} s beyond the outage")
    assert max(outcome.waits) < 600.0 + 90.0 + USUAL
    assert outcome.slurm_jobs == ran(outcome)


def test_killed_between_a_message_and_its_acknowledgement(tmp_path: Path) -> None:
    deaf = Fault(FaultKind.DROP, probability=0.5, route=r"^DELETE /_services/.*/messages/")
    scenario = replace(CALM, hours=2.0, kills=12, sudden=0.05, more_faults=(deaf,))
    outcome = play(scenario, tmp_path)
    handled = [line.partition("message_id=")[2].partition(",")[0] for line in outcome.story if "QueueMessage(" in line]
    print(f"{outcome.deaths} deaths; {len(handled) - len(set(handled))} messages came again")
    assert len(handled) > len(set(handled))
    # Claims whose answer died with the service cost a Slurm job each, as they do with any source.
    assert outcome.slurm_jobs <= 1.05 * ran(outcome)
    assert told(outcome, "PoolBackedOff") <= outcome.deaths / 4


def test_down_for_an_hour(tmp_path: Path) -> None:
    outcome = play(replace(CALM, kills=2, longest_death=3600.0), tmp_path)
    print(f"lost: longest wait {max(outcome.waits):.0f} s")
    assert max(outcome.waits) < 3600.0 + 120.0 + USUAL
    assert outcome.slurm_jobs <= ran(outcome) + outcome.withdrawn


def test_jobs_that_are_called_completed_while_they_run_are_not_killed(tmp_path: Path) -> None:
    early = ScaleSetBehaviour(completed_early=5.0)
    outcome = play(replace(CALM, longest_job=1500.0, hours=1.5, scale_sets=early), tmp_path)
    assert set(outcome.conclusions) <= {"success", "failure", "skipped"}


def test_assignments_that_are_taken_back_while_the_cluster_is_full(tmp_path: Path) -> None:
    hasty = ScaleSetBehaviour(assignment_timeout=60.0)
    outcome = play(replace(CALM, longest_job=600.0, hours=2.0, scale_sets=hasty), tmp_path)
    # Each time, its Slurm job is withdrawn while it waits, and another one is submitted: a place in the queue is lost.
    assert outcome.slurm_jobs - outcome.withdrawn <= 1.05 * ran(outcome)


def test_the_same_seed_tells_the_same_story(tmp_path: Path) -> None:
    rough = Scenario(seed=5, hours=1.0, quiet_hours=1.0, sources=(Source.SCALESET,))
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        digests.append(Simulation(rough, tmp_path / name).run().digest)
    assert digests[0] == digests[1]
