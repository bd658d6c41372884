"""A scale set's message queue: items become messages when they are read, and stay until they are acknowledged."""

from __future__ import annotations

import itertools

from slurm_gha.testing.github.scalesets.behaviour import MESSAGE_ITEMS
from slurm_gha.testing.github.scalesets.values import Item, QueueMessage, ScaleSet, Statistics


class Queues:
    """The messages of all scale sets; ids grow over all of them."""

    def __init__(self, first_id: int) -> None:
        self._ids = itertools.count(first_id)

    def put(self, scale_set: ScaleSet, item: Item) -> None:
        scale_set.items.append(item)
        scale_set.wake()

    def next(
        self, scale_set: ScaleSet, numbers: Statistics, *, after: int, statistics_alone: bool
    ) -> QueueMessage | None:
        """The oldest message not acknowledged whose id is above ``after``, else a new one; None: there is no news."""
        message = next((each for number, each in scale_set.messages.items() if number > after), None)
        if message is None and (scale_set.items or (statistics_alone and numbers != scale_set.told)):
            count = min(MESSAGE_ITEMS, len(scale_set.items))
            message = QueueMessage(next(self._ids), tuple(scale_set.items.popleft() for _ in range(count)))
            scale_set.messages[message.id] = message
        if message is not None:
            scale_set.told = numbers
        return message

    def acknowledge(self, scale_set: ScaleSet, message_id: int) -> None:
        """The message is not said again; one that is gone already is as good as acknowledged."""
        scale_set.messages.pop(message_id, None)
