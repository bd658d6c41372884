"""What can go wrong between us and Slurm."""

from __future__ import annotations


class SlurmError(Exception):
    """Any failure of a Slurm command."""


class SlurmUnreachable(SlurmError):
    """No answer: the controller is down, or the command ran into its time-out. Nothing is known.

    ``unclear`` is True when a submission may have happened all the same.
    """

    def __init__(self, message: str, *, unclear: bool = False) -> None:
        super().__init__(message)
        self.unclear = unclear


class SubmissionRefused(SlurmError):
    """Slurm said no; the text is Slurm's own."""
