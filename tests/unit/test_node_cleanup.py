"""What a runner leaves behind, on every way out: nothing. What belongs to others: untouched."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.node_bench import LASTING, QUICK, Bench, open_bench

ORPHANS = """
setsid nohup sleep 611 >/dev/null 2>&1 &
(setsid nohup sleep 612 & ) # holds the output open
env -i setsid sleep 613 >/dev/null 2>&1 &
cd / && env -i PATH="$PATH" sh -c 'cd "$0"; exec setsid sleep 614' "$TMPDIR" >/dev/null 2>&1 &
sleep 0.3
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        yield bench


def _running(*arguments: str) -> bool:
    wanted = "\0".join(arguments) + "\0"
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_text(errors="replace") == wanted:
                return True
        except OSError:
            continue
    return False


def test_orphans_are_found_by_their_environment_or_directory(bench: Bench) -> None:
    bench.install_runner(QUICK + ORPHANS)
    job = bench.run()
    assert job.code == 0, job.output
    assert bench.desk.events[-1] == "ended"
    for number in ("611", "612", "613", "614"):
        assert not _running("sleep", number)
    assert bench.nothing_left()


def test_processes_that_multiply_are_caught(bench: Bench) -> None:
    chain = "f() { sleep 0.02; if ((n++ < 3000)); then f & fi; }; n=0; for i in 1 2 3; do f & done"
    bench.install_runner(QUICK + f"bash -c '{chain}' >/dev/null 2>&1 &\n")
    job = bench.run()
    assert job.code == 0
    # Killed is not yet gone on a busy machine; left alone, the chain would go on for a minute.
    patience = time.monotonic() + 10
    while not bench.nothing_left() and time.monotonic() < patience:
        time.sleep(0.1)
    assert bench.nothing_left(), job.processes()


def test_a_job_of_the_same_number_on_another_cluster_is_left_alone(bench: Bench) -> None:
    number = 700_000_000 + os.getpid()
    environment = {"SLURM_JOB_ID": str(number), "SLURM_CLUSTER_NAME": "another"}
    with subprocess.Popen(["/bin/sleep", "60"], env=environment) as other:
        try:
            assert bench.run(job_id=number).code == 0
            assert other.poll() is None
        finally:
            other.kill()


def test_read_only_trees_are_removed(bench: Bench) -> None:
    bench.install_runner(
        QUICK + 'mkdir -p "$TMPDIR/mod/a/b"; echo x >"$TMPDIR/mod/a/b/c"; chmod -R a-w "$TMPDIR/mod"\n'
    )
    assert bench.run().code == 0
    assert bench.nothing_left()


