"""GitHub's count is the level: there are exactly as many jobs as it says, whatever the messages were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.domain.scaleset import AssignedJob, Statistics
from slurm_gha.planner.level import Taker, level

AT = 1_000_000.0
RUNNERS = [f"r{number}" for number in range(6)]


@st.composite
def assigned_jobs(draw: st.DrawFn) -> list[AssignedJob]:
    jobs = []
    for number in range(draw(st.integers(0, 8))):
        started = draw(st.booleans())
        jobs.append(
            AssignedJob(
                job_id=f"job {number}",
                repository="o/n",
                name="build",
                workflow_ref="",
                run_id=0,
                event="push",
                labels=frozenset({"small"}),
                queued_at=AT - draw(st.integers(0, 500)),
                started_at=AT - 1.0 if started else None,
                runner_name=draw(st.sampled_from([*RUNNERS, None])) if started else None,
            )
        )
    return jobs


@st.composite
def counts(draw: st.DrawFn) -> Statistics:
    total = draw(st.integers(0, 12))
    return Statistics(assigned=total, running=draw(st.integers(0, 14)))


takers = st.lists(
    st.builds(Taker, st.sampled_from(RUNNERS), st.floats(AT - 100.0, AT + 100.0)), unique_by=lambda taker: taker.name
)
live = st.sets(st.sampled_from(RUNNERS))


@given(assigned_jobs(), counts(), live, takers)
def test_there_are_as_many_jobs_as_github_counts(
    known: list[AssignedJob], statistics: Statistics, live: set[str], takers: list[Taker]
) -> None:
    found = level(known, statistics, AT, live=live, takers=takers)
    assert len(found) == statistics.assigned
    assert len({job.job_id for job in found}) == len(found)


@given(assigned_jobs(), counts(), live, takers)
def test_no_more_want_a_runner_than_wait_by_the_count(
    known: list[AssignedJob], statistics: Statistics, live: set[str], takers: list[Taker]
) -> None:
    found = level(known, statistics, AT, live=live, takers=takers)
    waiting = sum(job.started_at is None for job in found)
    assert waiting <= max(0, statistics.assigned - statistics.running)


@given(assigned_jobs(), counts(), st.lists(st.sampled_from(RUNNERS), unique=True, max_size=4))
def test_a_runner_that_took_its_job_after_the_count_leaves_none_for_a_second_one(
    known: list[AssignedJob], statistics: Statistics, names: list[str]
) -> None:
    unnamed = [name for name in names if name not in {job.runner_name for job in known}]
    before = level(known, statistics, AT, live=set(names))
    after = level(known, statistics, AT, live=set(names), takers=[Taker(name, AT + 10.0) for name in unnamed])

    def waiting(jobs: tuple[AssignedJob, ...]) -> int:
        return sum(job.started_at is None for job in jobs)

    running_unnamed = sum(job.started_at is not None and job.runner_name is None for job in before)
    expected = max(0, waiting(before) - max(0, len(unnamed) - running_unnamed))
    assert waiting(after) <= waiting(before)
    assert waiting(after) >= expected


@given(assigned_jobs(), live)
def test_where_count_and_messages_agree_the_jobs_are_those_of_the_messages(
    known: list[AssignedJob], live: set[str]
) -> None:
    statistics = Statistics(assigned=len(known), running=sum(job.started_at is not None for job in known))
    found = level(known, statistics, AT, live=live)
    assert sorted(found, key=lambda job: job.job_id) == sorted(known, key=lambda job: job.job_id)
