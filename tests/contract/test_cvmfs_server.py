"""The stand-in for cvmfs_server, held to each row of what a real 2.12 stratum 0 was seen to do."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.cvmfs_bench import NAME

from slurm_gha.testing.cvmfs_server.directory import Stage
from slurm_gha.testing.cvmfs_server.repository import Repository


@pytest.fixture
def publishing(stage: Stage, repository: Repository) -> Iterator[subprocess.Popen[str]]:
    """A publish of an open transaction with one file, whose cvmfs_swissknife is at work until told otherwise."""
    assert stage.run("transaction", NAME).returncode == 0
    (repository.mount / "file").write_text("new")
    stage.control.set(hold=True)
    process = subprocess.Popen(
        [stage.server, "publish", NAME], cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: (repository.store / "syncing").exists())
    yield process
    stage.control.set()
    process.kill()
    process.communicate()
    until(lambda: lock_is_free(repository))


def until(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def lock_is_free(repository: Repository) -> bool:
    lock = repository.lock()
    if lock is not None:
        os.close(lock)
    return lock is not None


def is_open(repository: Repository) -> bool:
    return repository.in_transaction and repository.writable and stat.S_IMODE(repository.mount.stat().st_mode) == 0o755


def is_idle(repository: Repository) -> bool:
    read_only = not repository.writable and stat.S_IMODE(repository.mount.stat().st_mode) == 0o555
    return not repository.in_transaction and read_only


def says(answer: subprocess.CompletedProcess[str], code: int, *, out: str = "", err: str = "") -> bool:
    """Whether exit code and streams are these; a stream that nothing is expected on must be empty."""
    assert answer.returncode == code, answer
    for expected, stream in ((out, answer.stdout), (err, answer.stderr)):
        assert expected in stream if expected else stream == "", answer
    return True


def test_a_new_repository_is_idle_and_read_only(repository: Repository) -> None:
    assert is_idle(repository)


def test_a_transaction_is_silent_and_makes_it_writable(stage: Stage, repository: Repository) -> None:
    assert says(stage.run("transaction", NAME), 0)
    assert is_open(repository)


def test_publish_makes_a_revision_and_goes_back_to_idle(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    (repository.mount / "file").write_text("new")
    assert stage.run("publish", NAME).returncode == 0
    assert is_idle(repository)
    published = repository.spool / "rdonly"
    assert (published / "file").read_text() == "new"
    assert os.getxattr(published, "user.revision") == b"2"


def test_abort_discards(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    (repository.mount / "file").write_text("new")
    assert says(stage.run("abort", "-f", NAME), 0)
    assert is_idle(repository)
    assert list(repository.mount.iterdir()) == []


def test_a_second_transaction_gets_17(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    assert says(stage.run("transaction", NAME), 17, err="another transaction is already open")
    assert is_open(repository)


def test_with_t_a_second_transaction_tries_until_the_time_is_over(stage: Stage) -> None:
    stage.run("transaction", NAME)
    began = time.monotonic()
    assert says(stage.run("transaction", "-t", "1", NAME), 17, err="another transaction is already open")
    assert time.monotonic() - began >= 1


def test_with_t_a_second_transaction_gets_its_turn(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    waiting = subprocess.Popen([stage.server, "transaction", "-t", "60", NAME], cwd="/")
    stage.run("abort", "-f", NAME)
    assert waiting.wait(30) == 0
    assert is_open(repository)


def test_a_transaction_while_a_publish_runs_gets_1(stage: Stage, publishing) -> None:
    answer = stage.run("transaction", NAME)
    place = stage.repository(NAME).mount
    assert says(answer, 1, err=f"is in a transaction but {place} is not mounted read/write")


def test_while_it_is_published_it_is_read_only(repository: Repository, publishing) -> None:
    assert repository.in_transaction
    assert stat.S_IMODE(repository.mount.stat().st_mode) == 0o555


def test_publish_without_a_transaction_says_so_on_its_standard_output(stage: Stage) -> None:
    assert says(stage.run("publish", NAME), 1, out=f"Repository {NAME} is not in a transaction")


def test_abort_without_a_transaction_gets_22(stage: Stage) -> None:
    assert says(stage.run("abort", "-f", NAME), 22, err=f"Repository {NAME} is not in a transaction")


def test_abort_takes_the_end_of_its_input_for_yes(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    assert stage.run("abort", NAME, text="").returncode == 0
    assert is_idle(repository)


def test_abort_takes_no_for_no(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    assert stage.run("abort", NAME, text="n\n").returncode == 1
    assert is_open(repository)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["transaction"], "Unable to find the configuration file"),
        (["abort", "-f"], "Unable to find the configuration file"),
        (["publish"], "does not exist"),
    ],
)
def test_an_unknown_repository(stage: Stage, command: list[str], text: str) -> None:
    assert says(stage.run(*command, "other.example.org"), 1, err=text)


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["transaction"], 1, "Permission error: No write permission"),
        (["abort", "-f"], 1, "Permission error: No write permission"),
        (["publish"], 2, "is_publishing.lock"),
    ],
)
def test_another_owner_s_repository(stage: Stage, command: list[str], code: int, text: str) -> None:
    stage.create("theirs.example.org", owner="somebody-else")
    assert says(stage.run(*command, "theirs.example.org"), code, err=text)


def test_publish_from_inside_the_repository(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    answer = stage.run("publish", NAME, cwd=repository.mount)
    assert says(answer, 1, err=f"Current working directory is in {repository.mount}")
    assert is_open(repository)


def test_publish_with_a_file_open_for_writing(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    with (repository.mount / "file").open("w"):
        assert says(stage.run("publish", NAME), 1, out=f"Open writable file descriptors on {NAME}")
        assert is_open(repository)
    assert stage.run("publish", NAME).returncode == 0


def test_publish_f_gives_readers_time_and_goes_on(stage: Stage, repository: Repository) -> None:
    stage.control.set(grace=0.3)
    stage.run("transaction", NAME)
    (repository.mount / "file").write_text("new")
    with (repository.mount / "file").open():
        began = time.monotonic()
        assert stage.run("publish", "-f", NAME).returncode == 0
        assert time.monotonic() - began >= 0.3
    assert is_idle(repository)


def test_a_publish_during_a_publish(stage: Stage, publishing) -> None:
    assert says(stage.run("publish", NAME), 1, err="Another publish process is active")


def test_a_web_server_that_is_down(stage: Stage, repository: Repository) -> None:
    stage.control.set(web_server="down")
    assert says(stage.run("transaction", NAME), 5, err="cannot load whitelist")
    assert is_idle(repository)


@pytest.mark.parametrize("arguments", [["transaction", "--no-such", NAME], ["publish"], ["ingest", NAME], ["what"], []])
def test_a_bad_option_gets_the_usage(stage: Stage, arguments: list[str]) -> None:
    assert says(stage.run(*arguments), 3, err="Usage")


def test_a_failed_publish_keeps_the_transaction_with_its_changes(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    (repository.mount / "file").write_text("new")
    stage.control.set(fail={"publish": 1})
    assert stage.run("publish", NAME).returncode == 1
    assert is_open(repository)
    assert (repository.mount / "file").read_text() == "new"
    assert list((repository.spool / "rdonly").iterdir()) == []
    assert stage.run("publish", NAME).returncode == 0
    assert (repository.spool / "rdonly" / "file").read_text() == "new"


def test_a_publish_that_is_terminated_leaves_it_open(stage: Stage, repository: Repository, publishing) -> None:
    publishing.send_signal(signal.SIGTERM)
    assert publishing.wait(30) == 1
    assert is_open(repository)
    stage.control.set()
    assert stage.run("publish", NAME).returncode == 0
    assert (repository.spool / "rdonly" / "file").read_text() == "new"


def test_a_killed_publish_leaves_its_child_with_the_lock_and_cannot_be_repaired(
    stage: Stage, repository: Repository, publishing
) -> None:
    publishing.kill()
    publishing.wait()
    assert not lock_is_free(repository)
    assert says(stage.run("publish", NAME), 1, err="Another publish process is active")
    stage.control.set()
    until(lambda: lock_is_free(repository))
    assert says(stage.run("publish", NAME), 1, err="cannot be repaired")
    assert says(stage.run("transaction", NAME), 1, err="not mounted read/write")
    assert repository.in_transaction
    assert not repository.writable


def broken(stage: Stage) -> None:
    stage.run("transaction", NAME)
    (stage.repository(NAME).mount / "file").write_text("new")
    stage.control.set(kill={"publish": "sync"})
    assert stage.run("publish", NAME).returncode == -signal.SIGKILL
    until(lambda: lock_is_free(stage.repository(NAME)))


def test_mount_keeps_the_changes_of_a_broken_transaction(stage: Stage, repository: Repository) -> None:
    broken(stage)
    assert stage.run("mount", NAME).returncode == 0
    assert is_open(repository)
    assert stage.run("publish", NAME).returncode == 0
    assert (repository.spool / "rdonly" / "file").read_text() == "new"


def test_abort_discards_a_broken_transaction(stage: Stage, repository: Repository) -> None:
    broken(stage)
    assert says(stage.run("abort", "-f", NAME), 0)
    assert is_idle(repository)
    assert list((repository.spool / "rdonly").iterdir()) == []


def test_publish_keeps_modes_and_breaks_hard_links_with_a_warning(stage: Stage, repository: Repository) -> None:
    stage.run("transaction", NAME)
    (repository.mount / "program").write_text("x")
    (repository.mount / "program").chmod(0o4711)
    os.link(repository.mount / "program", repository.mount / "same")
    (repository.mount / "closed").mkdir(0o700)
    answer = stage.run("publish", NAME)
    assert "hard links" in answer.stderr
    published = repository.spool / "rdonly"
    assert stat.S_IMODE((published / "program").stat().st_mode) == 0o4711
    assert stat.S_IMODE((published / "closed").stat().st_mode) == 0o700
    assert (published / "program").stat().st_nlink == (published / "same").stat().st_nlink == 1


def make_archive(place: Path) -> Path:
    (place / "tree" / "usr").mkdir(parents=True)
    (place / "tree" / "usr" / "file").write_text("from the archive")
    with tarfile.open(place / "tree.tar", "w") as archive:
        archive.add(place / "tree", ".")
    return place / "tree.tar"


def test_ingest_takes_an_archive_in_without_a_transaction(stage: Stage, repository: Repository, tmp_path: Path) -> None:
    answer = stage.run("ingest", "-t", str(make_archive(tmp_path)), "-b", "images/one", "-c", NAME)
    assert says(answer, 0)
    assert is_idle(repository)
    for tree in (repository.spool / "rdonly", repository.mount):
        assert (tree / "images/one/usr/file").read_text() == "from the archive"
        assert (tree / "images/one/.cvmfscatalog").exists()
        assert (tree / "images/one/usr/file").stat().st_uid == os.geteuid()


def test_a_failed_ingest_aborts_its_own(stage: Stage, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_text("no archive")
    assert stage.run("ingest", "-t", str(tmp_path / "bad.tar"), "-b", "images/one", "-c", NAME).returncode == 1
    assert is_idle(repository)
    assert list((repository.spool / "rdonly").iterdir()) == []


def test_an_ingest_never_touches_another_s_transaction(stage: Stage, repository: Repository, tmp_path: Path) -> None:
    stage.run("transaction", NAME)
    (repository.mount / "theirs").write_text("x")
    answer = stage.run("ingest", "-t", str(make_archive(tmp_path)), "-b", "images/one", "-c", NAME)
    assert says(answer, 17, err="another transaction is already open")
    assert is_open(repository)
    assert (repository.mount / "theirs").exists()


def test_every_publish_leaves_a_tag_that_pins_its_data(stage: Stage, repository: Repository) -> None:
    for tag in ([], ["-a", "release"]):
        stage.run("transaction", NAME)
        stage.run("publish", *tag, NAME)
    names = [line.split()[0] for line in stage.run("tag", "-l", NAME).stdout.splitlines()]
    assert names[0].startswith("generic-")
    assert names[1] == "release"
    stage.run("transaction", NAME)
    stage.run("publish", NAME)
    assert stage.run("gc", "-f", NAME).returncode == 0
    assert repository.revision(2).exists()
    stage.run("tag", "-r", names[0], NAME)
    assert stage.run("gc", "-f", NAME).returncode == 0
    assert not repository.revision(2).exists()
    assert repository.revision(3).exists()
    assert stage.run("check", NAME).returncode == 0


def test_a_node_sees_a_revision_only_after_its_refresh(stage: Stage, repository: Repository) -> None:
    node = stage.node("n1")
    assert list(node.iterdir()) == []
    stage.refresh("n1", NAME)
    stage.run("transaction", NAME)
    (repository.mount / "file").write_text("new")
    stage.run("publish", NAME)
    assert not (node / NAME / "file").exists()
    stage.refresh("n1", NAME)
    assert (node / NAME / "file").exists()


def test_writing_while_it_is_read_only_is_found_out(stage: Stage, repository: Repository) -> None:
    repository.mount.chmod(0o755)
    (repository.mount / "file").write_text("root can do that")
    answer = stage.run("transaction", NAME)
    assert says(answer, 70, err="was written while it was read-only")


def test_faults_are_counted_down(stage: Stage) -> None:
    stage.control.set(fail={"transaction": 1})
    assert [stage.run("transaction", NAME).returncode for _ in range(2)] == [1, 0]
    assert json.loads((stage.root / "control.json").read_text()) == {"fail": {"transaction": 0}}
