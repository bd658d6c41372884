"""What can go wrong with images. Each text is one sentence for the person at the terminal."""

from __future__ import annotations

import errno


class ImageError(Exception):
    """It cannot be done; the text says what, where, and what to do."""


class NoSuchImage(ImageError):
    """The catalogue has no image of that name or digest."""


class MissingTool(ImageError):
    """A program or right that is needed is not there."""


class CommandFailed(ImageError):
    """A program ended with an error; the text has its last words."""


class DiskFull(ImageError):
    """No space is left. What was written for this command is removed; what was there before is still there."""


FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a full file system, or a used-up quota, answers."""


def disk_full(where: object, doing: str) -> DiskFull:
    """The sentence about a full disk."""
    return DiskFull(
        f"no space left in {where} while {doing}; nothing in the catalogue was changed: make room, for example with "
        "slurm-gha image gc, or name a --work-dir with more of it"
    )
