"""What GitHub answered last, by URL, so that an unchanged page costs nothing counted."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

LONGEST_ETAG = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One page: its ETag exactly as sent (weak mark included), the value made of it, and the next page's URL.

    ``weight`` is roughly how many domain values it holds.
    """

    etag: str
    value: Any
    next_url: str | None = None
    weight: int = 1


class EtagCache:
    """Entries by URL, bounded by their summed weight; the one longest unused goes first.

    A thousand repositories with 10,000 jobs weigh about 20,000. Where pages are asked for in turn, a cache that is too
    small for all of them keeps none that is asked for next.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        return self._weight

    def get(self, url: str) -> Entry | None:
        entry = self._entries.get(url)
        if entry is not None:
            self._entries.move_to_end(url)
        return entry

    def put(self, url: str, entry: Entry) -> None:
        """Keep the entry; one with an absurd ETag or too heavy for the cache is not kept."""
        self.forget(url)
        if len(entry.etag) > LONGEST_ETAG or entry.weight > self._capacity:
            return
        self._entries[url] = entry
        self._weight += entry.weight
        while self._weight > self._capacity:
            _, oldest = self._entries.popitem(last=False)
            self._weight -= oldest.weight

    def forget(self, url: str) -> None:
        entry = self._entries.pop(url, None)
        if entry is not None:
            self._weight -= entry.weight
