"""What is told and what is read, made one: in whatever order, loss and repetition, a later reading decides."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.controller.news import News
from slurm_gha.controller.told import END_KEPT, LATE, RunReading, Seen, furthest, is_late, merged, takers
from slurm_gha.domain.hint import Hint
from slurm_gha.domain.job import Job, JobStatus, Origin
from slurm_gha.domain.told import Told, rank
from slurm_gha.planner.verdicts import LISTING_LAG

NOW = 1_800_000_000.0
LIFE = (JobStatus.WAITING, JobStatus.QUEUED, JobStatus.IN_PROGRESS, JobStatus.COMPLETED)
REPOSITORY = "lab/demo"


def job(number: int, status: JobStatus = JobStatus.QUEUED) -> Job:
    """A job of run ``number // 3``."""
    runner = f"sg-{number}" if rank(status) >= rank(JobStatus.IN_PROGRESS) else None
    return Job(
        id=number,
        scope="lab",
        repository=REPOSITORY,
        run_id=1 + number // 3,
        run_attempt=1,
        name="build",
        workflow="CI",
        labels=frozenset({"small"}),
        status=status,
        created_at=NOW,
        runner_name=runner,
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[int, JobStatus], list[Told]]:
    """Where each job really is, and the deliveries about them as they arrive: any order, some lost, some twice."""
    truth = draw(st.dictionaries(st.integers(1, 9), st.sampled_from(LIFE), min_size=1, max_size=6))
    words = [
        Told(job(number, status), 0.0)
        for number, reached in truth.items()
        for status in LIFE
        if rank(status) <= rank(reached)
    ]
    arriving = draw(st.lists(st.sampled_from(words), max_size=2 * len(words)))
    arriving = draw(st.permutations(arriving))
    times = sorted(draw(st.lists(st.floats(0, 300), min_size=len(arriving), max_size=len(arriving))))
    return truth, [replace(word, at=NOW + at) for word, at in zip(arriving, times, strict=True)]


def really(truth: dict[int, JobStatus]) -> tuple[Job, ...]:
    """What a listing shows."""
    open_ones = (JobStatus.QUEUED, JobStatus.IN_PROGRESS)
    return tuple(job(number, status) for number, status in sorted(truth.items()) if status in open_ones)


def heard(words: list[Told]) -> News:
    news = News()
    for word in words:
        news.hear(word)
    return news


@given(histories())
def test_with_a_final_listing_the_world_is_the_listing_s(history: tuple[dict[int, JobStatus], list[Told]]) -> None:
    truth, words = history
    at = NOW + 300 + LISTING_LAG + 1
    news = heard(words)
    assert news.jobs("lab", {REPOSITORY: (really(truth), at)}, at + 1) == really(truth)
    assert news.unsettled(at + 10_000, 0.0) == [], "everything is settled and forgotten"


