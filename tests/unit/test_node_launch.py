"""What the runner finds when it is started, and how its end becomes the script's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.node_bench import QUICK, Bench, open_bench, service

from slurm_gha.slurm.script import part

LOOK = (
    """
env -0 >"$HOME/env"
umask >"$HOME/umask"
ls -l /proc/self/fd | grep -o ' [0-9]* ->.*' >"$HOME/fds"
grep -E '^Sig(Ign|Blk)' /proc/self/status >"$HOME/signals"
cp .setup_info "$HOME/setup_info"
[[ -L externals && ! -L bin ]] && cat externals/node20/node >"$HOME/externals"
"""
    + QUICK
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        yield bench


def _environment(bench: Bench) -> dict[str, str]:
    entries = (bench.home / "env").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_the_runners_surroundings(bench: Bench) -> None:
    bench.install_runner(LOOK)
    job = bench.run(bench.values(environment=(("GREETING", 'it\'s "$HOME" `id`\\'), ("LANG", "C.UTF-8"))))
    assert job.code == 0, job.output
    seen = _environment(bench)
    assert seen["GREETING"] == 'it\'s "$HOME" `id`\\'
    assert seen["HOME"] == str(bench.home)
    assert seen["TMPDIR"] == f"{job.job_dir}/tmp"
    assert seen["XDG_RUNTIME_DIR"] == f"{job.job_dir}/run"
    assert seen["RUNNER_MANUALLY_TRAP_SIG"] == "1"
    assert seen["ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"] == "1"
    assert ("RUNNER_ALLOW_RUNASROOT" in seen) == (os.geteuid() == 0)
    assert seen["SLURM_JOB_ID"] == str(job.job_id)
    assert not any(name.startswith("SG_") for name in seen)
    assert (bench.home / "umask").read_text() == "0022\n"
    assert (bench.home / "externals").read_text() == "large\n"
    info = json.loads((bench.home / "setup_info").read_text())
    assert info[0]["group"] == "Slurm"
    assert info[0]["detail"].startswith(f"Slurm job {job.job_id} on node n1, partition ci")


def test_the_runner_inherits_no_descriptor_and_no_ignored_signal(bench: Bench) -> None:
    bench.install_runner(LOOK)
    assert bench.run().code == 0
    descriptors = [line.split()[0] for line in (bench.home / "fds").read_text().splitlines()]
    # 0, 1 and 2, and the one with which ls looks; 255 is bash's own of a script.
    assert set(descriptors) - {"0", "1", "2", "3", "255"} == set()
    # Signals of 32 and above are not ours: whoever runs the tests may hand them down ignored.
    lines = (bench.home / "signals").read_text().splitlines()
    ignored = {line.split()[0]: int(line.split()[1], 16) & 0x7FFF_FFFF for line in lines}
    assert ignored == {"SigIgn:": 0, "SigBlk:": 0}


def test_the_output_tells_how_long_the_start_took(bench: Bench) -> None:
    bench.install_runner("echo 'slurm-gha: in the container'\n" + QUICK)
    before = time.time()
    job = bench.run()
    (started,) = re.findall(r"\Aslurm-gha: started at (\d+\.\d{3})\n", job.output)
    assert before - 0.001 <= float(started) <= time.time()
    marks = re.findall(r"^slurm-gha: (.*) after (\d+\.\d{3}) s$", job.output, re.MULTILINE)
    assert [what for what, _ in marks] == ["configured", "container running", "listening"]
    assert [float(after) for _, after in marks] == sorted(float(after) for _, after in marks)
    assert "in the container" not in job.output, "that line is for the script alone"


def test_without_any_environment_there_is_a_sane_path_and_a_home(bench: Bench) -> None:
    bench.install_runner(
        f'HOME_SEEN=$HOME; HOME={bench.home}\nenv -0 >"$HOME/env"\necho "$HOME_SEEN" >"$HOME/seen"\n' + QUICK
    )
    assert bench.run(environment={"PATH": None, "HOME": None}).code == 0
    assert _environment(bench)["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert (bench.home / "seen").read_text().startswith("/")


def test_a_home_that_does_not_exist_is_replaced_by_a_private_one(bench: Bench) -> None:
    bench.install_runner(f'echo x >"$HOME/file" && echo "$HOME" >{bench.home}/seen\n' + QUICK)
    job = bench.run(environment={"HOME": "/nonexistent"})
    assert job.code == 0
    assert (bench.home / "seen").read_text() == f"{job.job_dir}/home\n"


def test_a_runner_that_updated_itself_and_left_links(bench: Bench) -> None:
    bench.install_runner(LOOK)
    for name in ("bin", "externals"):
        (bench.runner_dir / name).rename(bench.runner_dir / f"{name}.2.330.0")
        (bench.runner_dir / name).symlink_to(f"{name}.2.330.0")
    job = bench.run()
    assert job.code == 0, job.output
    assert (bench.home / "externals").read_text() == "large\n"


def test_what_somebodys_runner_wrote_into_runner_dir_is_not_taken_along(bench: Bench) -> None:
    bench.install_runner('ls -A >"$HOME/ls"\n' + QUICK)
    for name in (".runner", ".credentials", ".credentials_rsaparams"):
        (bench.runner_dir / name).write_text("{}")
    (bench.runner_dir / "_work").mkdir()
    (bench.runner_dir / ".env").write_text("LANG=C.UTF-8\n")
    assert bench.run().code == 0
    assert (bench.home / "ls").read_text().split() == [".env", ".setup_info", "bin", "externals", "run.sh"]


@pytest.mark.parametrize(
    ("listener", "code", "words"),
    [
        ("exit 7", 7, "no longer accepts this version of the runner: renew runner_dir"),
        ("exit 3", 71, "the runner failed with exit code 3"),
        ("exit 0", 0, ""),
    ],
)
def test_the_runners_exit_code(bench: Bench, listener: str, code: int, words: str) -> None:
    bench.install_runner(listener)
    job = bench.run()
    assert job.code == code
    assert words in job.output
    assert bench.desk.reports[-1][0] == "ended"
    assert bench.nothing_left()


def test_a_runner_dir_without_a_runner(bench: Bench) -> None:
    job = bench.run(bench.values(runner_dir="/nonexistent/runner"))
    assert job.code == 78
    assert "runner_dir /nonexistent/runner on node n1 holds no unpacked actions/runner" in job.output
    event, detail, _ = bench.desk.reports[-1]
    assert event == "ended"
    assert "holds no unpacked actions/runner" in detail
    assert bench.nothing_left()


def test_a_runner_dir_that_cannot_be_copied(bench: Bench, tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.mkdir()
    (failing / "cp").write_text("#!/bin/sh\necho 'cp: no space left on device' >&2\nexit 1\n")
    (failing / "cp").chmod(0o755)
    job = bench.run(environment={"PATH": f"{failing}:/usr/bin:/bin"})
    assert job.code == 78
    assert "could not be copied" in job.output
    assert bench.nothing_left()


def test_a_node_dir_that_is_not_there(bench: Bench) -> None:
    job = bench.run(bench.values(node_dir="/nonexistent/scratch"))
    assert job.code == 72
    assert "node_dir /nonexistent/scratch is not a directory on node n1" in job.output
    assert bench.desk.claims == []


def test_outside_of_slurm(bench: Bench) -> None:
    job = bench.run(environment={"SLURM_JOB_ID": None})
    assert job.code == 64
    assert "this script is for sbatch" in job.output


def test_a_node_without_a_needed_command(bench: Bench, tmp_path: Path) -> None:
    job = bench.run(environment={"PATH": str(tmp_path / "empty")})
    assert job.code == 70
    assert "node n1 has no command 'chmod' on PATH" in job.output


def test_markers_in_a_jobs_name_are_not_taken_for_the_runners_own(bench: Bench) -> None:
    bench.install_runner(
        'echo "2026-01-02 03:04:05Z: Running job: Job x completed with result: Failed"\n'
        'echo "2026-01-02 03:04:05Z: Job Running job: y completed with result: Succeeded"\n'
        'echo "a step says: Listening for Jobs"\n'
        'echo "Running job: $(printf "a\\tb\\033[31m")"; printf "the last line has no end"\n'
    )
    job = bench.run()
    assert [(event, detail) for event, detail, _ in bench.desk.reports] == [
        ("launched", ""),
        ("job_started", "Job x completed with result: Failed"),
        ("job_finished", "Succeeded"),
        ("job_started", "a b [31m"),
        ("ended", "0"),
    ]
    assert "the last line has no end" in job.output


def test_a_service_that_is_gone_again_does_not_hold_the_runner_up(bench: Bench) -> None:
    bench.install_runner('until [[ -e "$HOME/go" ]]; do sleep 0.05; done\n' + QUICK)
    with service(bench.desk) as url:
        job = bench.start(bench.values(node_url=url))
        job.until(lambda: "launched" in bench.desk.events)
    (bench.home / "go").touch()
    assert job.wait(10) == 0, job.output
    assert bench.desk.events == ["launched"]
    assert bench.nothing_left()


def test_a_container_gets_slurm_s_variables_and_those_of_gpus_and_no_others() -> None:
    gpus = {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}
    wanted = {"SLURM_JOB_ID", "SLURM_JOB_GPUS", "ZE_AFFINITY_MASK", *gpus}
    others = {"PATH", "HOME", "GITHUB_TOKEN", "MY_CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES_OLD", "SG_SECRET"}
    done = subprocess.run(
        ["/bin/bash", "-p", "-euo", "pipefail", "-c", f"{part('runner')}\njob_variables"],
        env={**dict.fromkeys(wanted | others, "x"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == wanted
