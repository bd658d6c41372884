"""How the scale-set service behaves: what is known to differ between services, and what is known to go wrong."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400.0
POLL_SECONDS = 50.0
MESSAGE_ITEMS = 50
"""A message holds no more items than this (actions/scaleset, README.md)."""


@dataclass(frozen=True, slots=True)
class ScaleSetBehaviour:
    """The defaults are those of github.com, where they are known. All times in seconds.

    ``acquire`` is the way of GHES: jobs are announced, and assigned once they are acquired. An announced job that
    nobody acquires is announced again after ``available_timeout``.
    ``request_ids`` False leaves ``runnerRequestId`` 0, as github.com does (never with ``acquire``); ``run_ids`` False
    does so for ``workflowRunId``.
    ``several_labels`` False keeps a scale set's name as its one label and says nothing, as some GHES do.
    ``unknown_items`` puts an item of an unknown type into every message; ``byte_order_mark`` begins every other JSON
    body with one.
    ``skip_read`` has a session not see again what its ``lastMessageId`` says it has seen; a new session does.
    ``statistics_messages`` tells of changed statistics also when there is no item to go with them.
    ``assignment_timeout`` is how long an assigned job waits for a runner before it is taken back and, after the next of
    ``requeue_delays``, assigned again; when these are used up it stays assigned.
    ``completed_early`` is how long after its start a job is called completed although it runs (None: never).
    ``session_timeout`` is the silence after which a session is over; ``abandoned_after`` is how long a scale set lives
    without one (None: for ever).
    """

    acquire: bool = False
    request_ids: bool = False
    run_ids: bool = True
    several_labels: bool = True
    unknown_items: bool = False
    byte_order_mark: bool = False
    skip_read: bool = False
    statistics_messages: bool = True
    poll_seconds: float = POLL_SECONDS
    admin_token_lifetime: float = 3600.0
    queue_token_lifetime: float = 3600.0
    session_timeout: float = 120.0
    available_timeout: float = 60.0
    assignment_timeout: float = 600.0
    requeue_delays: tuple[float, ...] = (30.0, 120.0, 300.0)
    completed_early: float | None = None
    abandoned_after: float | None = DAY
