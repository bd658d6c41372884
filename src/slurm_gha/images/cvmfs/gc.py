"""Removing images from a repository: those that no name means, nobody uses, and that are old enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slurm_gha.images.cvmfs import transaction
from slurm_gha.images.cvmfs.answers import Listing
from slurm_gha.images.cvmfs.patience import Patience, Say
from slurm_gha.images.cvmfs.record import Record
from slurm_gha.images.cvmfs.runner import Edge, SystemEdge
from slurm_gha.images.cvmfs.settings import CvmfsSettings, is_digest
from slurm_gha.images.cvmfs.stratum import Stratum
from slurm_gha.images.cvmfs.transaction import Transaction


def unneeded(published: Listing, min_age: float, in_use: Callable[[str], bool], now: float) -> tuple[str, ...]:
    """The digests that may go. The youngest image stays in any case."""
    named = set(published.names.values())
    images = {digest: when for digest, when in published.images.items() if is_digest(digest)}
    # Times are whole seconds: of two from the same one, that with a name.
    youngest = max(images, key=lambda digest: (images[digest], digest in named, digest), default=None)
    return tuple(
        digest
        for digest in sorted(images)
        if digest != youngest and digest not in named and now - images[digest] >= min_age and not in_use(digest)
    )


def collect(
    settings: CvmfsSettings,
    min_age: float,
    in_use: Callable[[str], bool],
    *,
    state_dir: Path,
    dry_run: bool = False,
    say: Say = lambda line: None,
    edge: Edge | None = None,
) -> tuple[str, ...]:
    """Remove what is unneeded, in one transaction, and give the digests.

    ``min_age``: seconds since the publication. ``in_use`` tells whether a job uses an image; it is asked again once
    the transaction is open. Raises CvmfsError, and then nothing is removed.
    """
    edge = edge if edge is not None else SystemEdge()
    patience = Patience(edge, say, settings.where, settings.max_wait)
    stratum = Stratum(settings, edge)
    if dry_run:
        return unneeded(stratum.published(), min_age, in_use, edge.now())
    with Record.hold(state_dir, settings, patience) as record:
        transaction.tidy(stratum, record, patience, say)
        if not unneeded(stratum.published(), min_age, in_use, edge.now()):
            return ()
        with Transaction(stratum, record, patience, say) as ours:
            ours.open()
            # Nobody but us can publish now: a name that has moved in the meantime is seen.
            digests = unneeded(stratum.published(), min_age, in_use, edge.now())
            if not digests:
                ours.give_back()
                return ()
            ours.remove(digests)
            ours.publish()
        return digests
