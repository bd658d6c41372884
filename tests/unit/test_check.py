"""``slurm-gha check``: what it asks, what it says, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner

from slurm_gha.cli import main
from slurm_gha.cli.inquiry import Answer, GitHubDesk, Verdict, ask_github, ask_slurm, gpu_doubts
from slurm_gha.cli.places import look
from slurm_gha.config.loading import load
from slurm_gha.domain.pool import Bounds, Container, GpuBound, Launcher, Pool, SlurmRequest
from slurm_gha.github.budget import BudgetSnapshot
from slurm_gha.github.errors import Forbidden, GitHubError, GitHubUnavailable
from slurm_gha.github.permissions import Permission, Standing
from slurm_gha.slurm.errors import SlurmUnreachable, SubmissionRefused

TOKEN = "ghp_" + "Ab1" * 12


class FakeSlurm:
    """Slurm of a fixed size: jobs of more than ``cpus`` CPUs are refused."""

    def __init__(self, cpus: int, *, up: bool = True, installed: bool = True) -> None:
        self._cpus = cpus
        self._up = up
        self._installed = installed
        self.asked = 0

    async def version(self) -> str:
        if not self._installed:
            raise SlurmUnreachable("sbatch cannot be run")
        return "22.05.8"

    async def test_only(self, request: SlurmRequest) -> str:
        self.asked += 1
        if not self._up:
            raise SlurmUnreachable("Unable to contact slurm controller")
        if request.cpus > self._cpus:
            raise SubmissionRefused("Requested node configuration is not available")
        return "Job 7 to start at 2030-01-01T00:00:00 using 1 processors on nodes n1\n in partition ci"


class FakeGitHub:
    def __init__(self, remaining: int = 4999, missing: str = "", error: GitHubError | None = None) -> None:
        self._remaining = remaining
        self._missing = missing
        self._error = error

    async def rate(self) -> BudgetSnapshot:
        if self._error is not None:
            raise self._error
        return BudgetSnapshot(5000, self._remaining, 0.0, None, 0, 0, 0, 0, 0, 0, {})

    async def permissions(self) -> tuple[Permission, ...]:
        standing = Standing.MISSING if self._missing else Standing.GRANTED
        return (
            Permission("repository permission Administration: read", "list runners", Standing.GRANTED),
            Permission("Actions: read", "see the jobs of o/r", standing, self._missing),
            Permission("Administration: write", "register and remove runners", Standing.UNKNOWN),
        )


@asynccontextmanager
async def opened(desk: GitHubDesk) -> AsyncIterator[GitHubDesk]:
    yield desk


def pool(name: str, cpus: int) -> Pool:
    return Pool(name, frozenset({"s"}), frozenset({name}), SlurmRequest(cpus=cpus, time_seconds=60), "/opt/runner")


def lines(answers: Sequence[Answer]) -> list[str]:
    return [str(answer) for answer in answers]


def test_each_pool_is_tried_on_slurm() -> None:
    answers = lines(anyio.run(ask_slurm, FakeSlurm(4), [pool("small", 1), pool("xlarge", 16), pool("large", 4)]))
    assert answers[0] == "✓ slurm: version 22.05.8"
    assert answers[1].startswith("✓ pool small: Slurm accepts its jobs (Job 7 to start at")
    assert answers[2] == "✗ pool xlarge: Slurm refuses its jobs: Requested node configuration is not available"
    assert answers[3].startswith("✓ pool large")


def test_a_pool_s_bounds_are_tried_too_one_line_each() -> None:
    bounds = Bounds(cpus=8, gpus=(GpuBound(2, "a100"), GpuBound(1, "v100")))
    sized = replace(pool("sized", 1), dynamic=bounds)
    answers = lines(anyio.run(ask_slurm, FakeSlurm(4), [sized, pool("small", 1)]))
    assert answers[1].startswith("✓ pool sized: Slurm accepts its jobs (Job 7")
    assert answers[2:4] == [
        "✗ pool sized: Slurm refuses its largest jobs, 8 CPUs, 2 GPUs of type a100: "
        "Requested node configuration is not available",
        "✗ pool sized: Slurm refuses its largest jobs, 8 CPUs, 1 GPU of type v100: "
        "Requested node configuration is not available",
    ]
    assert answers[4].startswith("✓ pool small")


def test_gpus_that_do_not_get_into_containers_are_doubted() -> None:
    plain, gres = pool("plain", 1), SlurmRequest(1, 60, gres=("gpu:a100:1",))
    bounds = Bounds(gpus=(GpuBound(2, "a100"),))
    image = Container("runner")
    docker = replace(plain, name="docker", launcher=Launcher.DOCKER, container=image)
    apptainer = replace(plain, name="apptainer", launcher=Launcher.APPTAINER, container=image, request=gres)
    fine = (
        plain,
        docker,
        replace(plain, request=gres, dynamic=bounds),
        replace(apptainer, container=replace(image, nvidia=True)),
    )
    assert gpu_doubts(fine) == []
    said = "brings no GPU into its containers; jobs only see how theirs is called"
    assert lines(gpu_doubts([replace(docker, dynamic=bounds), apptainer])) == [
        f"! pool docker: launcher docker {said}",
        f"! pool apptainer: launcher apptainer {said} (nvidia = true brings it along)",
    ]


def test_a_slurm_that_is_down_is_asked_once() -> None:
    slurm = FakeSlurm(4, up=False)
    answers = lines(anyio.run(ask_slurm, slurm, [pool("small", 1), pool("medium", 2), pool("large", 4)]))
    assert answers[1:] == [
        "✗ pool small: Slurm could not be asked: Unable to contact slurm controller",
        "! slurm: not asked about the other pools: medium, large",
    ]
    assert slurm.asked == 1


def test_a_slurm_that_is_not_there_is_not_asked() -> None:
    slurm = FakeSlurm(4, installed=False)
    answers = lines(anyio.run(ask_slurm, slurm, [pool("small", 1)]))
    assert answers == ["✗ slurm: its commands do not work: sbatch cannot be run"]
    assert slurm.asked == 0


def test_each_scope_is_tried_on_github() -> None:
    desks: dict[str, AbstractAsyncContextManager[GitHubDesk]] = {
        "fine": opened(FakeGitHub()),
        "low": opened(FakeGitHub(remaining=3)),
        "lacking": opened(FakeGitHub(missing=f"403 {TOKEN}\nForbidden\x1b[31m")),
        "refused": opened(FakeGitHub(error=Forbidden("GET /rate_limit: 401 Bad credentials"))),
        "down": opened(FakeGitHub(error=GitHubUnavailable("no answer within 20 s"))),
    }
    answers = anyio.run(ask_github, desks)
    text = "\n".join(lines(answers))
    assert "✓ scope fine: GitHub accepts the token; 4999 of 5000 calls an hour are left" in text
    assert "✓ scope fine: the token may list runners" in text
    assert "! scope fine: make sure that the token has the permission to register and remove runners: Admin" in text
    assert "! scope low: GitHub accepts the token; 3 of 5000" in text
    assert "✗ scope lacking: the token lacks the permission to see the jobs of o/r: Actions: read (403 *** For" in text
    assert "✗ scope refused: GitHub: GET /rate_limit: 401 Bad credentials" in text
    assert "✗ scope down: GitHub: no answer within 20 s" in text
    assert TOKEN not in text
    assert "\x1b" not in text
    assert len(text.splitlines()) == len(answers)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of which everything that can be told offline is true."""
    for name in ("state", "handover"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "out").mkdir(mode=0o755)
    runner = tmp_path / "runner"
    (runner / "bin").mkdir(parents=True)
    (runner / "run.sh").touch()
    (runner / "bin/Runner.Listener").touch()
    (tmp_path / "slurm").mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol", "sacct"):
        (tmp_path / "slurm" / name).touch(mode=0o755)
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    path = tmp_path / "config.toml"
    path.write_text(
        f"""
[service]
installation = "lab1"
state_dir = "{tmp_path}/state"
node_url = "https://head:8480"
[slurm]
output_dir = "{tmp_path}/out"
handover_dir = "{tmp_path}/handover"
bin_dir = "{tmp_path}/slurm"
[[scope]]
name = "one"
url = "https://github.com/o/r"
token_file = "{token}"
[[pool]]
name = "small"
labels = ["small"]
runner_dir = "{runner}"
slurm = {{ cpus = 1, time = "30m" }}
"""
    )
    return path


