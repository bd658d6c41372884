"""One service to a state directory, and a lock that outlives no process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_gha.store.errors import AlreadyRunning, StoreError
from slurm_gha.store.lock import PATIENCE, StateLock, is_held

HOLDER = """
import sys, time
from pathlib import Path
from slurm_gha.store.lock import StateLock
lock = StateLock.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def no_sleep(seconds: float) -> None:
    pass


def test_a_second_service_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with StateLock.acquire(tmp_path):
        assert is_held(tmp_path)
        with pytest.raises(AlreadyRunning) as refusal:
            StateLock.acquire(tmp_path, sleep=no_sleep)
        assert refusal.value.pid == os.getpid()
        assert f"process {os.getpid()}" in str(refusal.value)
        assert str(tmp_path) in str(refusal.value)
    assert not is_held(tmp_path)
    StateLock.acquire(tmp_path, sleep=no_sleep).release()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=f"process {holder.pid} already serves"):
            StateLock.acquire(tmp_path, sleep=no_sleep)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with StateLock.acquire(tmp_path, sleep=no_sleep):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_children_do_not_hold_the_lock_on(tmp_path: Path) -> None:
    lock = StateLock.acquire(tmp_path)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        lock.release()
        assert not is_held(tmp_path)
        child.kill()


def test_somebody_who_only_asks_does_not_keep_a_service_from_starting(tmp_path: Path) -> None:
    asking = StateLock.acquire(tmp_path)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        asking.release()

    StateLock.acquire(tmp_path, sleep=sleep).release()
    assert slept == [PATIENCE]


def test_the_file_is_private_and_asking_makes_none(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert not (tmp_path / "lock").exists()
    with StateLock.acquire(tmp_path):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere/lock cannot be opened: No such file or directory"):
        StateLock.acquire(tmp_path / "nowhere")


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be opened"):
        StateLock.acquire(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_file_without_a_pid_still_refuses(tmp_path: Path) -> None:
    with StateLock.acquire(tmp_path):
        (tmp_path / "lock").write_text("gibberish\n")
        with pytest.raises(AlreadyRunning, match="another process already serves") as refusal:
            StateLock.acquire(tmp_path, sleep=no_sleep)
        assert refusal.value.pid is None
