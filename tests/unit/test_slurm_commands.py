"""The argv of Slurm's commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.domain.pool import SlurmRequest
from slurm_gha.domain.submission import Submission
from slurm_gha.slurm import commands, parse

FULL = SlurmRequest(
    cpus=4,
    time_seconds=5400,
    partition="ci",
    memory_mb=8192,
    gres=("tmpdisk:40960", "gpu:a100:1"),
    account="lab",
    qos="normal",
    constraint="avx2&fast",
    extra=(("nice", "100"), ("exclusive", None)),
)


def submission(**changes: object) -> Submission:
    values: dict[str, object] = {
        "name": "sg-lab-large-0001",
        "request": FULL,
        "script": "#!/bin/bash\n: the script\n",
        "comment": '{"repository":"o/r"}',
        "output_path": "/var/log/slurm-gha/sg-lab-large-0001.log",
        "input_path": "/var/lib/slurm-gha/in/sg-lab-large-0001",
        "signal_before_end": 90,
        **changes,
    }
    return Submission(**values)  # type: ignore[arg-type]


def test_sbatch_in_full() -> None:
    assert commands.sbatch(submission()) == [
        "sbatch",
        "--parsable",
        "--no-requeue",
        "--export=ALL",
        "--chdir=/tmp",
        "--job-name=sg-lab-large-0001",
        '--comment={"repository":"o/r"}',
        "--output=/var/log/slurm-gha/sg-lab-large-0001.log",
        "--signal=B:USR1@90",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=4",
        "--time=0-01:30:00",
        "--mem=8192M",
        "--gres=tmpdisk:40960,gpu:a100:1",
        "--partition=ci",
        "--account=lab",
        "--qos=normal",
        "--constraint=avx2&fast",
        "--nice=100",
        "--exclusive",
        "--input=/var/lib/slurm-gha/in/sg-lab-large-0001",
    ]


def test_only_what_is_asked_for_stands_in_sbatch() -> None:
    argv = commands.sbatch(submission(request=SlurmRequest(1, 60), input_path=None))
    given_options = {argument.split("=", 1)[0] for argument in argv}
    absent = {"--mem", "--gres", "--partition", "--account", "--qos", "--constraint", "--input"}
    assert not given_options & absent


def test_several_nodes_have_a_task_each() -> None:
    argv = commands.sbatch(submission(request=SlurmRequest(4, 60, nodes=3)))
    assert [word for word in argv if "nodes" in word or "tasks" in word] == ["--nodes=3", "--ntasks=3"]
    assert "--cpus-per-task=4" in argv


def test_the_script_never_stands_in_argv() -> None:
    assert not any("the script" in argument for argument in commands.sbatch(submission()))


@pytest.mark.parametrize("option", ["wrap; rm", "--nice", "Nice", "", "nice=1", "ni ce"])
def test_a_strange_option_name_is_an_error(option: str) -> None:
    request = SlurmRequest(1, 60, extra=((option, "x"),))
    with pytest.raises(ValueError, match="not the name of an sbatch option"):
        commands.sbatch(submission(request=request))


@pytest.mark.parametrize("text", ["a\nb", "a\0b"])
def test_an_argument_of_several_lines_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        commands.sbatch(submission(comment=text))


@given(st.text(st.characters(exclude_characters="\n\0", exclude_categories=("Cs",))))
def test_whatever_a_comment_holds_it_stays_one_argument(comment: str) -> None:
    argv = commands.sbatch(submission(comment=comment))
    assert argv.count(f"--comment={comment}") == 1
    assert len(argv) == len(commands.sbatch(submission(comment="x")))


@pytest.mark.parametrize(("asked", "shown"), [(-5, 0), (0, 0), (120, 120), (10**9, 65535)])
def test_the_warning_time_stays_within_slurms_range(asked: int, shown: int) -> None:
    assert f"--signal=B:USR1@{shown}" in commands.sbatch(submission(signal_before_end=asked))


@given(st.integers(1, 10**7))
def test_a_duration_is_read_back_as_it_was(seconds: int) -> None:
    assert parse.seconds(commands.duration(seconds)) == seconds


@given(st.sets(st.integers(1, 10**9), max_size=1200))
def test_batches_hold_every_id_once(ids: set[int]) -> None:
    batches = list(commands.batches(ids))
    assert sorted(number for batch in batches for number in batch) == sorted(ids)
    assert all(0 < len(batch) <= 500 for batch in batches)


def test_the_environment_is_made_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_secret")
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    made = commands.environment(home="/home/ci", user="ci", conf="/etc/slurm/slurm.conf", epoch_times=True)
    assert set(made) == {"PATH", "LANG", "HOME", "USER", "LOGNAME", "SLURM_CONF", "SLURM_TIME_FORMAT"}
    job = commands.environment(home="/home/ci", user="ci", conf=None, epoch_times=False)
    assert set(job) == {"PATH", "LANG", "HOME", "USER", "LOGNAME"}


def test_slurm_s_own_directory_is_last_on_a_job_s_path() -> None:
    plain = commands.environment(home="/home/ci", user="ci", conf=None, epoch_times=False)
    made = commands.environment(home="/home/ci", user="ci", conf=None, epoch_times=False, bin_dir="/opt/slurm/bin")
    assert made["PATH"] == f"{plain['PATH']}:/opt/slurm/bin"
