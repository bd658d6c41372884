"""The table [images.cvmfs], and the settings that publication takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from slurm_gha.config.cvmfs import CvmfsTable
from slurm_gha.images.cvmfs.settings import CvmfsSettings


def test_the_least_that_must_be_said() -> None:
    table = CvmfsTable.model_validate({"repository": "images.example.org"})
    assert table.model_dump() == {
        "repository": "images.example.org",
        "host": None,
        "user": None,
        "prefix": "images",
        "method": "transaction",
        "max_wait": 1800.0,
        "wait": 600.0,
    }


def test_its_defaults_are_those_of_publication() -> None:
    table = CvmfsTable.model_validate({"repository": "images.example.org"}).model_dump(exclude={"wait"})
    settings = CvmfsSettings(**table)
    assert {field.name: getattr(settings, field.name) for field in fields(settings)} == {
        field.name: getattr(CvmfsSettings("images.example.org"), field.name) for field in fields(settings)
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"repository": "a b"}, "name of a repository"),
        ({"repository": "-f"}, "name of a repository"),
        ({"host": "-oProxyCommand=x"}, "name or address of a machine"),
        ({"user": "cvmfs"}, "needs host"),
        ({"host": "h", "user": "-l"}, "letters, digits"),
        ({"prefix": "/images"}, "relative path"),
        ({"prefix": "a/../b"}, "relative path"),
        ({"method": "rsync"}, "transaction"),
        ({"max_wait": 30}, "duration"),
        ({"wait": "soon"}, "duration"),
        ({"branch": "x"}, "Extra inputs"),
    ],
)
def test_what_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CvmfsTable.model_validate({"repository": "images.example.org", **wrong})


@pytest.mark.parametrize("name", ["repository", "host", "prefix"])
@pytest.mark.parametrize("value", ["x", "a.b", "a/b", "a//b", "-a", "a b", "", ".a", "a_b-c", "::1", "é", "a\n"])
def test_table_and_settings_agree(name: str, value: str) -> None:
    values = {"repository": "images.example.org", name: value}

    def accepted(kind: Any) -> bool:
        try:
            kind(**values)
        except ValueError:
            return False
        return True

    assert accepted(CvmfsTable) == accepted(CvmfsSettings)
