"""kill -9 of the service at every stage of a runner's story: after a restart nothing is lost, nothing doubled."""

from __future__ import annotations

import random
import re
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.e2e.scene import CommandLog, Gate, Scene, job, pool, scene, workflow

from slurm_gha.testing.github.faults import Fault, FaultKind
from slurm_gha.testing.github.values import Run
from slurm_gha.testing.private_slurm import PrivateSlurm

MINTING = r"^POST .*generate-jitconfig"
LISTING_RUNNERS = r"^GET /orgs/lab/actions/runners"
REMOVING = r"^DELETE /orgs/lab/actions/runners"


class Brake(CommandLog):
    """One of Slurm's commands, held before it does anything, or after it has done it and before it says so."""

    def __init__(self, slurm: PrivateSlurm, command: str) -> None:
        super().__init__(slurm)
        self.command = command
        target = self.bin_dir / command
        shebang, log, call = target.read_text().splitlines()
        held = "while test -e {}; do sleep 0.1; done"
        lines = [
            shebang,
            log,
            held.format(shlex.quote(str(self.bin_dir / "before"))),
            call.removeprefix("exec "),
            "status=$?",
            held.format(shlex.quote(str(self.bin_dir / "after"))),
            "exit $status",
        ]
        target.write_text("\n".join([*lines, ""]))

    def hold(self, when: str) -> None:
        (self.bin_dir / when).touch()

    def release(self) -> None:
        for when in ("before", "after"):
            (self.bin_dir / when).unlink(missing_ok=True)

    @property
    def count(self) -> int:
        return len(self.calls(self.command))


def once(stage: Scene, what: str = "ran", also: str = "true") -> dict[str, Any]:
    """A job that leaves a line each time it runs."""
    return job(f"echo {what} >>{shlex.quote(str(stage.base / 'ran'))}; {also}")


def ran(stage: Scene) -> Counter[str]:
    file = stage.base / "ran"
    return Counter(file.read_text().split()) if file.exists() else Counter()


def record(stage: Scene) -> dict[str, Any]:
    """The one runner of the journal, open or closed."""
    (only,) = stage.records()
    return only


def reached(stage: Scene, fact: str) -> Callable[[], bool]:
    """Whether the journal's first runner has this fact, and is still open."""

    def known() -> bool:
        records = stage.records()
        return bool(records) and records[0][fact] is not None and records[0]["closed_at"] is None

    return known


def crash(stage: Scene) -> None:
    assert stage.stop_service(signal.SIGKILL) == -signal.SIGKILL


def ends_once(stage: Scene, run: Run, seconds: float = 60) -> None:
    """The run's only job ran once, and well; nothing is left."""
    assert stage.until_completed(run, seconds) == {"a": "success"}
    stage.ends_clean()
    assert ran(stage) == {"ran": 1}


def test_intent_written_and_sbatch_not_yet_asked(slurm: PrivateSlurm) -> None:
    brake = Brake(slurm, "sbatch")
    with scene(slurm, overrides={**brake.overrides, "timeouts": {"unconfirmed_after": "4s"}}) as stage:
        brake.hold("before")
        run = stage.push(workflow(a=once(stage)))
        stage.until(lambda: brake.count, 20, "sbatch is called")
        first = record(stage)
        assert (first["slurm_id"], first["submitted_at"]) == (None, None)
        crash(stage)
        brake.release()
        time.sleep(0.5)
        assert stage.slurm_jobs() == {}, "an sbatch of a dead service submits nothing any more"
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["never submitted", "finished"]
        assert len(stage.slurm_jobs()) == 1


def test_submitted_and_the_answer_lost(slurm: PrivateSlurm) -> None:
    brake = Brake(slurm, "sbatch")
    with scene(slurm, overrides=brake.overrides) as stage:
        stage.fill_cluster()
        brake.hold("after")
        run = stage.push(workflow(a=once(stage)))
        name = stage.until_slurm("PENDING")
        assert (record(stage)["name"], record(stage)["slurm_id"]) == (name, None)
        crash(stage)
        brake.release()
        stage.start_service()
        stage.until(reached(stage, "slurm_id"), 20, "the Slurm job is found by its name")
        stage.empty_cluster()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"]
        assert (list(stage.slurm_jobs()), brake.count) == ([name], 1)


