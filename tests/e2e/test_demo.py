"""``slurm-gha demo`` as somebody would run it, in a pipe: what it shows, what it costs, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from slurm_gha.testing.demo.project import EXPECTED
from slurm_gha.testing.processes import inhabitants, mounts, processes_of

pytestmark = [pytest.mark.slow, pytest.mark.slurm]
COMMAND = (sys.executable, "-m", "slurm_gha", "demo")
PATIENCE = 300.0
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root prepares a machine for containers")


class Demo:
    """The running demo; ``text`` is what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process, self._output = process, output

    @property
    def text(self) -> str:
        return self._output.read_text()

    def until(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.1)

    def end(self) -> int:
        return self.process.wait(PATIENCE)

    def directories(self) -> list[Path]:
        """The directories it has told of."""
        return sorted({Path(found) for found in re.findall(r"/tmp/slurm-gha-\w+", self.text)})

    def traces(self) -> list[str]:
        """What there is of it: directories, mounts, processes, those in containers included."""
        directories = [str(path) for path in self.directories()]
        assert directories
        found = [path for path in directories if Path(path).exists()]
        found += [point for path in directories for point in mounts(path)]
        found += [line for path in directories for line in inhabitants(path).values()]
        return found + list(processes_of(directories).values())

    def nothing_is_left(self) -> None:
        assert self.traces() == []
        assert "✓ nothing of the demo is mounted" in self.text
        assert "✓ every process of the demo has ended" in self.text
        assert "✓ every directory of the demo is removed" in self.text


@contextmanager
def demo(tmp_path: Path, *arguments: str, through: Sequence[str] = ()) -> Iterator[Demo]:
    """``through``: a command that ends by running the one that it is given."""
    output = tmp_path / "output"
    with (
        output.open("w") as file,
        subprocess.Popen(
            [*through, *COMMAND, *arguments],
            cwd="/",
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Demo(process, output)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)


def test_every_job_ends_as_it_should_and_nothing_is_left(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        status = shown.end()
    text = shown.text
    assert status == 0, text
    assert "\x1b" not in text
    assert "✗" not in text
    jobs = text[text.index("\nJobs\n") : text.index("\nLog of ")]
    for name, conclusion in EXPECTED.items():
        assert re.search(rf"^{re.escape(name)}\s.*\b{conclusion}\b", jobs, re.MULTILINE), (name, jobs)
    assert re.search(r"^survey\s+large\s+cancelled\s+[\d.]+ s\s*$", jobs, re.MULTILINE), "it never ran"
    assert "FAILED: up to 1 there are 0 primes; primes.sh printed 1:" in text
    assert int(re.search(r"^Calls to GitHub: (\d+) counted", text, re.MULTILINE)[1]) > 0  # type: ignore[index]
    calls = text[text.index("\nCalls to Slurm:") :]
    assert int(re.search(r"(\d+) sbatch", calls)[1]) >= len(EXPECTED) - 1  # type: ignore[index]
    assert int(re.search(r"(\d+) squeue", calls)[1]) > 0  # type: ignore[index]
    # Somebody sees each of them on their way.
    for state in ("queued", "pending", "running"):
        assert re.search(rf" s  \S+.* {state}\b", text), state
    shown.nothing_is_left()
    assert "Published and mounted in" in text
    # Without the making of the runner image, which comes before.
    took = int(re.search(r"^This took (\d+) s", text, re.MULTILINE)[1])  # type: ignore[index]
    assert took < 90, f"{took} s: too long to watch"


def test_interrupted_in_the_middle_it_takes_everything_down(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        shown.until(" running ")
        os.killpg(shown.process.pid, signal.SIGINT)  # as a terminal does: whatever it has started hears it too
        status = shown.end()
    assert status == 128 + signal.SIGINT, shown.text
    assert "Interrupted. Taking everything down" in shown.text
    assert "Traceback" not in shown.text
    shown.nothing_is_left()


@needs_root
def test_interrupted_while_the_image_is_made_it_leaves_nothing(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        shown.until("Publishing it as a store")
        os.killpg(shown.process.pid, signal.SIGINT)
        status = shown.end()
    assert status == 128 + signal.SIGINT, shown.text
    assert "Interrupted. Taking everything down" in shown.text
    assert "Traceback" not in shown.text
    shown.nothing_is_left()


@needs_root
def test_killed_it_leaves_neither_a_store_nor_a_container(tmp_path: Path) -> None:
    with demo(tmp_path) as shown:
        shown.until("success")
        assert mounts(str(shown.directories()[0])) or mounts(str(shown.directories()[1]))
        shown.process.kill()
        shown.end()
    deadline = time.monotonic() + 60
    while left := shown.traces():
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@needs_root
@pytest.mark.parametrize(
    ("through", "lacking"),
    [
        (
            ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"),
            "only root can make the network by which containers reach GitHub; run the demo as root",
        ),
        (
            ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"),
            "/dev/net/tun is missing: rootless engines need it",
        ),
        (
            ("unshare", "--mount", "sh", "-c", 'mount --bind /bin/false /usr/bin/slirp4netns && exec "$@"', "sh"),
            "start: the engine cannot be started",
        ),
    ],
)
def test_where_docker_jobs_cannot_be_it_says_why_and_goes_on(
    tmp_path: Path, through: tuple[str, ...], lacking: str
) -> None:
    with demo(tmp_path, through=through) as shown:
        shown.until("Pushing")
        os.killpg(shown.process.pid, signal.SIGINT)
        status = shown.end()
    [said] = re.findall(r"^The Docker jobs are skipped: (.+)$", shown.text, re.MULTILINE)
    assert lacking in said
    assert status == 128 + signal.SIGINT, shown.text
    shown.nothing_is_left()


def test_kept_it_can_be_played_with_until_it_is_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep") as shown:
        shown.until("Ctrl-C takes everything down.")
        [page] = re.findall(r"^  GitHub +(\S+)$", shown.text, re.MULTILINE)
        [command] = re.findall(r"^  status +(.+)$", shown.text, re.MULTILINE)
        looked = subprocess.run(
            [*shlex.split(command.replace("--watch", "--json"))], capture_output=True, text=True, check=True
        )
        assert json.loads(looked.stdout)["running"] is True
        assert "edge-cases" in httpx2.get(page).text
        pushed = httpx2.post(page, params={"do": "dispatch", "workflow": ".github/workflows/survey.yml"})
        assert pushed.status_code == 303
        assert httpx2.post(page, params={"do": "push"}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
        # Left alone in the middle of a job, it still cleans up.
        deadline = time.monotonic() + 60
        while "in progress" not in httpx2.get(page).text:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        shown.process.send_signal(signal.SIGINT)
        status = shown.end()
    assert status == 0, shown.text
    shown.nothing_is_left()
