"""Metrics count what happens, stay bounded, and are all documented."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slurm_gha.observe import events
from slurm_gha.observe.metrics import Metrics
from slurm_gha.observe.status import (
    BudgetStatus,
    PoolStatus,
    RunnerStatus,
    ScopeStatus,
    SlurmStatus,
    Status,
    WaitingJob,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "administrators" / "metrics.md"

STATUS = Status(
    installation="hpc",
    version="0.1.0",
    pid=1,
    at=1000.0,
    started_at=500.0,
    slurm=SlurmStatus(readable=True, last_read=999.0),
    jobs=(
        WaitingJob(id=1, repository="o/r", name="a", scope="web", since=900.0, why="", runner="r1"),
        WaitingJob(id=2, repository="o/r", name="b", scope="web", since=950.0, why=""),
        WaitingJob(id=3, repository="o/r", name="c", scope="web", since=100.0, why="", unservable=True),
    ),
    runners=(RunnerStatus(name="r1", pool="small", scope="web", phase="pending", since=990.0),),
    pools=(
        PoolStatus(name="small", limit=10, phases={"pending": 1}),
        PoolStatus(name="large", limit=2, until=1100.0, failures=3, reason="Invalid account"),
    ),
    scopes=(
        ScopeStatus(
            name="web",
            readable=True,
            last_read=998.0,
            budget=BudgetStatus(remaining=4800, limit=5000, reset=3000.0, counted=200, uncounted=1000),
        ),
        ScopeStatus(name="org", readable=False, error="401"),
    ),
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(version="0.1.0", installation="hpc")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"slurm_gha_{name}", labels)


def tell(metrics: Metrics, *told: events.Event) -> None:
    for event in told:
        metrics(event)


def made(name: str, at: float = 1.0, pool: str = "small") -> tuple[events.Event, events.Event]:
    return (
        events.RunnerIntended(at=at, name=name, pool=pool, scope="web"),
        events.RunnerSubmitted(at=at, name=name, pool=pool, scope="web", slurm_id=1),
    )


def test_submissions_and_claims_by_result(metrics: Metrics) -> None:
    tell(metrics, *made("r1"), *made("r2"))
    tell(metrics, events.SubmissionRefused(at=2, name="r3", pool="small", reason="no"))
    tell(metrics, events.SubmissionUnclear(at=2, name="r1", error="timed out"))
    tell(metrics, events.ClaimGranted(at=3, name="r1"), events.ClaimDenied(at=3, name="x", reason="y"))
    tell(metrics, events.DemandVanished(at=3, name="r2"))
    counted = {result: value(metrics, "submissions_total", pool="small", result=result) for result in RESULTS}
    assert counted == {"accepted": 2, "refused": 1, "unclear": 1}
    assert {o: value(metrics, "claims_total", outcome=o) for o in OUTCOMES} == dict.fromkeys(OUTCOMES, 1)


RESULTS = ("accepted", "refused", "unclear")
OUTCOMES = ("granted", "denied", "demand_vanished")


def test_startup_is_from_sbatch_to_the_first_word_of_listening(metrics: Metrics) -> None:
    tell(metrics, *made("r1", at=10.0), *made("r2", at=10.0), *made("r3", at=10.0))
    tell(metrics, events.RunnerReported(at=14.0, name="r1", event="launched"))
    tell(metrics, events.RunnerReported(at=16.0, name="r1", event="listening", reported_at=99.0))
    tell(metrics, events.PhaseChanged(at=30.0, name="r1", before="starting", after="idle"))
    tell(metrics, events.PhaseChanged(at=12.0, name="r2", before="pending", after="starting"))
    tell(metrics, events.PhaseChanged(at=20.0, name="r2", before="starting", after="busy"))
    tell(metrics, events.RunnerClosed(at=20.0, name="r3", outcome="cancelled in Slurm"))
    tell(metrics, events.PhaseChanged(at=20.0, name="from before a restart", before="", after="idle", pool="small"))
    assert value(metrics, "runner_startup_seconds_count", pool="small") == 2
    assert value(metrics, "runner_startup_seconds_sum", pool="small") == 16.0
    assert value(metrics, "runner_startup_seconds_bucket", pool="small", le="8.0") == 1


def test_waits_are_of_jobs_that_our_runners_took(metrics: Metrics) -> None:
    tell(metrics, *made("r1"), events.RunnerClosed(at=5, name="r1", outcome="finished"))
    for runner in ("r1", "someone-elses", None):
        gone = events.JobGone(at=9, job_id=1, repository="o/r", scope="web", waited=42.0, runner_name=runner)
        tell(metrics, gone)
    assert value(metrics, "job_wait_seconds_count", pool="small") == 1
    assert value(metrics, "job_wait_seconds_sum", pool="small") == 42.0
    assert value(metrics, "runners_closed_total", pool="small", outcome="finished") == 1


def test_everything_that_is_counted_one_by_one(metrics: Metrics) -> None:
    tell(metrics, *made("r1"))
    tell(
        metrics,
        events.RunnerWithdrawn(at=1, name="r1", because="idle"),
        events.WithdrawalDeferred(at=1, name="r1"),
        events.RegistrationRemoved(at=1, name="r1", scope="web"),
        events.RunnerAdopted(at=1, name="r9", slurm_id=4),
        events.StrayCancelled(at=1, name="r8", slurm_id=5),
        events.JobSeen(at=1, job_id=1, repository="o/r", scope="web"),
        events.JobUnservable(at=1, job_id=1, repository="o/r", scope="web", reason="x", obstacle="bounds"),
        events.PoolBackedOff(at=1, pool="small", failures=1, until=9.0, reason="x"),
        events.GitHubUnreadable(at=1, scope="web", error="x"),
        events.SlurmUnreadable(at=1, error="x"),
        events.UnexpectedError(at=1, where="x", error="y"),
        events.RoundFinished(at=1, seconds=0.25, jobs=1, runners=1, actions=0),
    )
    assert value(metrics, "withdrawals_total", pool="small") == 1
    for name in ("withdrawals_deferred", "registrations_removed", "runners_adopted", "strays_cancelled"):
        assert value(metrics, f"{name}_total") == 1
    for name in ("slurm_errors", "unexpected_errors"):
        assert value(metrics, f"{name}_total") == 1
    assert value(metrics, "jobs_unservable_total", scope="web", obstacle="bounds") == 1
    for name in ("jobs_seen", "github_errors"):
        assert value(metrics, f"{name}_total", scope="web") == 1
    assert value(metrics, "pool_backoffs_total", pool="small") == 1
    assert (value(metrics, "round_seconds_count"), value(metrics, "round_seconds_sum")) == (1, 0.25)


def test_slurm_commands(metrics: Metrics) -> None:
    metrics.observe_command("squeue", 0.03, 0)
    metrics.observe_command("squeue", 0.2, 1)
    metrics.observe_command("sbatch", 30.0, None)
    assert value(metrics, "slurm_command_seconds_count", command="squeue") == 2
    assert value(metrics, "slurm_command_seconds_bucket", command="squeue", le="0.05") == 1
    assert value(metrics, "slurm_command_failures_total", command="squeue") == 1
    assert value(metrics, "slurm_command_failures_total", command="sbatch") == 1


def test_the_status_of_the_moment(metrics: Metrics) -> None:
    metrics.observe_status(STATUS)
    assert value(metrics, "runners", pool="small", phase="pending") == 1
    assert value(metrics, "runners", pool="large", phase="busy") == 0
    assert (value(metrics, "pool_limit", pool="small"), value(metrics, "pool_limit", pool="large")) == (10, 2)
    assert (value(metrics, "pool_backoff", pool="small"), value(metrics, "pool_backoff", pool="large")) == (0, 1)
    assert value(metrics, "pool_failures", pool="large") == 3
    assert value(metrics, "jobs_waiting", scope="web", pool="small", state="covered") == 1
    assert value(metrics, "jobs_waiting", scope="web", pool="", state="uncovered") == 1
    assert value(metrics, "jobs_waiting", scope="web", pool="", state="unservable") == 1
    assert value(metrics, "jobs_waiting", scope="org", pool="", state="uncovered") == 0
    assert value(metrics, "jobs_oldest_waiting_seconds", scope="web") == 100.0
    assert value(metrics, "jobs_oldest_waiting_seconds", scope="org") == 0.0
    assert (value(metrics, "slurm_readable"), value(metrics, "slurm_last_read_timestamp_seconds")) == (1, 999.0)
    assert (value(metrics, "github_readable", scope="web"), value(metrics, "github_readable", scope="org")) == (1, 0)
    assert value(metrics, "github_last_read_timestamp_seconds", scope="web") == 998.0
    assert value(metrics, "github_budget_remaining", scope="web") == 4800
    assert value(metrics, "github_budget_limit", scope="web") == 5000
    assert value(metrics, "github_budget_reset_timestamp_seconds", scope="web") == 3000.0
    assert value(metrics, "github_budget_remaining", scope="org") is None
    assert value(metrics, "start_time_seconds") == 500.0
    assert value(metrics, "build_info", version="0.1.0", installation="hpc") == 1


def test_requests_grow_with_the_budgets_counters(metrics: Metrics) -> None:
    def observe(counted: int, uncounted: int) -> tuple[float | None, float | None]:
        budget = BudgetStatus(counted=counted, uncounted=uncounted)
        scope = ScopeStatus(name="web", readable=True, budget=budget)
        slurm = SlurmStatus(readable=True)
        status = Status(installation="hpc", version="1", pid=1, at=1.0, started_at=1.0, slurm=slurm, scopes=(scope,))
        metrics.observe_status(status)
        answers = (value(metrics, "github_requests_total", scope="web", counted=word) for word in ("true", "false"))
        return next(answers), next(answers)

    assert observe(10, 100) == (10, 100)
    assert observe(12, 150) == (12, 150)
    assert observe(12, 150) == (12, 150)
    assert observe(3, 5) == (15, 155)  # a client that was made anew counts from zero


def test_what_is_no_longer_configured_is_no_longer_shown(metrics: Metrics) -> None:
    metrics.observe_status(STATUS)
    empty = Status(installation="hpc", version="1", pid=1, at=1.0, started_at=1.0, slurm=SlurmStatus(readable=False))
    metrics.observe_status(empty)
    text = metrics.render().decode()
    assert 'pool="small"' not in text
    assert 'slurm_gha_github_readable{scope="web"}' not in text
    assert value(metrics, "slurm_readable") == 0


def test_two_instances_share_nothing() -> None:
    one, other = (Metrics(version="1", installation=name) for name in ("a", "b"))
    tell(one, events.UnexpectedError(at=1, where="x", error="y"))
    assert value(one, "unexpected_errors_total") == 1
    assert value(other, "unexpected_errors_total") == 0


def test_no_flood_of_names_makes_a_flood_of_series(metrics: Metrics) -> None:
    def series() -> int:
        return sum(len(family.samples) for family in text_string_to_metric_families(metrics.render().decode()))

    def flood(begin: int) -> None:
        for number in range(begin, begin + 500):
            name, word = f"sg-hpc-small-{number}", f"whatever {number}"
            tell(metrics, *made(name), events.ClaimDenied(at=2, name=name, reason=word))
            tell(metrics, events.ClaimDenied(at=2, name=word, reason=word))
            tell(metrics, events.RunnerReported(at=2, name=name, event=word, detail=word))
            tell(metrics, events.JobSeen(at=2, job_id=number, repository=word, scope="web", labels=(word,)))
            gone = events.JobGone(at=2, job_id=number, repository=word, scope="web", waited=1, runner_name=name)
            tell(metrics, gone, events.RunnerClosed(at=3, name=name, outcome=word, detail=word))
            metrics.observe_command(word, 0.1, 0)

    flood(0)
    before = series()
    flood(1000)
    assert series() == before
    assert value(metrics, "runners_closed_total", pool="small", outcome="other") == 1000 - 40


def test_the_text_is_what_prometheus_reads_and_has_no_times_of_making(metrics: Metrics) -> None:
    tell(metrics, *made("r1"), events.RunnerClosed(at=1, name="r1", outcome='quo"te\\\n'))
    metrics.observe_status(STATUS)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert families["slurm_gha_submissions"].type == "counter"
    assert families["slurm_gha_job_wait_seconds"].type == "histogram"
    assert "process_resident_memory_bytes" in families
    assert not [name for name in families if name.endswith("_created")]
    (closed,) = families["slurm_gha_runners_closed"].samples
    assert closed.labels["outcome"] == 'quo"te\\\n'


def exposed(metrics: Metrics) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric of ours with its type and labels, whether or not it has a sample yet."""
    found = {}
    for collector in metrics.registry._collector_to_names:
        for family in collector.collect():
            if family.name.startswith("slurm_gha_"):
                name = family.name + ("_total" if family.type == "counter" else "")
                found[name] = (family.type, tuple(getattr(collector, "_labelnames", ())))
    return found


