"""Waiting until nodes see what was published.

A client looks for a new revision when its time to live is over (240 s by default), and remembers until then that a path
was not there. So the revision is asked for first, and the path only when it should be there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_gha.domain.units import show_duration
from slurm_gha.images.cvmfs import answers, commands
from slurm_gha.images.cvmfs.errors import NotYetSeen
from slurm_gha.images.cvmfs.patience import Say
from slurm_gha.images.cvmfs.publish import Published
from slurm_gha.images.cvmfs.runner import Edge, SystemEdge
from slurm_gha.images.cvmfs.settings import CvmfsSettings

INTERVAL = 5.0
LOOK_TIMEOUT = 60.0
DEFAULT_TIMEOUT = 600.0
"""Two and a half times the usual time to live."""


@dataclass(frozen=True, slots=True)
class Node:
    """Where to look: ``prefix`` is put before the commands (``("srun", "-w", "n1")``, ``("ssh", "n1")``); without one,
    this machine itself is looked at."""

    label: str
    prefix: tuple[str, ...] = ()


HERE = Node("this machine")


@dataclass(slots=True)
class _View:
    """What a node was last seen to have. ``looked_at``: the revision at the last look for the path."""

    trouble: str = "it was not looked at"
    looked_at: int | None = None


def wait(
    published: Published,
    settings: CvmfsSettings,
    *,
    nodes: Sequence[Node] = (HERE,),
    timeout: float = DEFAULT_TIMEOUT,
    say: Say = lambda line: None,
    edge: Edge | None = None,
) -> None:
    """Return when all ``nodes`` see the image; raises NotYetSeen with what the first of the others has."""
    edge = edge if edge is not None else SystemEdge()
    views = {node: _View() for node in nodes}
    began = edge.now()
    while True:
        for node in list(views):
            if _sees(published, settings, node, views[node], edge):
                say(f"{node.label} sees {published.path}")
                del views[node]
        if not views:
            return
        if edge.now() - began >= timeout:
            node, view = next(iter(views.items()))
            others = f" (and {len(views) - 1} more)" if len(views) > 1 else ""
            raise NotYetSeen(
                f"{node.label}{others} does not see {published.path} after {show_duration(timeout)}: {view.trouble}; "
                f"wait longer, or run there as root: cvmfs_talk -i {settings.repository} remount sync"
            )
        edge.sleep(INTERVAL)


def _sees(published: Published, settings: CvmfsSettings, node: Node, view: _View, edge: Edge) -> bool:
    revision, trouble = _revision(settings, node, edge)
    if revision is None:
        view.trouble = trouble
        return False
    if published.revision is not None and revision < published.revision:
        view.trouble = f"it has revision {revision}, and the image came with {published.revision}"
        return False
    if published.revision is None and revision == view.looked_at:
        return False
    view.looked_at = revision
    found, trouble = _look(published.path, node, edge)
    view.trouble = f"in revision {revision}, {trouble}"
    return found


def _revision(settings: CvmfsSettings, node: Node, edge: Edge) -> tuple[int | None, str]:
    mount = str(settings.mount)
    if not node.prefix:
        try:
            # By its path: autofs mounts a repository when it is asked for, and shows nothing before.
            return answers.revision(os.getxattr(mount, "user.revision").decode()), f"{mount} has no revision"
        except OSError as error:
            absent = error.errno in (errno.ENODATA, errno.ENOTSUP)
            return None, f"{mount} is no CVMFS mount" if absent else f"{mount}: {error.strerror}"
    answer = edge.run(commands.revision(settings, node.prefix), timeout=LOOK_TIMEOUT)
    if answer.exit_code != 0:
        return None, f"its revision cannot be read: {answer.words}"
    return answers.revision(answer.output), f"getfattr gave no revision but {answer.words!r}"


def _look(path: str, node: Node, edge: Edge) -> tuple[bool, str]:
    if not node.prefix:
        try:
            os.stat(path)
        except OSError as error:
            return False, f"the path cannot be seen: {error.strerror}"
        return True, ""
    answer = edge.run(commands.look(path, node.prefix), timeout=LOOK_TIMEOUT)
    return answer.exit_code == 0, f"the path cannot be seen: {answer.words}"
