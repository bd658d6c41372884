"""Calls, answers and the table of routes: plain values, and a match by segments that costs a few microseconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from slurm_gha.testing.github.errors import Unprocessable
from slurm_gha.testing.github.values import Token

PER_PAGE = 30
PER_PAGE_LIMIT = 100


@dataclass(slots=True)
class Call:
    """One request, with the parts of its path by name."""

    token: Token
    parts: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one is empty."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Unprocessable("Problems parsing JSON") from error
        if not isinstance(value, dict):
            raise Unprocessable("Body should be a JSON object")
        return value

    def number(self, name: str) -> int:
        """A part of the path that is an id; anything else is nobody's, -1."""
        text = self.parts[name]
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. ``paged`` is (page, per page, number of items) where a Link header may be due."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kind: bytes = b"application/json; charset=utf-8"
    paged: tuple[int, int, int] | None = None


Handler = Callable[[Call], Answer]
Version = Callable[[Call], Callable[[], object]]
"""Gives, for a call, a cheap question whose answer changes whenever the call's answer might."""


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of the table. A GET without ``version`` is made anew each time; ``listing`` says that it may lag.

    ``by_app``: for Apps that sign for themselves (JSON web token), and for nobody else.
    """

    method: str
    template: str
    handler: Handler
    version: Version | None = None
    listing: bool = False
    counted: bool = True
    by_app: bool = False

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"


class Table:
    """Routes by method and number of segments."""

    def __init__(self, routes: list[Route]) -> None:
        self._routes: dict[tuple[str, int], list[tuple[tuple[str, ...], Route]]] = {}
        for route in routes:
            segments = tuple(route.template.strip("/").split("/"))
            self._routes.setdefault((route.method, len(segments)), []).append((segments, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route of a path and its named parts."""
        given = path.strip("/").split("/")
        for segments, route in self._routes.get((method, len(given)), ()):
            parts: dict[str, str] = {}
            for segment, text in zip(segments, given, strict=True):
                if segment[0] == "{":
                    parts[segment[1:-1]] = text
                elif segment != text:
                    break
            else:
                return route, parts
        return None


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, to_json(value))


def page_of(query: Mapping[str, str]) -> tuple[int, int]:
    """(page, per page) as GitHub reads them: out of range is brought into range, nonsense is the default."""

    def number(name: str, default: int, limit: int) -> int:
        text = query.get(name, "")
        return min(max(int(text), 1), limit) if text.isascii() and text.isdigit() else default

    return number("page", 1, 1_000_000), number("per_page", PER_PAGE, PER_PAGE_LIMIT)


def listing(key: str | None, fragments: list[bytes], paged: tuple[int, int, int], total: int | None = None) -> Answer:
    """A page of a listing: the items' JSON is given; ``key`` None makes a bare array."""
    items = b"[" + b",".join(fragments) + b"]"
    count = paged[2] if total is None else total
    body = items if key is None else b'{"total_count":%d,"%s":%s}' % (count, key.encode(), items)
    return Answer(200, body, paged=paged)


def read_query(text: bytes) -> dict[str, str]:
    return dict(parse_qsl(text.decode("latin-1"), keep_blank_values=True)) if text else {}


def links(base: str, query: Mapping[str, str], paged: tuple[int, int, int]) -> str:
    """The Link header of a page, or an empty text when there is but one."""
    page, per_page, count = paged
    last = max(1, -(-count // per_page))
    wanted: list[tuple[str, int]] = []
    if page > 1:
        wanted += [("prev", min(page - 1, last))]
    if page < last:
        wanted += [("next", page + 1), ("last", last)]
    if page > 1:
        wanted += [("first", 1)]
    return ", ".join(f'<{base}?{urlencode({**query, "page": str(number)})}>; rel="{rel}"' for rel, number in wanted)
