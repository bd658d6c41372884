"""The matching, held against a reference that works vertex by vertex."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tests.properties.strategies import label_sets, reference_maximum, wide_label_sets

from slurm_gha.domain.job import Job, JobStatus
from slurm_gha.domain.labels import Labels
from slurm_gha.planner.matching import Free, Matching, match


def job(number: int, labels: Labels, created_at: float) -> Job:
    return Job(number, "alpha", "octo/repo", 1, 1, f"job {number}", "ci", labels, JobStatus.QUEUED, created_at)


@st.composite
def demand(draw: st.DrawFn) -> list[Job]:
    drawn = draw(st.lists(st.tuples(label_sets, st.integers(0, 5)), max_size=14))
    return [job(number, labels, float(created)) for number, (labels, created) in enumerate(drawn)]


@st.composite
def supply(draw: st.DrawFn) -> list[Free]:
    drawn = draw(st.lists(st.tuples(wide_label_sets, st.integers(0, 4), st.integers(0, 3)), max_size=14))
    return [Free(f"r{n:02d}", labels, rank, float(since)) for n, (labels, rank, since) in enumerate(drawn)]


@given(demand(), supply())
def test_it_is_maximum(jobs: list[Job], runners: list[Free]) -> None:
    assert len(match(jobs, runners).pairs) == reference_maximum([j.labels for j in jobs], [r.labels for r in runners])


@given(demand(), supply())
def test_every_pair_is_legal_and_nothing_is_lost(jobs: list[Job], runners: list[Free]) -> None:
    matching = match(jobs, runners)
    wanted = {j.id: j.labels for j in jobs}
    offered = {r.name: r.labels for r in runners}
    assert all(wanted[job_id] <= offered[name] for job_id, name in matching.pairs.items())
    assert Counter([*matching.pairs.values(), *matching.surplus]) == Counter(offered.keys())
    assert Counter([*matching.pairs, *(j.id for j in matching.uncovered)]) == Counter(wanted.keys())


@given(demand(), supply(), st.randoms(use_true_random=False))
def test_it_is_the_same_for_any_order_of_the_inputs(jobs: list[Job], runners: list[Free], random: object) -> None:
    expected = match(jobs, runners)
    random.shuffle(jobs)  # type: ignore[attr-defined]
    random.shuffle(runners)  # type: ignore[attr-defined]
    shuffled = match(jobs, runners)
    assert shuffled == expected
    assert list(shuffled.pairs) == list(expected.pairs)


@given(demand(), supply())
def test_it_keeps_the_runners_that_are_furthest_along(jobs: list[Job], runners: list[Free]) -> None:
    """Up to each rank it keeps as many runners as any matching could: none keeps more of the best, then the next."""
    kept = _kept(match(jobs, runners), runners)
    wanted = [j.labels for j in jobs]
    for rank in range(5):
        best = reference_maximum(wanted, [r.labels for r in runners if r.rank <= rank])
        assert sum(r.rank <= rank for r in kept) == best


@given(demand(), supply())
def test_the_older_job_of_two_alike_is_covered_first(jobs: list[Job], runners: list[Free]) -> None:
    matching = match(jobs, runners)
    for left in matching.uncovered:
        for other in jobs:
            if other.labels == left.labels and other.id in matching.pairs:
                assert (other.created_at, other.id) < (left.created_at, left.id)


@given(demand(), supply())
def test_the_older_runner_of_two_alike_is_kept(jobs: list[Job], runners: list[Free]) -> None:
    matching = match(jobs, runners)
    kept = _kept(matching, runners)
    for left in (r for r in runners if r.name in matching.surplus):
        for other in kept:
            if (other.labels, other.rank) == (left.labels, left.rank):
                assert (other.since, other.name) < (left.since, left.name)


@given(demand(), supply())
def test_what_is_left_over_comes_in_order(jobs: list[Job], runners: list[Free]) -> None:
    matching = match(jobs, runners)
    ages = [(j.created_at, j.id) for j in matching.uncovered]
    assert ages == sorted(ages)
    assert list(matching.surplus) == sorted(matching.surplus)


@given(st.integers(0, 400), st.integers(0, 400))
def test_many_alike_cost_one_vertex(jobs: int, runners: int) -> None:
    """Hundreds of one kind: the size is plain arithmetic, and the oldest are served."""
    labels = frozenset({"linux"})
    matching = match([job(n, labels, n) for n in range(jobs)], [Free(f"r{n:03d}", labels, 1) for n in range(runners)])
    assert list(matching.pairs.items()) == [(n, f"r{n:03d}") for n in range(min(jobs, runners))]


def _kept(matching: Matching, runners: list[Free]) -> list[Free]:
    names = set(matching.pairs.values())
    return [runner for runner in runners if runner.name in names]
