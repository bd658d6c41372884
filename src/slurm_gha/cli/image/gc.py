"""``slurm-gha image gc``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import anyio
import click

from slurm_gha.cli.image.listing import bytes_in_words
from slurm_gha.cli.image.options import find_place, place_options
from slurm_gha.cli.image.progress import reporter
from slurm_gha.cli.options import DEFAULT_CONFIG
from slurm_gha.domain.units import parse_duration
from slurm_gha.images import collecting
from slurm_gha.images.collecting import LiveJobs
from slurm_gha.images.to_cvmfs import collect_cvmfs
from slurm_gha.slurm.cluster import SlurmCluster
from slurm_gha.slurm.errors import SlurmError


@click.command()
@place_options
@click.option("--grace", default="1d", show_default=True, help="How long an image stays after its last change.")
@click.option("--dry-run", "-n", is_flag=True, help="Say what would be removed, and remove nothing.")
def command(config: Path | None, directory: Path | None, grace: str, dry_run: bool) -> None:
    """Remove images that have no name and are not in use.

    An image goes when no name points at it, no live job of this user has marked it or began while it had a name, and
    its last change is older than --grace. A Slurm that cannot be read keeps everything, and makes the exit status 1.
    Files of unpacked trees that no tree uses any more go as well, and with [images.cvmfs] what the catalogue no longer
    has goes from that repository.
    """
    try:
        seconds = parse_duration(grace)
    except ValueError as error:
        raise click.UsageError(f"--grace {grace}: {error}") from None
    place = find_place(config, directory)
    catalogue = place.catalogue
    now = time.time()
    found = collecting.candidates(catalogue)
    open_question = any(collecting.may_go(candidate, now, seconds) for candidate in found)
    jobs: LiveJobs | None = None
    trouble = ""
    if open_question:
        try:
            jobs = anyio.run(_ask, config)
        except SlurmError as error:
            trouble = str(error)
    removed = 0
    for candidate in found:
        decision = collecting.decide(candidate, now, seconds, jobs)
        label = f"{decision.image.digest[:12]} ({bytes_in_words(decision.image.size)})"
        if not decision.remove:
            click.echo(f"keeps {label}: {decision.why}")
            continue
        if not dry_run:
            collecting.remove(catalogue, decision.image)
        removed += 1
        click.echo(f"{'would remove' if dry_run else 'removed'} {label}: {decision.why}")
    if jobs is not None and not dry_run:
        collecting.drop_markers(catalogue, jobs)
    freed = collecting.drop_objects(catalogue, dry_run=dry_run)
    verb = "would be" if dry_run else "were"
    click.echo(f"{removed} of {len(found)} images {verb} removed, and {bytes_in_words(freed)} of files in no tree")
    if place.cvmfs is not None and not trouble:
        gone = collect_cvmfs(catalogue, place.cvmfs_settings(), seconds, dry_run=dry_run, reporter=reporter())
        click.echo(f"{len(gone)} images {verb} removed from {place.cvmfs.repository}")
    if trouble:
        click.echo(
            f"slurm-gha image: Slurm cannot be read, so nothing that jobs may use was removed: {trouble}", err=True
        )
        sys.exit(1)


async def _ask(config: Path | None) -> LiveJobs:
    """One squeue, for all jobs of this user, and the cluster's name."""
    cluster = _cluster(config)
    jobs = await cluster.live_jobs()
    return LiveJobs({job.id: job.started_at for job in jobs}, await cluster.name())


def _cluster(config: Path | None) -> SlurmCluster:
    """Slurm as the configuration says; without one, as the machine says."""
    path = config if config is not None else DEFAULT_CONFIG
    if config is None and not path.exists():
        return SlurmCluster("none")
    from slurm_gha.config.loading import load

    settings = load(path)
    slurm = settings.slurm
    return SlurmCluster(
        settings.service.installation, bin_dir=slurm.bin_dir, conf=slurm.conf, timeout=slurm.command_timeout
    )
