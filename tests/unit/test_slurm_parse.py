"""Slurm's answers, as captured from the real commands (see fixtures/slurm/capture.py), and hostile ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.domain.slurm import SlurmStage, stage_of
from slurm_gha.slurm import commands, parse
from slurm_gha.slurm.parse import Silence
from slurm_gha.slurm.reasons import explain_reason

FIXTURES = Path(__file__).parent / "fixtures" / "slurm"
VERSIONS = sorted(path.name for path in FIXTURES.iterdir() if (path / "squeue-all.json").exists())


@dataclass(frozen=True)
class Captured:
    command: list[str]
    exit_code: int
    output: str
    errors: str


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def captured(version: str, case: str) -> Captured:
    return Captured(**json.loads((FIXTURES / version / f"{case}.json").read_text()))


def test_there_are_captured_answers() -> None:
    assert VERSIONS


def test_the_captured_commands_are_the_ones_in_use(version: str) -> None:
    assert captured(version, "squeue-all").command == commands.squeue()
    assert captured(version, "sinfo").command == commands.sinfo()
    sacct = captured(version, "sacct").command
    ids = [int(number) for number in sacct[5].removeprefix("--jobs=").split(",")]
    assert sacct == commands.sacct(ids)


def test_a_listing(version: str) -> None:
    jobs = {job.name: job for job in parse.listing(captured(version, "squeue-all").output)}
    running = jobs["sg-cap-small-running"]
    assert (running.state, running.node, running.ended_at) == ("RUNNING", "n1", None)
    assert running.comment == '{"repository":"o/r","odd":"a|b"}'
    assert running.submitted_at is not None
    assert running.started_at is not None
    assert running.submitted_at <= running.started_at
    failing = jobs["sg-cap-small-failing"]
    assert (failing.state, failing.reason) == ("FAILED", "NonZeroExitCode")
    assert failing.ended_at is not None
    assert jobs["sg-cap-small-good"].state == "COMPLETED"
    held = jobs["sg-cap-small-held"]
    assert (held.stage, held.started_at, held.ended_at) == (SlurmStage.HELD, None, None)
    # Slurm prints the start it expects, and an end; neither has happened.
    begin = jobs["sg-cap-small-begin"]
    assert (begin.stage, begin.started_at, begin.ended_at) == (SlurmStage.PENDING, None, None)
    withdrawn = jobs["sg-cap-small-withdrawn"]
    assert (withdrawn.stage, withdrawn.started_at) == (SlurmStage.ENDED, None)
    assert withdrawn.ended_at is not None
    assert jobs["wide"].node == "n[1-2]"


def test_tasks_of_arrays_and_parts_of_heterogeneous_jobs_have_ids_of_their_own(version: str) -> None:
    jobs = parse.listing(captured(version, "squeue-all").output)
    assert len([job for job in jobs if job.name == "array"]) == 3
    assert len([job for job in jobs if job.name == "het"]) == 2
    assert len({job.id for job in jobs}) == len(jobs)


def test_unknown_ids_are_missing_or_an_error(version: str) -> None:
    some = captured(version, "squeue-some-unknown")
    assert some.exit_code == 0
    assert len(parse.listing(some.output)) == 1
    one = captured(version, "squeue-one-unknown")
    assert one.exit_code != 0
    assert parse.is_unknown_job(one.errors)


def test_the_database(version: str) -> None:
    jobs = {job.name: job for job in parse.accounting(captured(version, "sacct").output).values()}
    bad = jobs["sg-cap-small-bad"]
    assert (bad.state, bad.exit_code, bad.comment) == ("FAILED", "7:0", '{"odd":"a|b"}')
    assert jobs["sg-cap-small-good"].exit_code == "0:0"
    cancelled = jobs["sg-cap-small-cancelled"]
    assert cancelled.state.startswith("CANCELLED by ")
    assert cancelled.stage is SlurmStage.ENDED
    withdrawn = jobs["sg-cap-small-withdrawn"]
    assert (withdrawn.stage, withdrawn.node, withdrawn.started_at) == (SlurmStage.ENDED, "", None)
    running = jobs["sg-cap-small-long"]
    assert (running.stage, running.ended_at) == (SlurmStage.RUNNING, None)


def test_a_database_that_lags_knows_no_names_yet(version: str) -> None:
    jobs = parse.accounting(captured(version, "sacct-early").output)
    assert jobs
    assert {job.name for job in jobs.values()} == {""}


def test_no_database(version: str) -> None:
    assert parse.accounting_is_disabled(captured(version, "sacct-disabled").errors)
    down = captured(version, "sacct-database-down").errors
    assert not parse.accounting_is_disabled(down)
    assert parse.silence(down) is Silence.NOT_ASKED


def test_the_id_of_a_submission(version: str) -> None:
    assert parse.submitted_id(captured(version, "sbatch").output) == 1
    assert parse.submitted_id("123;cluster-1\n") == 123
    assert parse.submitted_id("a plugin says hello\n77\n") == 77
    assert parse.submitted_id("Submitted batch job 5\n") is None
    assert parse.submitted_id("") is None


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("partition", "invalid partition specified: nope; Invalid partition name specified"),
        ("constraint", "Invalid feature specification"),
        ("memory", "Memory specification can not be satisfied; Requested node configuration is not available"),
        ("gres", "Invalid generic resource (gres) specification"),
        ("option", "unrecognized option '--bogus'; Try \"sbatch --help\" for more information"),
        ("reservation", "Requested reservation is invalid"),
        ("empty-script", "Batch script is empty!"),
        ("account", "Invalid account or account/partition combination specified"),
        ("qos", "Invalid qos specification"),
        (
            "submit-limit",
            "QOSMaxSubmitJobPerUserLimit; Job violates accounting/QOS policy "
            "(job submit limit, user's size and/or time limits)",
        ),
    ],
)
def test_refusals_in_slurms_words(case: str, words: str) -> None:
    refused = captured("22.05.8", f"refused-{case}")
    assert refused.exit_code != 0
    assert parse.silence(refused.errors) is None
    assert parse.words(refused.errors) == words


@pytest.mark.parametrize(
    "case",
    [
        "squeue-controller-down",
        "sbatch-controller-down",
        "scancel-controller-down",
        "squeue-munge-down",
        "sbatch-munge-down",
    ],
)
def test_silence(version: str, case: str) -> None:
    down = captured(version, case)
    assert down.exit_code != 0
    assert parse.silence(down.errors) is Silence.NOT_ASKED


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", Silence.UNCLEAR),
        ("sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received", Silence.UNCLEAR),
        ("slurm_load_jobs error: Unable to contact slurm controller (shutdown failure)", Silence.NOT_ASKED),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", Silence.UNCLEAR),
        ("Unable to contact slurm controller (connect failure)\nSocket timed out on send/recv", Silence.UNCLEAR),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", None),
    ],
)
def test_which_silence(text: str, kind: Silence | None) -> None:
    assert parse.silence(text) is kind


def test_partitions(version: str) -> None:
    found = {partition.name: partition for partition in parse.partitions(captured(version, "sinfo").output)}
    assert set(found) == {"ci", "low", "short"}
    ci = found["ci"]
    assert (ci.default, ci.up, ci.time_limit, ci.nodes, ci.cpus, ci.memory_mb) == (True, True, 86400, 2, 4, 16000)
    assert ci.gres == ("tmpdisk:100000",)
    assert (found["short"].default, found["short"].time_limit) == (False, 60)


def test_unlike_nodes_of_a_partition_are_folded() -> None:
    text = (
        "gpu*|up|infinite|2|32|128000+|gpu:a100:4(S:0-1),tmpdisk:1\n"
        "gpu*|up|infinite|3|64|64000|(null)\nold|down|2-00|1|8|1|(null)\n"
    )
    gpu, old = parse.partitions(text)
    assert (gpu.nodes, gpu.cpus, gpu.memory_mb, gpu.time_limit, gpu.default) == (5, 64, 128000, None, True)
    assert gpu.gres == ("gpu:a100:4(S:0-1)", "tmpdisk:1")
    assert (old.up, old.time_limit) == (False, 172800)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("10:00", 600),
        ("1:00:00", 3600),
        ("1-12", 129600),
        ("1-00:30", 88200),
        ("infinite", None),
        ("", None),
    ],
)
def test_durations(text: str, seconds: int | None) -> None:
    assert parse.seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("12_3", 12),
        ("12_[1-9%2]", 12),
        ("12+1", 12),
        ("12.batch", 12),
        ("12.0", 12),
        ("x", None),
        ("", None),
    ],
)
def test_job_ids(text: str, number: int | None) -> None:
    assert parse.job_id(text) == number


def test_a_state_of_tomorrow_is_carried_as_it_is() -> None:
    (job,) = parse.listing("7|TELEPORTING|Somewhere|1700000000|N/A|N/A||sg-a-b-c|{}\n")
    assert (job.state, job.stage) == ("TELEPORTING", SlurmStage.UNKNOWN)


@given(st.text())
def test_no_text_breaks_a_parser(text: str) -> None:
    parse.listing(text)
    parse.accounting(text)
    parse.partitions(text)
    parse.submitted_id(text)
    parse.silence(text)
    parse.seconds(text)
    assert "\n" not in parse.words(text)
    assert explain_reason(text)
    stage_of(text, text)


FIELD = st.text(st.characters(exclude_characters="\n\r|", exclude_categories=("Cs",)), max_size=20)


@given(st.lists(st.tuples(st.integers(1, 10**9), FIELD, FIELD), max_size=5))
def test_whatever_others_call_their_jobs_ours_are_read(others: list[tuple[int, str, str]]) -> None:
    ours = "5|RUNNING|None|1700000000|1700000001|1700000002|n1|sg-a-b-c|{}"
    lines = [f"{number}|PENDING|None|N/A|N/A|N/A||{name}|{comment}" for number, name, comment in others]
    jobs = parse.listing("\n".join([*lines, ours, *lines]) + "\n")
    assert [job.state for job in jobs if job.name == "sg-a-b-c"] == ["RUNNING"]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "waits for CPUs"),
        ("Priority", "higher priority"),
        ("JobHeldAdmin", "administrator holds it"),
        ("launch failed requeued held", "launch on the node failed"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "down, drained or reserved"),
        ("QOSMaxJobsPerUserLimit", "as many jobs as the qos allows"),
        ("AssocGrpCpuLimit", "limit of it"),
        ("Teleport", "'Teleport'"),
        ("", "not looked at"),
    ],
)
def test_reasons_in_plain_english(reason: str, words: str) -> None:
    assert words in explain_reason(reason)
