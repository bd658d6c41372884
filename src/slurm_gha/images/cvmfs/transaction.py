"""One transaction of ours, from its opening to its publication or its end; nobody else's is ever touched.

Each step on the stratum 0 first makes sure that the open transaction carries our token. The record says on our side
what is open there, so that the next publication finds what a killed one has left.
"""

from __future__ import annotations

import contextlib

from slurm_gha.images.cvmfs import answers
from slurm_gha.images.cvmfs.answers import Reading, Verdict
from slurm_gha.images.cvmfs.errors import CvmfsError, HostUnreachable, PublishFailed, StillBusy, TransactionLost
from slurm_gha.images.cvmfs.patience import Patience, Say
from slurm_gha.images.cvmfs.record import Record
from slurm_gha.images.cvmfs.runner import Feed
from slurm_gha.images.cvmfs.stratum import Stratum

TRIES = 3
"""How often a publish that fails for no known reason is tried."""

SIGHTINGS = 3
"""How often a transaction must be looked for in vain until it counts as lost: a publish remounts the repository."""


class Transaction:
    """Use as a context: leaving it by an error gives the transaction back, unless its publish may still be going on."""

    def __init__(
        self, stratum: Stratum, record: Record, patience: Patience, say: Say, *, token: str | None = None
    ) -> None:
        self._stratum = stratum
        self._record = record
        self._patience = patience
        self._say = say
        self.token = token if token is not None else record.token()
        self._publishing = token is not None

    def open(self) -> None:
        """Open it, waiting for others'; raises StillBusy, NotUsable, HostUnreachable or PublishFailed."""
        settings = self._stratum.settings
        self._record.write(self.token, "filling")
        while True:
            reading = answers.opening(settings, self._stratum.step(self.token, "open"))
            if reading.verdict is Verdict.DONE:
                return
            if reading.verdict is not Verdict.BUSY:
                raise self._stratum.error("no transaction can be opened", reading)
            if recover(self._stratum, self._record, self._patience, self._say):
                self._record.write(self.token, "filling")
                continue
            self._patience.wait(
                reading.reason,
                f"if nobody is at work there, look at it and end it with: cvmfs_server abort {settings.repository}",
            )

    def unpack(self, feed: Feed) -> None:
        """Put the archive that ``feed`` writes under a temporary name."""
        self._stratum.must(self.token, "unpack", feed=feed)

    def seal(self, digest: str, name: str | None) -> None:
        """Give what was unpacked its digest for a name, then move ``name`` to it."""
        self._stratum.must(self.token, "seal", digest, name or "")

    def remove(self, digests: tuple[str, ...]) -> None:
        """Remove images."""
        self._stratum.must(self.token, "remove", *digests)

    def publish(self) -> None:
        """Publish it, and again as long as there is hope; raises the error that ends it."""
        self._record.write(self.token, "publishing")
        self._publishing = True
        failures = repairs = missed = 0
        while True:
            reading = answers.publishing(self._stratum.settings, self._stratum.step(self.token, "publish"))
            match reading.verdict:
                case Verdict.DONE:
                    return
                case Verdict.BUSY | Verdict.UNREACHABLE:
                    self._wait(reading)
                case Verdict.BROKEN if repairs < TRIES:
                    repairs += 1
                    self._say(f"{self._stratum.settings.where}: {reading.reason}; its changes are taken up again")
                    self._stratum.step(self.token, "repair")
                case Verdict.GONE:
                    if self._stratum.whose(self.token) == "published":
                        return
                    missed += 1
                    if missed >= SIGHTINGS:
                        raise TransactionLost(
                            f"{self._stratum.settings.where}: our transaction was ended by somebody else; "
                            "nothing of it is published"
                        )
                    self._wait(reading)
                case Verdict.FAILED if failures < TRIES - 1:
                    failures += 1
                    self._wait(reading)
                case _:
                    raise self._stratum.error("publish failed", reading)

    def give_back(self) -> bool:
        """End it without publishing, if it is open and ours; False if that could not be done, or not be known."""
        try:
            self._record.write(self.token, "ending")  # what an abort that is killed may leave is not to be published
            for _ in range(2):
                whose = self._stratum.whose(self.token)
                if whose != "ours":
                    return whose != "unknown"
                if self._stratum.step(self.token, "abort").exit_code == 0:
                    return True
        except CvmfsError:
            pass
        return False

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            self._record.clear()
            return
        if self._publishing and self._may_go_on(error):
            self._note(error, "it is taken up again by the next publication")
        elif self.give_back():
            self._record.clear()
        else:
            self._note(error, "our transaction could not be ended; the next publication tries again")

    def _may_go_on(self, error: BaseException) -> bool:
        """Whether a publish may be at work after ``error``. By ssh, an interrupt of ours does not reach it."""
        if isinstance(error, StillBusy | HostUnreachable):
            return True
        return not isinstance(error, Exception) and self._stratum.settings.host is not None

    def _note(self, error: BaseException, text: str) -> None:
        self._say(f"{self._stratum.settings.where}: {text}")
        error.add_note(text)

    def _wait(self, reading: Reading) -> None:
        self._patience.wait(reading.reason)


def recover(stratum: Stratum, record: Record, patience: Patience, say: Say) -> bool:
    """Deal with what a killed publication of ours left: finish what was sealed, give back what was not.

    Gives whether there was anything. Raises PublishFailed if it cannot be ended, or what ended its publish.
    """
    left = stratum.leftover(record.owner)
    if left is None:
        return False
    where = stratum.settings.where
    entry = record.read()
    transaction = Transaction(stratum, record, patience, say, token=left)
    if entry is not None and entry.token == left and entry.phase == "publishing":
        say(f"{where}: an earlier publication was broken off before its end; it is finished now")
        with contextlib.suppress(PublishFailed, TransactionLost), transaction:
            transaction.publish()
    else:
        say(f"{where}: an earlier publication was broken off half way; its transaction is given back")
        transaction.give_back()
    if stratum.leftover(record.owner) == left:
        raise PublishFailed(
            f"{where}: the transaction of an earlier publication cannot be ended; "
            f"end it with: cvmfs_server abort -f {stratum.settings.repository}"
        )
    return True


def tidy(stratum: Stratum, record: Record, patience: Patience, say: Say) -> None:
    """What every publication begins with: nothing of earlier ones is left."""
    entry = record.read()
    if entry is not None and entry.phase == "ingesting":
        stratum.step(entry.token, "forget")
    recover(stratum, record, patience, say)
    record.clear()