def check(config: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", "--config", str(config), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert TOKEN not in result.output
    return result.exit_code, result.output


def test_all_is_well(config: Path) -> None:
    code, output = check(config, "--offline")
    assert code == 0, output
    assert "✗" not in output
    assert output.splitlines()[0] == "✓ configuration: valid; 1 scope, 1 pool"
    assert output.endswith("config.toml: all is well as far as can be told offline\n")


def test_mistakes_are_printed_and_counted(config: Path) -> None:
    config.write_text(config.read_text().replace("cpus = 1", "cpus = 0").replace('"lab1"', '"LAB"'))
    code, output = check(config, "--offline")
    assert code == 1
    assert f"{config}:3: service.installation: must be" in output
    assert f"{config}:18: pool[small].slurm.cpus: must be at least 1, not 0" in output
    assert output.endswith("2 things are wrong\n")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    code, output = check(tmp_path / "none.toml")
    assert code == 1
    assert output.splitlines()[0].endswith("none.toml: the configuration cannot be read: No such file or directory")


def test_a_token_open_to_all_is_found_beside_the_rest(config: Path) -> None:
    (config.parent / "token").chmod(0o644)
    code, output = check(config, "--offline")
    assert code == 1
    assert "scope[one].token_file: " in output
    assert "✓ state_dir" in output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("state missing", "✗ state_dir: {0}/state: No such file or directory; make it with: install -d -m 0700"),
        ("state open", "✗ state_dir: {0}/state is open to others (mode 0750)"),
        ("handover open", "✗ handover_dir: {0}/handover is open to others"),
        ("out for all", "✗ output_dir: everybody may replace files in {0}/out (mode 0777)"),
        ("out a file", "✗ output_dir: {0}/out is not a directory"),
        ("no run.sh", "✗ pool small runner_dir: {0}/runner is no unpacked actions/runner: it has no run.sh"),
        ("no runner", "! pool small runner_dir: {0}/runner is not on this machine"),
        ("no sbatch", "✗ slurm commands: not found on {0}/slurm: sbatch"),
    ],
)
def test_places(config: Path, change: str, says: str) -> None:
    base = config.parent
    match change:
        case "state missing":
            (base / "state").rmdir()
        case "state open":
            (base / "state").chmod(0o750)
        case "handover open":
            (base / "handover").chmod(0o755)
        case "out for all":
            (base / "out").chmod(0o777)
        case "out a file":
            (base / "out").rmdir()
            (base / "out").touch()
        case "no run.sh":
            (base / "runner/run.sh").unlink()
        case "no runner":
            (base / "runner").rename(base / "elsewhere")
        case "no sbatch":
            (base / "slurm/sbatch").unlink()
    answers = look(load(config))
    (found,) = [answer for answer in answers if answer.verdict is not Verdict.TRUE]
    assert str(found).startswith(says.format(base))


def test_an_unencrypted_node_url_and_unreadable_certificates_are_pointed_out(config: Path) -> None:
    base = config.parent
    config.write_text(config.read_text().replace("https://head", "http://head"))
    assert any(str(answer).startswith("! node_url: http://head:8480 is not encrypted") for answer in look(load(config)))
    text = config.read_text().replace("http://head", "https://head")
    config.write_text(text.replace("[slurm]", f'tls_certificate = "{base}/c"\ntls_key = "{base}/k"\n[slurm]'))
    (base / "k").touch(mode=0o644)
    told = [str(answer) for answer in look(load(config)) if answer.verdict is Verdict.FALSE]
    assert told[0].startswith(f"✗ tls_certificate: {base}/c cannot be read by")
    assert told[1].startswith(f"✗ tls_key: {base}/k is open to every user (mode 0644)")
