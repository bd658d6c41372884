"""Several reads at once, where one that fails makes the whole worthless."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

from slurm_gha.github.errors import GitHubError

Value = TypeVar("Value")


async def together(reads: Sequence[Callable[[], Awaitable[Value]]]) -> list[Value]:
    """The values of all reads, in order. The first GitHubError ends the others and is raised as itself, in no group."""
    if len(reads) == 1:
        return [await reads[0]()]
    values: dict[int, Value] = {}
    failures: list[GitHubError] = []

    async with anyio.create_task_group() as group:

        async def one(position: int, read: Callable[[], Awaitable[Value]]) -> None:
            try:
                values[position] = await read()
            except GitHubError as error:
                failures.append(error)
                group.cancel_scope.cancel()

        for position, read in enumerate(reads):
            group.start_soon(one, position, read)
    if failures:
        raise failures[0]
    return [values[position] for position in range(len(reads))]
