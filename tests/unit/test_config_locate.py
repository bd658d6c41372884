"""Line numbers: whatever tomllib reads, every key and item of it is found, on the line where it stands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_gha.config.locate import locate
from slurm_gha.config.mistakes import KeyPath

DOCUMENT = '''\
# a comment with [brackets] and "quotes
title = "x # no comment"
a.b.c = 1
"quoted key".'literal "key"' = 2

[service]  # comment
listen = """
[not.a.table]
x = 1
"""  # still one value
literal = \'\'\'
y = [
\'\'\'
when = 1979-05-27 07:32:00
[[pool]]
name = "one"
labels = [
  "first",  # a comment, with "quotes" ]
  # between
  [1,
   2], { deep = [
  "down"] },

  "last"
]
[pool.slurm]
cpus = 1
[pool.slurm.more.most]
z = { a = 1, b.c = [ {d = 1}, {d = 2} ] }
[[pool]]
name = "two"
environment = { A = "}", "B=" = ']' }
[[pool.sub]]
[[pool.sub]]
deep = true
slashes = "a\\\\"
ends = """"quoted""""'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("a",), 3),
        (("a", "b", "c"), 3),
        (("quoted key", 'literal "key"'), 4),
        (("service",), 6),
        (("service", "listen"), 7),
        (("service", "literal"), 11),
        (("service", "when"), 14),
        (("pool",), 15),
        (("pool", 0), 15),
        (("pool", 0, "labels"), 17),
        (("pool", 0, "labels", 0), 18),
        (("pool", 0, "labels", 1, 1), 21),
        (("pool", 0, "labels", 2, "deep", 0), 22),
        (("pool", 0, "labels", 3), 24),
        (("pool", 0, "slurm", "cpus"), 27),
        (("pool", 0, "slurm", "more"), 28),
        (("pool", 0, "slurm", "more", "most", "z", "b", "c", 1, "d"), 29),
        (("pool", 1, "environment", "B="), 32),
        (("pool", 1, "sub", 0), 33),
        (("pool", 1, "sub", 1), 34),
        (("pool", 1, "sub", 1, "ends"), 37),
        (("pool", 1, "missing", "deeper"), 30),
        (("nothing",), 1),
    ],
)
def test_places(path: KeyPath, line: int) -> None:
    assert locate(DOCUMENT).of(path) == line
    assert locate(DOCUMENT.replace("\n", "\r\n")).of(path) == line


def paths(value: Any, at: KeyPath = ()) -> Iterator[KeyPath]:
    if at:
        yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from paths(part, (*at, key))


def test_everything_is_found() -> None:
    lines = locate(DOCUMENT)
    for path in paths(tomllib.loads(DOCUMENT)):
        assert path in lines, path


keys = st.text(max_size=6) | st.sampled_from(["a", "b", "a-b", "", "a.b", '"', "'", "#", "]", "[[x]]"])
gaps = st.sampled_from(["", " ", "\n", '  # note ] } = "\n', "\n\n"])
scalars = (
    st.text(max_size=12).map(json.dumps)
    | st.text(alphabet="ab'\"\n#[]={}, ", max_size=12).map(lambda t: '"""' + t.replace('"', '\\"') + '"""')
    | st.text(alphabet='ab"#[]={}, \\', max_size=12).map(lambda t: f"'{t}'")
    | st.sampled_from(["1", "-1.5e3", "true", "inf", "0x1F", "1979-05-27", "07:32:00", '""""a""""', "'''a'''''"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(st.tuples(inner, gaps, gaps), max_size=3).map(
            lambda items: "[" + "".join(f"{before}{item}{after}," for item, before, after in items) + "]"
        )
        | st.lists(st.tuples(keys, inner), max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda items: "{" + ", ".join(f"{json.dumps(key)} = {item}" for key, item in items) + "}"
        )
    ),
    max_leaves=8,
)
pairs = st.lists(st.tuples(keys, values, gaps), max_size=4, unique_by=lambda pair: pair[0])
headers = st.sampled_from(["[[t]]", "[[t.u]]", "[t.v]", "[w]", '["x.y"]', "[ z . 'q' ]"])
documents = st.tuples(pairs, st.lists(st.tuples(headers, pairs), max_size=5))


def written(document: Any) -> str:
    top, tables = document
    text = ""
    for header, body in [("", top), *tables]:
        text += f"{header}\n" + "".join(f"{json.dumps(key)} = {value}\n{gap.lstrip()}\n" for key, value, gap in body)
    return text


@settings(max_examples=300)
@given(documents)
def test_every_key_of_any_document_is_found_on_a_line_that_holds_it(document: Any) -> None:
    text = written(document)
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeEncodeError):
        return  # a table declared twice, a lone surrogate
    lines, rows = locate(text), text.split("\n")
    for path in paths(data):
        assert path in lines, path
        key = path[-1]
        if isinstance(key, str) and key.isalnum():
            assert key in rows[lines.of(path) - 1] or json.dumps(key)[1:-1] in rows[lines.of(path) - 1]
