"""Every command and each of its options is written about somewhere in the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from slurm_gha.cli import main

ROOT = Path(__file__).parents[2]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def commands(group: click.Group, words: tuple[str, ...] = ("slurm-gha",)) -> Iterator[tuple[str, click.Command]]:
    """Each command that does something, with what is typed for it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


@pytest.mark.parametrize(("typed", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands(main)])
def test_it_is_documented(typed: str, command: click.Command) -> None:
    verb = typed.split()[-1]
    assert typed in TEXT or (typed.count(" ") > 1 and f"### `{verb}`" in TEXT), f"nothing is said of {typed}"
    options = [one for each in command.params if isinstance(each, click.Option) for one in each.opts]
    missing = [option for option in options if option.startswith("--") and option not in TEXT]
    assert missing == [], f"nothing is said of these options of {typed}"
