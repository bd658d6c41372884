"""Asks GitHub about the scale sets that a configuration means: are they there, with which labels, and read by whom?

Nothing is made or changed, but that a session is opened and closed again: GitHub tells in no other way who has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from slurm_gha.cli.inquiry import Answer, Verdict
from slurm_gha.config.mistakes import shown
from slurm_gha.domain.scaleset import ScaleSet
from slurm_gha.github.errors import GitHubError, NotFound
from slurm_gha.github.scaleset.errors import SessionConflict
from slurm_gha.github.scaleset.values import Session
from slurm_gha.sources.scaleset import Wanted


class QueueDesk(Protocol):
    """What is asked of one scope; :class:`slurm_gha.github.scaleset.client.ScaleSetClient` fits."""

    async def group_id(self, name: str) -> int: ...

    async def find(self, name: str, group_id: int) -> ScaleSet | None: ...

    async def open_session(self, scale_set_id: int, owner: str) -> Session: ...

    async def close_session(self, session: Session) -> None: ...


async def ask_queues(
    desks: Mapping[str, AbstractAsyncContextManager[QueueDesk]], wanted: Sequence[Wanted], installation: str
) -> list[Answer]:
    """For each scale set that should be there what GitHub says of it. ``desks`` by scope."""
    answers: list[Answer] = []
    for scope, opening in desks.items():
        try:
            async with opening as desk:
                for each in wanted:
                    if each.place.scope == scope:
                        answers += await _ask(desk, each, installation)
        except GitHubError as error:
            answers.append(Answer(Verdict.FALSE, f"scale sets of {scope}", f"GitHub: {_line(error)}"))
    return answers


async def _ask(desk: QueueDesk, wanted: Wanted, installation: str) -> list[Answer]:
    subject = f"scale set {wanted.name}"
    try:
        group = await desk.group_id(wanted.group) if wanted.group else wanted.group_id
    except NotFound as error:
        return [Answer(Verdict.FALSE, subject, _line(error))]
    found = await desk.find(wanted.name, group)
    if found is None:
        return [Answer(Verdict.TRUE, subject, "is not there yet; the service makes it")]
    return [_labels(subject, found, wanted), await _reader(desk, subject, found, installation)]


def _labels(subject: str, found: ScaleSet, wanted: Wanted) -> Answer:
    kept, lost = (_line(", ".join(sorted(labels))) for labels in (found.labels, wanted.all_labels - found.labels))
    if not lost:
        return Answer(Verdict.TRUE, subject, f"exists; runs-on may use {kept}")
    text = (
        f"exists, but GitHub has only the labels {kept}, not {lost}; unless the service can add them, runs-on must do"
    )
    return Answer(Verdict.DOUBTFUL, subject, f"{text} with those")


async def _reader(desk: QueueDesk, subject: str, found: ScaleSet, installation: str) -> Answer:
    try:
        session = await desk.open_session(found.id, f"slurm-gha {installation}, check")
    except SessionConflict as error:
        if f"slurm-gha {installation} on " in str(error):
            return Answer(Verdict.TRUE, subject, "its queue is read by this installation's service")
        return Answer(Verdict.DOUBTFUL, subject, f"its queue is read by another controller: {_line(error)}")
    await desk.close_session(session)
    return Answer(Verdict.TRUE, subject, "nobody reads its queue at the moment")


def _line(words: object) -> str:
    return shown(" ".join(str(words).split()), longest=300)
