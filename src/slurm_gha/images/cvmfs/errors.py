"""What can go wrong between us and a CVMFS stratum 0. Each text is one sentence for an administrator."""

from __future__ import annotations


class CvmfsError(Exception):
    """Any failure of a publication."""


class NotUsable(CvmfsError):
    """The repository cannot be published to as things are set up; waiting would not help."""


class HostUnreachable(CvmfsError):
    """ssh did not get through to the stratum 0."""


class StillBusy(CvmfsError):
    """Somebody else's transaction or publish was still there when patience ended."""


class TransactionLost(CvmfsError):
    """Our transaction was ended by somebody else; nothing of it is published."""


class PublishFailed(CvmfsError):
    """A step failed and our transaction was given back; nothing of it is published."""


class BadTree(CvmfsError):
    """The tree or archive cannot be published."""


class NotYetSeen(CvmfsError):
    """Nodes did not see the new revision in time."""
