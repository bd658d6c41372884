"""The command line's frame: lazy commands, helpful refusals, configuration mistakes without a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from slurm_gha import __version__
from slurm_gha.cli import COMMANDS, main
from slurm_gha.config.mistakes import ConfigError, Mistake


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for name in ("run", "check", "status", "demo"):
        assert f"  {name} " in result.output


def test_help_imports_no_command() -> None:
    script = (
        "import sys; from slurm_gha.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'httpx2', 'starlette', 'rich', 'slurm_gha.testing'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert isinstance(command, click.Command)
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert command.help


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"slurm-gha {__version__}\n"


def test_an_unknown_command_is_refused_in_one_sentence() -> None:
    result = CliRunner().invoke(main, ["chekc"])
    assert result.exit_code == 2
    assert "No such command 'chekc'" in result.output


def test_mistakes_in_the_configuration_end_any_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ConfigError([Mistake("c.toml", 3, "service.listen", "must be x"), Mistake("c.toml", 0, "", "unreadable")])

    monkeypatch.setattr(type(main), "get_command", lambda self, ctx, name: broken)
    result = CliRunner().invoke(main, ["broken"])
    assert result.exit_code == 1
    assert result.stderr == "c.toml:3: service.listen: must be x\nc.toml: unreadable\n"


def test_the_installed_command_is_this_one() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "slurm-gha", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"slurm-gha {__version__}\n"
