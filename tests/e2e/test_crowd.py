"""Many jobs at once."""

from __future__ import annotations

from collections import Counter

from tests.e2e.scene import CommandLog, Sources, job, pool, scene, workflow

from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.private_slurm import PrivateSlurm


def test_forty_jobs_at_once(slurm: PrivateSlurm, sources: Sources) -> None:
    log = CommandLog(slurm)
    with scene(slurm, sources=sources, pools=[pool(max_runners=40)], overrides=log.overrides) as stage:
        run = stage.push(workflow(many=job("true", strategy={"matrix": {"number": list(range(40))}})))
        stage.until(lambda: len(log.calls("sbatch")) == 40, 20, "all are submitted, running or not")
        conclusions = stage.until_completed(run, 120)
        assert Counter(conclusions.values()) == {"success": 40}
        stage.ends_clean()
        assert Counter(stage.slurm_jobs().values()) == {"COMPLETED": 40}
        assert len({each.runner_name for each in stage.github.present_jobs(run)}) == 40
        assert Counter(stage.outcomes()) == {"finished": 40}
        assert len(log.calls("sbatch")) == 40, "one Slurm job a workflow job"


def test_limits_hold(slurm: PrivateSlurm, sources: Sources) -> None:
    with scene(slurm, sources=sources, pools=[pool(max_runners=2)]) as stage:
        run = stage.push(workflow(many=job("true", strategy={"matrix": {"number": list(range(6))}})))
        seen: list[int] = []

        def over() -> bool:
            seen.append(len(stage.live_slurm_jobs()))
            return run.status == "completed"

        stage.until(over, 60, "the run is over")
        assert Counter(stage.conclusions(run).values()) == {"success": 6}
        assert max(seen) <= 2
        stage.ends_clean()
        assert len(stage.records()) == 6


def test_stolen_labels_heal(slurm: PrivateSlurm, sources: Sources) -> None:
    """Runners take any job that their labels allow: those made for picky jobs are taken by easy ones."""
    # A runner that lost its job when it was online already waits for another until this time-out.
    pools = [pool("small", idle_timeout="5s"), pool("large", cpus=2, idle_timeout="5s")]
    with scene(slurm, sources=sources, pools=pools, behaviour=Behaviour(steal=True)) as stage:
        easy = job("sleep 1", labels=["self-hosted"], strategy={"matrix": {"number": list(range(6))}})
        picky = job("sleep 1", labels=["self-hosted", "large"], strategy={"matrix": {"number": list(range(4))}})
        run = stage.push(workflow(easy=easy, picky=picky))
        conclusions = stage.until_completed(run, 90)
        assert Counter(conclusions.values()) == {"success": 10}
        stage.ends_clean(60)
        assert set(stage.outcomes()) <= {"finished", "withdrawn"}
        for each in stage.github.present_jobs(run):
            assert "large" in str(each.runner_name) or each.key == "easy"
