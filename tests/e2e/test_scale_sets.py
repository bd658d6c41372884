"""Jobs through runner scale sets, on real Slurm: told by the queue, run, and seen off; also after a crash."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.e2e.scene import Scene, job, scene, workflow

from slurm_gha.service import JOURNAL_NAME
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.scalesets.behaviour import ScaleSetBehaviour
from slurm_gha.testing.private_slurm import PrivateSlurm

SOURCES = ("scaleset",)


def listens(stage: Scene) -> bool:
    status = stage.status()
    return status is not None and [each.standing for each in status.scale_sets] == ["listening"] * 2


def test_jobs_run_through_scale_sets_without_polling(slurm: PrivateSlurm) -> None:
    with scene(slurm, sources=SOURCES) as stage:
        stage.until(lambda: listens(stage), 20, "both queues are read")
        assert {each.name for each in stage.github.scale_sets.sets.values()} == {"small", "large"}
        run = stage.push(
            workflow(
                build=job("test $(nproc) -ge 1"),
                named=job("true", labels=["large"]),
                broken=job("false"),
            )
        )
        pushed = time.monotonic()
        assert stage.until_completed(run, 60) == {"build": "success", "named": "success", "broken": "failure"}
        print(f"a run of three jobs took {time.monotonic() - pushed:.1f} s")
        stage.until(lambda: all(record["closed_at"] for record in stage.records()), 70, "every record is closed")
        assert stage.outcomes() == ["finished"] * 3
        assert [record["scale_set"] for record in stage.records()] == [1] * 3
        counted = sum(count.counted for count in stage.limits.counters.values())
        print(f"{counted} counted REST calls")
        assert counted <= 2
        stage.stop_service()
        assert [each.session for each in stage.github.scale_sets.sets.values()] == [None, None]


def test_killed_with_a_job_running_the_session_is_taken_up_again(slurm: PrivateSlurm) -> None:
    with scene(slurm, sources=SOURCES) as stage:
        stage.until(lambda: listens(stage), 20, "both queues are read")
        run = stage.push(workflow(long=job("sleep 8"), then=job("true", needs="long")))
        stage.until_running(run, "long")
        stage.stop_service(signal.SIGKILL)
        sessions = {each.session.id for each in stage.github.scale_sets.sets.values() if each.session is not None}
        assert len(sessions) == 2
        stage.start_service()
        assert stage.until_completed(run, 60) == {"long": "success", "then": "success"}
        assert {each.session.id for each in stage.github.scale_sets.sets.values() if each.session} == sessions
        assert len(stage.records()) == 2
        stage.until(lambda: all(record["closed_at"] for record in stage.records()), 70, "every record is closed")
        assert stage.outcomes() == ["finished"] * 2


def test_a_run_that_is_cancelled_leaves_nothing_in_slurm(slurm: PrivateSlurm) -> None:
    with scene(slurm, sources=SOURCES) as stage:
        stage.until(lambda: listens(stage), 20, "both queues are read")
        stage.fill_cluster()
        run = stage.push(workflow(waits=job("true")))
        stage.until_slurm("PENDING")
        stage.github.cancel_run("lab/demo", run.id)
        stage.until(lambda: not stage.live_slurm_jobs(), 30, "the Slurm job is withdrawn")
        assert stage.outcomes() in (["withdrawn"], [None])


def test_a_journal_that_is_lost_costs_no_job_its_runner(slurm: PrivateSlurm) -> None:
    """The session's id is lost too: it ends by itself, and is waited for."""
    forgetful = Behaviour(scale_sets=ScaleSetBehaviour(session_timeout=5.0))
    with scene(slurm, sources=SOURCES, behaviour=forgetful) as stage:
        stage.until(lambda: listens(stage), 20, "both queues are read")
        run = stage.push(workflow(long=job("sleep 15"), then=job("true", needs="long")))
        stage.until_running(run, "long")
        stage.stop_service(signal.SIGKILL)
        for file in stage.state_dir.glob(f"{JOURNAL_NAME}*"):
            file.unlink()
        stage.start_service(wait=False)
        assert stage.until_completed(run, 90) == {"long": "success", "then": "success"}
        assert [record["scale_set"] for record in stage.records()] == [1, 1]
        assert stage.events("session_conflict")
        assert stage.events("runner_adopted")


def test_check_says_what_github_says_of_the_scale_sets(slurm: PrivateSlurm) -> None:
    with scene(slurm, sources=SOURCES) as stage:
        stage.until(lambda: listens(stage), 20, "both queues are read")
        assert "its queue is read by this installation's service" in checked(stage)
        stage.stop_service()
        assert "nobody reads its queue at the moment" in checked(stage)
        sets = stage.github.scale_sets
        for scale_set in list(sets.sets.values()):
            sets.sessions.open(scale_set, "somebody else", sets.tenant)
        assert "is read by another controller" in checked(stage)
        assert "somebody else" in checked(stage)


def checked(stage: Scene) -> str:
    command = [sys.executable, "-m", "slurm_gha", "check", "--config", str(stage.config)]
    done = subprocess.run(
        stage.slurm.as_user(command), env=stage.slurm.env, cwd=stage.base, capture_output=True, text=True, check=False
    )
    return done.stdout
