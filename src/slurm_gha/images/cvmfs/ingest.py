"""Publication by ``cvmfs_server ingest``: the archive goes straight into the repository's storage."""

from __future__ import annotations

from pathlib import Path

from slurm_gha.images.cvmfs import answers, archive
from slurm_gha.images.cvmfs.answers import Verdict
from slurm_gha.images.cvmfs.archive import Progress
from slurm_gha.images.cvmfs.errors import PublishFailed
from slurm_gha.images.cvmfs.patience import Patience
from slurm_gha.images.cvmfs.record import Record
from slurm_gha.images.cvmfs.stratum import Stratum


def ingest(source: Path, digest: str, stratum: Stratum, record: Record, patience: Patience, progress: Progress) -> None:
    """Publish the image, without a name.

    The archive is kept in a file on the stratum 0, and its length compared, before it is taken in: a stream that
    breaks off between two entries looks to ``ingest`` like an archive that ends there.
    """
    settings = stratum.settings
    token = record.token()
    lengths: list[int] = []
    record.write(token, "ingesting")
    try:
        answer = stratum.must(
            token,
            "receive",
            feed=lambda stream: lengths.append(archive.write(source, stream, stratum.edge.now(), progress)),
        )
        if [answers.kept(answer.output)] != lengths:
            raise PublishFailed(f"{settings.where}: the archive did not arrive there whole")
        while True:
            reading = answers.opening(settings, stratum.step(token, "ingest", f"{settings.prefix}/{digest}"))
            if reading.verdict is Verdict.DONE:
                break
            if reading.verdict is not Verdict.BUSY:
                raise stratum.error("ingest failed", reading)
            patience.wait(reading.reason)
    finally:
        if stratum.step(token, "forget").exit_code == 0:
            record.clear()
