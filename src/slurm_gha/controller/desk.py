"""What a claim ends in: a configuration, or one of three refusals."""

from __future__ import annotations

from dataclasses import dataclass

from slurm_gha.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Claimed:
    """A runner's JIT configuration, and the token with which its node may report from now on."""

    config: Secret
    report_token: Secret


class DeskError(Exception):
    """A claim or report that got no yes."""


class DemandGone(DeskError):
    """Nobody needs the runner any more: its Slurm job should end at once, quietly."""


class ClaimRefused(DeskError):
    """The claim is not worth anything: a wrong or used secret, or a Slurm job that does not run.

    The text is for the service's log; the node learns only that it was refused.
    """


class TryLater(DeskError):
    """Nothing is wrong with the claim, but it cannot be answered now: again in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"try again in {seconds:g} s")
        self.seconds = seconds
