"""Configurations handed over as files."""

from __future__ import annotations

import stat
from pathlib import Path

from slurm_gha.controller.handover import HandoverDirectory
from slurm_gha.domain.secret import Secret


def test_only_its_owner_can_read_a_configuration(tmp_path: Path) -> None:
    path = HandoverDirectory(tmp_path / "handover").write("sg-a-b-c", Secret("config"))
    assert path.read_text() == "config\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_renewed_configuration_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    handover = HandoverDirectory(tmp_path)
    handover.write("sg-a-b-c", Secret("old"))
    assert handover.write("sg-a-b-c", Secret("new")).read_text() == "new\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_writing_is_no_obstacle(tmp_path: Path) -> None:
    handover = HandoverDirectory(tmp_path)
    (tmp_path / "sg-a-b-c.new").write_text("half")
    assert handover.write("sg-a-b-c", Secret("whole")).read_text() == "whole\n"


def test_sweeping_keeps_what_belongs_to_open_runners(tmp_path: Path) -> None:
    handover = HandoverDirectory(tmp_path)
    for name in ("kept", "left"):
        handover.write(name, Secret("config"))
    (tmp_path / "other").write_text("not ours")
    handover.sweep({"kept"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.jit", "other"]


def test_removing_twice_is_no_error(tmp_path: Path) -> None:
    handover = HandoverDirectory(tmp_path)
    handover.write("name", Secret("config"))
    handover.remove("name")
    handover.remove("name")
    assert not list(tmp_path.iterdir())