def test_submitted_and_started_while_the_service_was_dead(slurm: PrivateSlurm) -> None:
    log = CommandLog(slurm)
    with scene(slurm, overrides=log.overrides) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=once(stage)))
        name = stage.until_pending()
        crash(stage)
        stage.empty_cluster()
        stage.until(lambda: stage.live_slurm_jobs() == {name: "RUNNING"}, 20, "it starts, and finds nobody")
        output = stage.output_dir / f"{name}.log"
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"]
        assert (list(stage.slurm_jobs()), len(log.calls("sbatch"))) == ([name], 1)
        said = [line for line in output.read_text().splitlines() if line.startswith("slurm-gha:")]
        times = re.compile(r"slurm-gha: (started at|[a-z ]+ after) [0-9.]+( s)?")
        assert [line for line in said if not times.fullmatch(line)] == [], (
            "a repeated claim is nothing to complain about"
        )


def test_cancelled_in_slurm_while_the_service_was_dead(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        stage.fill_cluster()
        run = stage.push(workflow(a=once(stage)))
        name = stage.until_pending()
        crash(stage)
        slurm.run("scancel", "--name", name)
        stage.empty_cluster()
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["cancelled in Slurm", "finished"]


def test_claimed_and_not_yet_minted(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        stage.faults.faults = [Fault(FaultKind.HANG, route=MINTING, seconds=5)]
        run = stage.push(workflow(a=once(stage)))
        stage.until(reached(stage, "claimed_at"), 20, "the claim is noted")
        assert record(stage)["minted_at"] is None
        crash(stage)
        stage.faults.faults = []
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"], "the same Slurm job claims again, and gets its configuration"
        assert len(stage.slurm_jobs()) == 1


def test_registered_and_the_answer_of_github_lost(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        stage.faults.faults = [Fault(FaultKind.LOSE, route=MINTING)]
        run = stage.push(workflow(a=once(stage)))
        (lost,) = stage.until(lambda: list(stage.github.runners.values()), 20, "the runner is registered")
        crash(stage)
        assert record(stage)["minted_at"] is None
        stage.faults.faults = []
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"]
        assert len(stage.slurm_jobs()) == 1
        assert record(stage)["registration_id"] > lost.id, "the first registration was replaced"


def test_minted_and_the_runner_not_yet_started(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        gate = Gate(stage)
        run = stage.push(workflow(a=once(stage)))
        stage.until(lambda: stage.events("runner_reported"), 30, "the runner is launched")
        assert record(stage)["minted_at"] is not None
        assert record(stage)["online_at"] is None
        crash(stage)
        stage.start_service()
        gate.open()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"]
        assert len(stage.slurm_jobs()) == 1


def test_online_and_given_a_job_while_the_service_was_dead(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        gate = Gate(stage)
        forgone = stage.push(workflow(b=job()))
        stage.until(lambda: list(stage.github.runners.values()), 20, "the runner is registered")
        stage.github.cancel_run("lab/demo", forgone.id)
        gate.open()
        stage.until(reached(stage, "online_at"), 30, "the runner is online")
        crash(stage)
        run = stage.push(workflow(a=once(stage)))
        stage.until_running(run, "a")
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"]
        assert len(stage.slurm_jobs()) == 1, "the idle runner took it, and no other was made"


def test_busy_before_and_after(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        hold = stage.base / "hold"
        hold.touch()
        run = stage.push(workflow(a=once(stage, also=f"while test -e {hold}; do sleep 0.1; done")))
        stage.until(reached(stage, "busy_at"), 30, "the runner is known to be busy")
        crash(stage)
        stage.start_service()
        time.sleep(3)  # withdraw_after, and some rounds
        assert stage.job(run, "a").status == "in_progress"
        hold.unlink()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"]
        assert len(stage.slurm_jobs()) == 1


def test_finished_and_the_record_not_yet_closed(slurm: PrivateSlurm) -> None:
    with scene(slurm) as stage:
        gate = Gate(stage)
        run = stage.push(workflow(a=once(stage)))
        stage.until(lambda: list(stage.github.runners.values()), 20, "the runner is registered")
        # Without a listing of registrations, no record is closed.
        stage.faults.faults = [Fault(FaultKind.ERROR, route=LISTING_RUNNERS, status=503)]
        gate.open()
        stage.until(reached(stage, "finished_at"), 30, "the end is reported")
        crash(stage)
        stage.faults.faults = []
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"]
        assert len(stage.slurm_jobs()) == 1


def test_withdrawn_and_not_yet_cancelled(slurm: PrivateSlurm) -> None:
    brake = Brake(slurm, "scancel")
    with scene(slurm, overrides=brake.overrides) as stage:
        stage.fill_cluster()
        brake.hold("before")
        run = stage.push(workflow(a=once(stage)))
        name = stage.until_pending()
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: brake.count, 20, "scancel is called")
        assert record(stage)["withdrawn_at"] is not None
        crash(stage)
        brake.release()
        assert stage.live_slurm_jobs() == {name: "PENDING"}, "a scancel of a dead service cancels nothing any more"
        stage.start_service()
        stage.until(lambda: not stage.live_slurm_jobs(), 20, "it is cancelled after all")
        stage.ends_clean()
        assert stage.outcomes() == ["withdrawn"]
        assert ran(stage) == {}


def test_withdrawn_and_not_yet_deregistered(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[pool(idle_timeout="1s")]) as stage:
        withdraw_an_idle_one(stage, Fault(FaultKind.ERROR, route=REMOVING, status=503))
        assert len(stage.github.runners) == 1
        assert record(stage)["deregistered_at"] is None
        crash(stage)
        stage.faults.faults = []
        stage.start_service()
        stage.ends_clean()
        assert stage.outcomes() == ["withdrawn"]
        assert set(stage.slurm_jobs().values()) == {"CANCELLED"}


def test_withdrawn_and_given_a_job_before_it_was_deregistered(slurm: PrivateSlurm) -> None:
    with scene(slurm, pools=[pool(idle_timeout="1s")]) as stage:
        withdraw_an_idle_one(stage, Fault(FaultKind.ERROR, route=REMOVING, status=503))
        crash(stage)
        stage.faults.faults = []
        run = stage.push(workflow(a=once(stage, also="sleep 4")))
        stage.until_running(run, "a")
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["finished"], "busy, it was left alone"
        assert set(stage.slurm_jobs().values()) == {"COMPLETED"}


def test_deregistered_and_not_yet_cancelled(slurm: PrivateSlurm) -> None:
    brake = Brake(slurm, "scancel")
    with scene(slurm, pools=[pool(idle_timeout="1s")], overrides=brake.overrides) as stage:
        brake.hold("before")
        withdraw_an_idle_one(stage)
        stage.until(lambda: brake.count, 20, "scancel is called")
        assert record(stage)["deregistered_at"] is not None
        assert list(stage.github.runners) == []
        crash(stage)
        brake.release()
        stage.start_service()
        stage.ends_clean()
        assert stage.outcomes() == ["withdrawn"]


def test_handed_over_and_sbatch_not_yet_asked(slurm: PrivateSlurm) -> None:
    brake = Brake(slurm, "sbatch")
    overrides = {**brake.overrides, "timeouts": {"unconfirmed_after": "4s"}}
    with scene(slurm, pools=[pool(handover="stdin")], overrides=overrides) as stage:
        brake.hold("before")
        run = stage.push(workflow(a=once(stage)))
        stage.until(lambda: brake.count, 20, "sbatch is called")
        (lost,) = stage.github.runners.values()
        crash(stage)
        brake.release()
        stage.start_service()
        ends_once(stage, run)
        assert stage.outcomes() == ["never submitted", "finished"]
        assert len(stage.slurm_jobs()) == 1
        assert lost.name not in stage.slurm_jobs()


def test_killed_again_and_again(slurm: PrivateSlurm) -> None:
    """Whatever it was doing each time: every job runs once."""
    chance = random.Random(20)
    with scene(slurm) as stage:
        names = [f"j{number}" for number in range(12)]
        run = stage.push(workflow(**{name: once(stage, name, "sleep 1") for name in names}))
        for _ in range(6):
            time.sleep(chance.uniform(0.3, 2.0))
            crash(stage)
            stage.start_service(wait=chance.random() < 0.5)
        assert Counter(stage.until_completed(run, 120).values()) == {"success": 12}
        stage.ends_clean(90)
        assert ran(stage) == dict.fromkeys(names, 1)
        # A configuration that was minted, and whose answer died with the service, costs its Slurm job.
        outcomes = Counter(stage.outcomes())
        assert outcomes["finished"] == 12
        assert outcomes.keys() <= {"finished", "never submitted", "ended without a job", "withdrawn"}
        assert len(stage.slurm_jobs()) == len(stage.records()) - outcomes["never submitted"]
        assert outcomes.total() <= 24


def withdraw_an_idle_one(stage: Scene, *faults: Fault) -> None:
    """A runner that is online without a job, and has just been withdrawn."""
    gate = Gate(stage)
    forgone = stage.push(workflow(b=job()))
    stage.until(lambda: list(stage.github.runners.values()), 20, "the runner is registered")
    stage.faults.faults = list(faults)
    stage.github.cancel_run("lab/demo", forgone.id)
    gate.open()
    stage.until(reached(stage, "withdrawn_at"), 30, "the idle runner is withdrawn")
