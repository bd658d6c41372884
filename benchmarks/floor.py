"""The floor of a burst: the same batch scripts, with the same options, by bare sbatch, as many at a time."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from pathlib import Path

from slurm_gha.config.loading import load
from slurm_gha.config.schema import Settings
from slurm_gha.domain.pool import Pool
from slurm_gha.domain.runner import name_prefix, runner_name
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm import commands
from slurm_gha.slurm.script import batch_script, script_values
from slurm_gha.testing.stage import Stage

INSTALLATION = "floor"
_LIVE = "PENDING,RUNNING,COMPLETING,CONFIGURING"


class FloorError(Exception):
    """Bare sbatch did not do what it should."""


def submit_bare(stage: Stage, jobs: int, *, held: bool = False) -> float:
    """Submit ``jobs`` runners of the stage's first pool without the service; the seconds from first to last.

    xargs starts the sbatch commands, which is as little as there can be. The scripts run, and end as soon as the
    service has refused their claims, of which it knows nothing. Where nothing starts (``held``) they are cancelled.
    """
    settings = load(stage.config)
    pool = settings.policy().pools[0]
    folder = stage.base / f"floor-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o755)
    lines = [_argv(stage, settings, pool, folder, number) for number in range(jobs)]
    (width,) = {len(line) for line in lines}
    arguments = folder / "arguments"
    arguments.write_text("".join(f"{argument}\0" for line in lines for argument in line))
    sbatch = str(stage.slurm.bin_dir / "sbatch")
    together = str(settings.slurm.submit_concurrency)
    command = ["xargs", "-0", "-a", str(arguments), "-n", str(width), "-P", together, sbatch]
    environment = commands.environment(
        home=str(stage.slurm.home), user=stage.slurm.user, conf=stage.slurm.conf, epoch_times=False
    )
    began = time.perf_counter()
    done = subprocess.run(
        stage.slurm.as_user(command), env=environment, cwd="/", capture_output=True, text=True, timeout=300, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0 or len(done.stdout.split()) != jobs:
        raise FloorError(f"bare sbatch: exit code {done.returncode}: {done.stderr[-500:]}")
    if held:
        stage.slurm.run("scancel", *_live(stage))
    stage.until(lambda: not _live(stage), 300, "the floor's jobs are over")
    return seconds


def _argv(stage: Stage, settings: Settings, pool: Pool, folder: Path, number: int) -> list[str]:
    """What sbatch is told of one runner: everything that the service would say, but the script in a file."""
    name = runner_name(INSTALLATION, pool.name, secrets.token_hex(5))
    values = script_values(
        name,
        pool,
        Secret(secrets.token_urlsafe(32)),
        node_dir=str(settings.slurm.node_dir),
        node_url=settings.service.node_url,
        signal_before_end=settings.slurm.signal_before_end,
    )
    submission = Submission(
        name=name,
        request=pool.request,
        script=batch_script(values),
        comment=json.dumps({"installation": INSTALLATION, "pool": pool.name, "scope": "lab", "job": number}),
        output_path=str(settings.slurm.output_dir / f"{name}.log"),
        signal_before_end=int(settings.slurm.signal_before_end),
    )
    path = folder / f"{number}.sh"
    path.write_text(submission.script)
    path.chmod(0o600)
    os.chown(path, stage.slurm.uid, stage.slurm.gid)
    return [*commands.sbatch(submission)[1:], str(path)]


def _live(stage: Stage) -> list[str]:
    """The ids of the floor's jobs that are not over."""
    listing = stage.slurm.run("squeue", "-h", "-t", _LIVE, "-o", "%i %j").stdout.splitlines()
    jobs = (line.split() for line in listing)
    return [number for number, name in jobs if name.startswith(name_prefix(INSTALLATION))]
