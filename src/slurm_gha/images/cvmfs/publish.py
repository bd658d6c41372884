"""Publication of one image, whole or not at all, and the name that moves to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slurm_gha.images.cvmfs import archive, transaction
from slurm_gha.images.cvmfs.archive import Progress
from slurm_gha.images.cvmfs.ingest import ingest
from slurm_gha.images.cvmfs.patience import Patience, Say
from slurm_gha.images.cvmfs.record import Record
from slurm_gha.images.cvmfs.runner import Edge, SystemEdge
from slurm_gha.images.cvmfs.settings import CvmfsSettings, is_digest, is_name
from slurm_gha.images.cvmfs.stratum import Stratum
from slurm_gha.images.cvmfs.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Published:
    """An image that is published: its path on nodes, the revision that has it (None if the stratum 0 has no getfattr
    to tell it), and whether anything had to be done."""

    path: str
    revision: int | None
    changed: bool


def publish(
    source: Path,
    digest: str,
    name: str | None,
    settings: CvmfsSettings,
    *,
    state_dir: Path,
    progress: Progress = lambda size, entries: None,
    say: Say = lambda line: None,
    edge: Edge | None = None,
) -> Published:
    """Publish ``source`` (a directory or a tar archive) as ``digest``, and move ``name`` to it.

    ``state_dir``: the catalogue's directory for work in progress; what is open on the stratum 0 is noted there.
    ``say`` is told of every wait and every recovery. Does nothing if both are published already. Raises CvmfsError
    with one sentence, after the transaction was given back; ValueError for a digest or name that is none.
    """
    if not is_digest(digest):
        raise ValueError(f"a digest is 64 hexadecimal digits, not {digest!r}")
    if name is not None and not is_name(name):
        raise ValueError(f"a name is letters, digits and _ . -, at most 128, not {name!r}")
    edge = edge if edge is not None else SystemEdge()
    now = edge.now()

    def feed(stream: IO[bytes]) -> None:
        archive.write(source, stream, now, progress)

    patience = Patience(edge, say, settings.where, settings.max_wait)
    stratum = Stratum(settings, edge)
    with Record.hold(state_dir, settings, patience) as record:
        transaction.tidy(stratum, record, patience, say)
        before = stratum.published()
        there = digest in before.images
        if there and (name is None or before.names.get(name) == digest):
            return Published(settings.path(digest), before.revision, changed=False)
        if not there:
            archive.check(source)
            if settings.method == "ingest":
                ingest(source, digest, stratum, record, patience, progress)
                there = True
        if not there or name is not None:
            with Transaction(stratum, record, patience, say) as ours:
                ours.open()
                if not there:
                    ours.unpack(feed)
                ours.seal(digest, name)
                ours.publish()
        return Published(settings.path(digest), stratum.published().revision, changed=True)