@given(histories(), st.floats(0, 300), st.lists(st.integers(1, 4), unique=True))
def test_looks_at_single_runs_settle_the_same(
    history: tuple[dict[int, JobStatus], list[Told]], listed: float, runs: list[int]
) -> None:
    """An old, empty listing, and later a look at every run: the world is what the looks showed."""
    truth, words = history
    news = heard(words)
    began = NOW + 300 + LISTING_LAG + 1
    for run_id in {1 + number // 3 for number in range(1, 10)} | set(runs):
        jobs = tuple(each for each in really(truth) if each.run_id == run_id)
        news.looked("lab", REPOSITORY, run_id, RunReading(began, jobs))
    found = news.jobs("lab", {REPOSITORY: ((), NOW + listed)}, began + 1)
    assert sorted(found, key=lambda each: each.id) == list(really(truth))


@given(histories())
def test_if_nothing_is_lost_the_words_alone_are_the_truth(history: tuple[dict[int, JobStatus], list[Told]]) -> None:
    truth, words = history
    last = [Told(job(number, status), NOW + 300) for number, status in truth.items()]
    found = heard([*words, *last]).jobs("lab", {}, NOW + 301)
    assert sorted(found, key=lambda each: each.id) == list(really(truth))


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(history: tuple[dict[int, JobStatus], list[Told]], chance: object) -> None:
    _, words = history
    same = [replace(word, at=NOW) for word in words]
    mixed = list(same)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    one, two = heard(same).jobs("lab", {}, NOW), heard(mixed).jobs("lab", {}, NOW)
    assert one == two
    assert heard([*mixed, *mixed]).jobs("lab", {}, NOW) == one


@given(histories(), st.floats(-60, 300))
def test_a_job_never_goes_back(history: tuple[dict[int, JobStatus], list[Told]], listed: float) -> None:
    """Whatever an older listing shows, a job is at least as far as it was told to be."""
    truth, words = history
    listing = tuple(job(number) for number in truth)
    for position in range(len(words) + 1):
        told: dict[int, Told] = {}
        for word in words[:position]:
            told[word.job.id] = furthest(told.get(word.job.id), word)
        seen = Seen(listing, NOW + listed)
        found = {each.id: each for each in merged(seen, told.values())}
        for number, word in told.items():
            if not seen.overrules(word):
                assert (number not in found) if word.rank == 3 else rank(found[number].status) >= word.rank


@given(st.sampled_from(LIFE), st.sampled_from(LIFE), st.floats(-100, 100))
def test_a_reading_overrules_once_it_cannot_lag_behind(said: JobStatus, shown: JobStatus, after: float) -> None:
    word = Told(job(1, said), NOW)
    listing = really({1: shown})
    found = merged(Seen(listing, NOW + after), [word])
    if after > LISTING_LAG:
        assert found == listing
    elif said is JobStatus.COMPLETED:
        assert found == ()
    elif listing:
        assert found[0].status is max(said, shown, key=rank)


def test_what_comes_late_makes_no_demand() -> None:
    late = Told(job(1), NOW, late=True)
    assert merged(Seen(), [late]) == ()
    assert merged(Seen((job(1),), NOW - 100), [late]) == (job(1),)
    assert merged(Seen((job(1),), NOW - 100), [replace(late, job=job(1, JobStatus.COMPLETED))]) == ()


def test_lateness() -> None:
    assert not is_late(job(1), NOW + 1, None)
    assert is_late(job(1), NOW + LATE + 1, None)
    assert not is_late(job(1), NOW + 20, NOW + LISTING_LAG)
    assert is_late(job(1), NOW + 20, NOW + LISTING_LAG + 0.1), "a reading since does not show it"
    assert not is_late(replace(job(1), started_at=NOW + 1000), NOW + 1001, None)


def test_where_a_job_came_from_is_kept_through_its_life() -> None:
    read, told = Origin("push", "main", "mona", False), Origin(None, "main", "mona", None)
    listing = (replace(job(1), origin=read, scale_set="gpu"),)
    (taken,) = merged(Seen(listing, NOW), [Told(replace(job(1, JobStatus.IN_PROGRESS), origin=told), NOW)])
    assert (taken.status, taken.origin, taken.scale_set) == (JobStatus.IN_PROGRESS, read, "gpu")
    (known,) = merged(Seen((job(1),), NOW), [Told(replace(job(1), origin=told), NOW)])
    assert known.origin == told


def test_who_had_a_job_that_has_just_ended_is_known_for_a_while() -> None:
    ended = Told(job(1, JobStatus.COMPLETED), NOW)
    assert takers([ended], NOW + 20) == {"sg-1": 1}
    assert takers([ended], NOW + 40) == {}
    assert takers([Told(job(2), NOW)], NOW) == {}


def test_what_nobody_confirms_is_looked_at_until_it_is_settled() -> None:
    news = heard([Told(job(1), NOW), Told(job(4, JobStatus.IN_PROGRESS), NOW + 50)])
    assert news.unsettled(NOW + 99, 100.0) == []
    assert news.unsettled(NOW + 120, 100.0) == [Hint("lab", REPOSITORY, 1)]
    news.looked("lab", REPOSITORY, 1, RunReading(NOW + 120, (job(1),)))
    assert [each.id for each in news.jobs("lab", {}, NOW + 121)] == [1, 4]
    assert news.unsettled(NOW + 160, 100.0) == [Hint("lab", REPOSITORY, 2)]
    assert Hint("lab", REPOSITORY, 1) in news.unsettled(NOW + 221, 100.0), "a job that still waits is asked about again"
    for run_id in (1, 2):
        news.looked("lab", REPOSITORY, run_id, RunReading(NOW + 230, ()))
    assert news.jobs("lab", {}, NOW + 231) == ()
    assert news.unsettled(NOW + 9999, 0.0) == []


def test_an_end_is_kept_as_long_as_an_older_reading_might_show_the_job() -> None:
    news = heard([Told(job(1, JobStatus.COMPLETED), NOW)])
    before = {REPOSITORY: ((job(1),), NOW - 1)}
    assert news.jobs("lab", before, NOW + 1) == ()
    assert news.jobs("lab", before, NOW + 10 * END_KEPT) == ()
    assert news.jobs("lab", {REPOSITORY: ((), NOW - 1)}, NOW + 10 * END_KEPT) == ()
    assert news.jobs("lab", before, NOW + 10 * END_KEPT) == (job(1),), "forgotten, once no reading showed it"