def test_every_metric_is_documented_with_its_type_and_labels(metrics: Metrics) -> None:
    rows = re.findall(r"^\| `(slurm_gha_\w+)` \| (\w+) \| (.*?)\| (.*?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}
    assert len(documented) == len(rows)
    assert documented == exposed(metrics)
    assert all(text.strip() for *_, text in rows)


def test_deliveries_are_counted_and_timed_to_the_submission(metrics: Metrics) -> None:
    def taken(at: float, outcome: str, action: str = "queued", job_id: int | None = 7) -> None:
        metrics(events.DeliveryTaken(at=at, scope="web", action=action, outcome=outcome, job_id=job_id))

    taken(100.0, "new")
    taken(100.5, "known")
    taken(101.0, "new", "completed", 8)
    metrics(events.DeliveryRefused(at=102.0, scope="", reason="wrong or missing signature"))
    metrics(events.DeliveriesMissed(at=103.0, scope="web", missed=40, asked=30))
    for name in ("r1", "r2"):  # the second for the same job is none that the delivery caused
        metrics(events.RunnerIntended(at=100.1, name=name, pool="small", scope="web", job_id=7))
        metrics(events.RunnerSubmitted(at=100.2, name=name, pool="small", scope="web", slurm_id=1))
    assert value(metrics, "webhook_deliveries_total", scope="web", outcome="new") == 2
    assert value(metrics, "webhook_deliveries_total", scope="web", outcome="known") == 1
    assert value(metrics, "webhook_deliveries_total", scope="", outcome="refused") == 1
    assert value(metrics, "webhook_deliveries_missed_total", scope="web") == 40
    assert value(metrics, "webhook_to_submission_seconds_count", scope="web") == 1
    assert value(metrics, "webhook_to_submission_seconds_sum", scope="web") == pytest.approx(0.2)


def test_the_last_delivery_is_shown_for_scopes_with_a_webhook_only(metrics: Metrics) -> None:
    pushed = ScopeStatus(name="web", readable=True, sources=("poll", "webhook"), last_delivery=990.0)
    metrics.observe_status(replace(STATUS, scopes=(pushed, ScopeStatus(name="org", readable=True))))
    assert value(metrics, "webhook_last_delivery_timestamp_seconds", scope="web") == 990.0
    assert value(metrics, "webhook_last_delivery_timestamp_seconds", scope="org") is None