def test_links_are_not_followed(bench: Bench, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    precious.chmod(0o755)
    bench.install_runner(QUICK + f'ln -s {precious} "$TMPDIR/link"; mkdir "$TMPDIR/ro"; chmod a-w "$TMPDIR/ro"\n')
    assert bench.run().code == 0
    assert (precious / "file").exists()
    assert stat.S_IMODE(precious.stat().st_mode) == 0o755
    assert bench.nothing_left()


def test_two_at_once_do_not_meet_and_runner_dir_is_never_written(bench: Bench) -> None:
    (bench.runner_dir / "bin/data").write_text("x" * 1000)
    bench.install_runner("echo changed >bin/data; echo new >new; mkdir _work _diag; chmod -R a-w _work\n" + QUICK)
    before = _fingerprint(bench.runner_dir)
    first, second = bench.start(), bench.start()
    assert (first.wait(), second.wait()) == (0, 0)
    assert _fingerprint(bench.runner_dir) == before
    assert len({claim[2] for claim in bench.desk.claims}) == 2
    assert bench.nothing_left()


def test_what_a_killed_script_left_is_swept_by_the_next(bench: Bench) -> None:
    bench.install_runner(LASTING)
    killed = bench.start()
    killed.until(lambda: "listening" in bench.desk.events)
    killed.kill_with_its_guard()
    assert killed.job_dir.exists()
    assert len(killed.processes()) >= 2
    bench.install_runner(QUICK)
    job = bench.run()
    assert job.code == 0
    assert f"removing {killed.job_dir}" in job.output
    job.until(bench.nothing_left)


def test_the_guard_of_a_killed_script_cleans_up_at_once(bench: Bench) -> None:
    bench.install_runner(LASTING)
    killed = bench.start()
    killed.until(lambda: "listening" in bench.desk.events)
    killed.signal(signal.SIGKILL)
    killed.wait()
    killed.until(bench.nothing_left)
    assert f"the script of Slurm job {killed.job_id} was killed; cleaning up after it" in killed.output


def test_a_live_runner_is_not_swept(bench: Bench) -> None:
    bench.install_runner(LASTING)
    live = bench.start()
    live.until(lambda: "listening" in bench.desk.events)
    bench.install_runner(QUICK)
    assert bench.run().code == 0
    assert live.process.poll() is None
    assert (live.job_dir / "runner/run.sh").exists()
    live.signal(signal.SIGTERM)
    assert live.wait() == 143
    assert bench.nothing_left()


def test_an_earlier_start_of_the_same_job_makes_way(bench: Bench) -> None:
    bench.install_runner(LASTING)
    first = bench.start()
    first.until(lambda: "listening" in bench.desk.events)
    first.signal(signal.SIGKILL)
    first.wait()
    bench.install_runner(QUICK)
    again = bench.run(job_id=first.job_id)
    assert again.code == 0, again.output
    again.until(bench.nothing_left)


def test_directories_that_are_not_ours_to_sweep_stay(bench: Bench) -> None:
    young = bench.node_dir / "sg-1"  # without a lock: its script may be about to take it
    old = bench.node_dir / "sg-2"
    named = bench.node_dir / "sg-mine"
    for directory in (young, old, named):
        directory.mkdir()
    long_ago = time.time() - 3600
    os.utime(old, (long_ago, long_ago))
    os.utime(named, (long_ago, long_ago))
    (bench.node_dir / "sg-3").symlink_to(bench.home)
    job = bench.start()
    job.wait()
    assert {path.name for path in bench.node_dir.iterdir()} == {"sg-1", "sg-mine", "sg-3"}
    assert bench.home.exists()


def test_a_directory_whose_script_is_just_about_to_lock_it_is_not_swept(bench: Bench) -> None:
    shims = bench.directory / "shims"
    shims.mkdir()
    (shims / "flock").write_text('#!/bin/sh\ncd "${0%/*}" && : >reached && until test -e go; do sleep 0.05; done\n')
    with (shims / "flock").open("a") as shim:
        shim.write('exec /usr/bin/flock "$@"\n')
    (shims / "flock").chmod(0o755)
    slow = bench.start(environment={"PATH": f"{shims}:/usr/local/bin:/usr/bin:/bin"})
    slow.until((shims / "reached").exists)
    quick = bench.run()
    (shims / "go").touch()
    assert slow.wait() == 0, slow.output
    assert quick.code == 0, quick.output
    assert bench.nothing_left()


def test_the_directory_of_a_live_script_of_the_same_number_is_refused(bench: Bench) -> None:
    taken = bench.node_dir / "sg-4"
    taken.mkdir()
    with (taken / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        job = bench.run(job_id=4)
    assert job.code == 72
    assert f"cannot make {taken} on node n1" in job.output
    assert taken.exists()
    assert bench.desk.claims == []


def _fingerprint(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, content)
    return found


@pytest.mark.slow
def test_a_service_that_hangs_at_the_end_is_not_waited_for_long(bench: Bench) -> None:
    """The last report's curl is ended too."""
    bench.desk.report_delay = 30
    bench.install_runner(QUICK)
    job = bench.run()
    assert job.code == 0
    assert bench.nothing_left(), job.processes()
