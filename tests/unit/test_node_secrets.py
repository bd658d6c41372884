"""No secret in an argument, an environment it does not belong to, an output, or a file that others can read."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.node_bench import CONFIG, LASTING, QUICK, Bench, Started, open_bench

from slurm_gha.domain.pool import Handover


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as bench:
        yield bench


def _arguments_hold(secret: str) -> list[str]:
    """Command lines, of all processes on the machine, that hold ``secret``."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and secret.encode() in (entry / "cmdline").read_bytes():
                found.append((entry / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return found


def _environments_hold(job: Started, secret: str) -> set[str]:
    """Names of environment variables, of all processes of the job, that hold ``secret``."""
    names = set()
    for pid in job.processes():
        try:
            entries = Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")
        except OSError:
            continue
        names |= {entry.partition("=")[0] for entry in entries if secret in entry}
    return names


def _files_hold(directory: Path, secret: str) -> list[Path]:
    return [p for p in directory.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


def test_while_the_claim_is_under_way(bench: Bench) -> None:
    bench.desk.delay = 30
    job = bench.start()
    job.until(lambda: len(bench.desk.claims) == 1)
    assert any("curl" in line for line in job.processes().values())
    assert _arguments_hold(bench.secret) == []
    assert _environments_hold(job, bench.secret) == set()
    assert _files_hold(job.job_dir, bench.secret) == []
    assert stat.S_IMODE(job.job_dir.stat().st_mode) == 0o700
    for path in job.job_dir.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    job.signal(signal.SIGTERM)
    assert job.wait() == 143
    assert bench.secret not in job.output


def test_while_the_runner_runs(bench: Bench) -> None:
    bench.install_runner(LASTING)
    job = bench.start()
    job.until(lambda: "listening" in bench.desk.events)
    for secret in (bench.secret, bench.desk.token, CONFIG):
        assert _arguments_hold(secret) == []
        assert _files_hold(job.job_dir, secret) == []
    assert _environments_hold(job, bench.secret) == set()
    assert _environments_hold(job, bench.desk.token) == set()
    assert _environments_hold(job, CONFIG) == {"ACTIONS_RUNNER_INPUT_JITCONFIG"}
    assert stat.S_IMODE(job.job_dir.stat().st_mode) == 0o700
    job.signal(signal.SIGTERM)
    job.wait()
    for secret in (bench.secret, bench.desk.token, CONFIG):
        assert secret not in job.output


def test_the_script_itself_has_no_configuration_in_its_environment(bench: Bench) -> None:
    bench.install_runner(LASTING)
    job = bench.start()
    job.until(lambda: "listening" in bench.desk.events)
    own = Path(f"/proc/{job.process.pid}/environ").read_text(errors="replace")
    assert CONFIG not in own
    job.signal(signal.SIGTERM)
    job.wait()


def test_hostile_surroundings_neither_print_nor_export(bench: Bench, tmp_path: Path) -> None:
    """Variables by which bash would trace, export, run a file first, or find another function in place of a command."""
    start_up = tmp_path / "start-up"
    start_up.write_text("set -x\n")
    bench.install_runner('env >"$HOME/env"\n' + QUICK)
    job = bench.run(
        environment={
            "SHELLOPTS": "braceexpand:xtrace:verbose:allexport",
            "BASH_ENV": str(start_up),
            "PS4": "+ $SG_SECRET ",
            "SG_SECRET": "x",
            "SG_REPORT_TOKEN": "x",
            "SG_JIT": "x",
            "BASH_FUNC_printf%%": '() { builtin echo "stolen $*" >&2; }',
            "BASH_FUNC_curl%%": '() { builtin echo "stolen $*" >&2; }',
        }
    )
    assert job.code == 0, job.output
    for secret in (bench.secret, bench.desk.token, CONFIG):
        assert secret not in job.output
    assert "stolen" not in job.output
    seen = (bench.home / "env").read_text()
    assert "SG_" not in seen.replace("BASH_FUNC", "").replace("PS4=+ $SG_SECRET", "")
    assert bench.secret not in seen
    assert bench.desk.token not in seen


def test_a_handed_over_configuration_is_out_of_reach_once_read(bench: Bench, tmp_path: Path) -> None:
    handed = tmp_path / "x.jit"
    handed.write_text(CONFIG + "\n")
    handed.chmod(0o600)
    bench.install_runner('cat /proc/self/fd/0 >"$HOME/stdin"\n' + LASTING)
    job = bench.start(bench.values(handover=Handover.STDIN), stdin=handed)
    job.until_said("Listening for Jobs")
    assert not handed.exists()
    assert (bench.home / "stdin").read_text() == ""
    assert _arguments_hold(CONFIG) == []
    assert _environments_hold(job, CONFIG) == {"ACTIONS_RUNNER_INPUT_JITCONFIG"}
    assert _files_hold(job.job_dir, CONFIG) == []
    assert os.readlink(f"/proc/{job.process.pid}/fd/0") == os.devnull
    job.signal(signal.SIGTERM)
    job.wait()
    assert CONFIG not in job.output
