"""A long poll over HTTP: it ends when its answer is there, or when the caller has hung up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.requests import Request

from slurm_gha.testing.github.errors import RefusedError

AnswerT = TypeVar("AnswerT")


async def until_hung_up(request: Request, wait: Callable[[], Awaitable[AnswerT | None]]) -> AnswerT | None:
    """What ``wait()`` gives, or raises as a refusal; None at once when the caller is not there any more."""
    found: AnswerT | None = None
    refusal: RefusedError | None = None

    async def watch(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, tasks.cancel_scope)
        try:
            found = await wait()
        except RefusedError as error:
            refusal = error
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
    return found
