"""The stratum 0 as we use it: steps of ``stratum.sh``, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from slurm_gha.images.cvmfs import answers, commands
from slurm_gha.images.cvmfs.answers import Answer, Listing, Reading, Verdict
from slurm_gha.images.cvmfs.errors import CvmfsError, HostUnreachable, NotUsable, PublishFailed, TransactionLost
from slurm_gha.images.cvmfs.runner import Edge, Feed
from slurm_gha.images.cvmfs.settings import CvmfsSettings

_NOBODY = "-"
Whose = Literal["ours", "published", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Stratum:
    """A repository's stratum 0, here or by ssh."""

    settings: CvmfsSettings
    edge: Edge

    def step(self, token: str, verb: str, *arguments: str, feed: Feed | None = None) -> Answer:
        """One step, whatever comes of it. None has a time-out: a publish may rightly take an hour."""
        return self.edge.run(commands.step(self.settings, token, verb, *arguments), feed)

    def must(self, token: str, verb: str, *arguments: str, feed: Feed | None = None) -> Answer:
        """One step that has to work; raises the error that says why it did not."""
        answer = self.step(token, verb, *arguments, feed=feed)
        reading = answers.step(self.settings, answer)
        if reading.verdict is not Verdict.DONE:
            raise self.error(f"{verb} failed", reading)
        return answer

    def error(self, what: str, reading: Reading) -> CvmfsError:
        """The error that a verdict comes to."""
        kind: type[CvmfsError] = {
            Verdict.REFUSED: NotUsable,
            Verdict.UNREACHABLE: HostUnreachable,
            Verdict.GONE: TransactionLost,
        }.get(reading.verdict, PublishFailed)
        return kind(f"{self.settings.where}: {what}: {reading.reason}")

    def published(self) -> Listing:
        """What the published revision holds."""
        return answers.listing(self.must(_NOBODY, "list").output)

    def leftover(self, owner: str) -> str | None:
        """The token of the open transaction that an earlier publication of ``owner``'s has left, if there is one."""
        return answers.leftover(self.must(_NOBODY, "leftover", owner).output)

    def whose(self, token: str) -> Whose:
        """What became of the transaction with ``token``; raises HostUnreachable or NotUsable."""
        word = self.must(token, "whose").output.strip()
        return cast(Whose, word) if word in ("ours", "published", "none") else "unknown"
