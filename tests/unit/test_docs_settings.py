"""The settings reference: made from the schema, so a setting cannot be missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slurm_gha.config.options import ALLOWED
from slurm_gha.config.reference import SECTIONS, write_into

PAGE = (Path(__file__).parents[2] / "docs/administrators/settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_in_its_section_s_table(section: str) -> None:
    block = re.search(rf"<!-- settings: {re.escape(section)} -->(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert block is not None, f"docs/administrators/settings.md has no table for [{section}]"
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", block[1], re.MULTILINE))
    assert set(rows) == {field.alias or name for name, field in SECTIONS[section].model_fields.items()}
    for key, row in rows.items():
        meaning, written, default = re.split(r" (?<!\\)\| ", row)
        assert len(meaning) > 10, key
        assert written
        assert default


def test_every_option_is_listed() -> None:
    assert set(re.findall(r"^\| `--([a-z-]+)` \|", PAGE, re.MULTILINE)) == set(ALLOWED)


def test_the_tables_say_what_the_schema_says() -> None:
    hint = "run: python -m slurm_gha.config.reference docs/administrators/settings.md"
    assert write_into(PAGE) == PAGE, hint
