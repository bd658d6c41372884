"""What only a real Slurm, or a real process, can show of the cluster's edge."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.slurm import SlurmJob, SlurmStage
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm.cluster import SlurmCluster
from slurm_gha.slurm.errors import SlurmUnreachable, SubmissionRefused
from slurm_gha.testing.private_slurm import PrivateSlurm

needs_slurm = [pytest.mark.slow, pytest.mark.slurm]
QUICK = "#!/bin/sh\nexit 7\n"
LONG = "#!/bin/sh\nsleep 60\n"


def cluster_of(slurm: PrivateSlurm) -> SlurmCluster:
    return SlurmCluster("real", bin_dir=slurm.bin_dir, conf=slurm.conf)


def submission(suffix: str, script: str = QUICK, *, output: str = "/dev/null", **request: object) -> Submission:
    asked = SlurmRequest(1, 600, memory_mb=100, **request)  # type: ignore[arg-type]
    return Submission(f"sg-real-p-{suffix}", asked, script, '{"a":"|"}', output)


async def until(met: Callable[[], object], seconds: float = 20.0) -> None:
    with anyio.fail_after(seconds):
        while not met():
            await anyio.sleep(0.05)


async def vanished(cluster: SlurmCluster, slurm_id: int) -> None:
    with anyio.fail_after(40):
        while slurm_id in {job.id for job in await cluster.list_jobs()}:
            await anyio.sleep(0.3)


@pytest.mark.slow
@pytest.mark.slurm
class TestWithAccounting:
    def test_a_vanished_job_is_looked_up_with_its_exit_code(self, accounted_slurm: PrivateSlurm) -> None:
        async def main() -> dict[int, SlurmJob]:
            cluster = cluster_of(accounted_slurm)
            ended = await cluster.submit(submission("ended"))
            live = await cluster.submit(submission("live", LONG))
            await vanished(cluster, ended)
            found = dict(await cluster.look_up([ended, live, 99_999]))
            await cluster.cancel([live])
            assert cluster.calls["sacct"] == 1
            assert (found[ended].state, found[ended].exit_code) == ("FAILED", "7:0")
            assert found[ended].name == "sg-real-p-ended"
            assert found[ended].comment == '{"a":"|"}'
            assert found[live].stage is SlurmStage.RUNNING
            assert found[99_999].state == "GONE"
            return found

        anyio.run(main)

    def test_limits_of_a_qos_refuse(self, accounted_slurm: PrivateSlurm) -> None:
        async def main() -> None:
            cluster = cluster_of(accounted_slurm)
            first = await cluster.submit(submission("tight", LONG, qos="tight"))
            with pytest.raises(SubmissionRefused, match="QOSMaxSubmitJobPerUserLimit"):
                await cluster.submit(submission("tight2", LONG, qos="tight"))
            with pytest.raises(SubmissionRefused, match="Invalid account"):
                await cluster.submit(submission("account", account="nope"))
            await cluster.cancel([first])

        anyio.run(main)

    def test_without_the_database_listing_and_cancelling_go_on(self, accounted_slurm: PrivateSlurm) -> None:
        async def main() -> None:
            cluster = cluster_of(accounted_slurm)
            await anyio.to_thread.run_sync(accounted_slurm.stop_accounting)
            try:
                slurm_id = await cluster.submit(submission("nodb", LONG))
                assert slurm_id in {job.id for job in await cluster.list_jobs()}
                await cluster.cancel([slurm_id])
                await vanished(cluster, slurm_id)
                assert (await cluster.look_up([slurm_id]))[slurm_id].state == "GONE"
            finally:
                await anyio.to_thread.run_sync(accounted_slurm.start_accounting)

        anyio.run(main)


@pytest.mark.slow
@pytest.mark.slurm
class TestWithoutAccounting:
    def test_nothing_of_the_services_environment_reaches_a_job(
        self, private_slurm: PrivateSlurm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GITHUB_TOKEN", "ghp_very_secret")
        monkeypatch.setenv("SBATCH_JOB_NAME", "sneaked-in")
        monkeypatch.setenv("SBATCH_EXPORT", "ALL")
        output = private_slurm.home / "environment.txt"

        async def main() -> None:
            cluster = cluster_of(private_slurm)
            await cluster.submit(submission("env", "#!/bin/sh\nenv\necho done\n", output=str(output)))
            await until(lambda: output.exists() and "done" in output.read_text())

        anyio.run(main)
        lines = output.read_text().splitlines()
        names = {line.split("=", 1)[0] for line in lines if "=" in line}
        own = {name for name in names if not name.startswith("SLURM")}
        assert "ghp_very_secret" not in output.read_text()
        assert own <= {
            "PATH",
            "LANG",
            "HOME",
            "USER",
            "LOGNAME",
            "PWD",
            "HOSTNAME",
            "TMPDIR",
            "ENVIRONMENT",
            "SHLVL",
            "_",
        }
        assert {"PATH", "HOME"} <= own
        assert f"USER={private_slurm.user}" in lines
        assert "SLURM_JOB_NAME=sg-real-p-env" in lines

    def test_what_check_asks(self, private_slurm: PrivateSlurm) -> None:
        async def main() -> None:
            heard: list[tuple[str, int | None]] = []
            cluster = SlurmCluster(
                "real",
                bin_dir=private_slurm.bin_dir,
                conf=private_slurm.conf,
                on_command=lambda name, seconds, code: heard.append((name, code)) if seconds >= 0 else None,
            )
            assert (await cluster.version())[:2].isdigit()
            assert {partition.name for partition in await cluster.partitions()} == {"ci", "low", "short"}
            assert "to start at" in await cluster.test_only(SlurmRequest(1, 60, gres=("tmpdisk:1000",)))
            with pytest.raises(SubmissionRefused, match="Requested node configuration is not available"):
                await cluster.test_only(SlurmRequest(99, 60))
            assert await cluster.list_jobs() == await cluster.list_jobs()
            assert heard[:4] == [("sbatch", 0), ("sinfo", 0), ("sbatch", 0), ("sbatch", 1)]
            assert dict(cluster.calls) == {"sbatch": 3, "sinfo": 1, "squeue": 2}

        anyio.run(main)

    def test_several_rounds_of_squeue_and_never_one_a_job(self, private_slurm: PrivateSlurm) -> None:
        async def main() -> None:
            cluster = cluster_of(private_slurm)
            ids = [await cluster.submit(submission(f"many{number}", LONG)) for number in range(12)]
            before = dict(cluster.calls)
            await cluster.look_up([*ids, 99_999])
            await cluster.look_up([*ids, 99_999])
            await cluster.cancel(ids)
            # sacct is asked once, and after "accounting storage is disabled" no more.
            assert cluster.calls["sacct"] == before.get("sacct", 0) + 1
            assert cluster.calls["squeue"] == before.get("squeue", 0) + 2
            assert cluster.calls["scancel"] == 1

        anyio.run(main)


def write_program(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_command_that_hangs_is_killed_and_nothing_is_known(tmp_path: Path) -> None:
    write_program(tmp_path / "sbatch", f"echo $$ > {tmp_path}/pid; echo 'sbatch: error: waiting' >&2; exec sleep 60\n")

    async def main() -> None:
        codes: list[int | None] = []
        cluster = SlurmCluster(
            "real", bin_dir=tmp_path, timeout=0.5, on_command=lambda _name, _seconds, code: codes.append(code)
        )
        with pytest.raises(SlurmUnreachable, match=r"no answer within 0\.5 s; it said: waiting") as failure:
            await cluster.submit(submission("hang"))
        assert failure.value.unclear
        assert codes == [None]

    anyio.run(main)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_cancelled_caller_leaves_no_command_behind(tmp_path: Path) -> None:
    write_program(tmp_path / "squeue", f"echo $$ > {tmp_path}/pid; exec sleep 60\n")

    async def main() -> None:
        cluster = SlurmCluster("real", bin_dir=tmp_path)
        with anyio.move_on_after(0.5):
            await cluster.list_jobs()

    anyio.run(main)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_commands_that_are_not_there_are_unreachable(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = SlurmCluster("real", bin_dir=tmp_path)
        with pytest.raises(SlurmUnreachable, match="sbatch") as failure:
            await cluster.submit(submission("none"))
        assert not failure.value.unclear
        with pytest.raises(SlurmUnreachable, match="squeue"):
            await cluster.list_jobs()

    anyio.run(main)


def test_an_answer_without_an_id_is_unclear(tmp_path: Path) -> None:
    write_program(tmp_path / "sbatch", "cat >/dev/null; echo something else\n")

    async def main() -> None:
        with pytest.raises(SlurmUnreachable, match="something else") as failure:
            await SlurmCluster("real", bin_dir=tmp_path).submit(submission("odd"))
        assert failure.value.unclear

    anyio.run(main)


def test_never_more_sbatch_than_allowed_at_once(tmp_path: Path) -> None:
    (tmp_path / "now").mkdir()
    count = f"""
        cat >/dev/null
        touch {tmp_path}/now/$$
        ls {tmp_path}/now | wc -l >> {tmp_path}/seen
        sleep 0.1
        rm {tmp_path}/now/$$
        echo $$
    """
    write_program(tmp_path / "sbatch", textwrap.dedent(count))

    async def main() -> None:
        cluster = SlurmCluster("real", bin_dir=tmp_path, submit_concurrency=3)
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(cluster.submit, submission(str(number)))

    anyio.run(main)
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 10
    assert max(seen) <= 3


SERVICE = """
import sys
from pathlib import Path
import anyio
from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm.cluster import SlurmCluster

async def main():
    asked = Submission("sg-real-p-killed", SlurmRequest(1, 60), "#!/bin/sh\\n", "{}", "/dev/null")
    await SlurmCluster("real", bin_dir=Path(sys.argv[1])).submit(asked)

anyio.run(main)
"""


def test_an_sbatch_dies_with_a_killed_service(tmp_path: Path) -> None:
    write_program(tmp_path / "sbatch", f"echo $$ > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/pid; exec sleep 60\n")
    service = subprocess.Popen([sys.executable, "-c", SERVICE, str(tmp_path)])
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child = int((tmp_path / "pid").read_text())
        assert is_alive(child)
    finally:
        os.kill(service.pid, signal.SIGKILL)
        service.wait()
    deadline = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)
