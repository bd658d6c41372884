"""The latest events, and the stories among them."""

from __future__ import annotations

from slurm_gha.observe import events
from slurm_gha.observe.history import History

SEEN = events.JobSeen(at=0, job_id=7, repository="o/r", scope="web")
MADE = events.RunnerIntended(at=1, name="r1", pool="small", scope="web", job_id=7, repository="o/r")
OTHER = events.RunnerIntended(at=1, name="r2", pool="small", scope="web", job_id=8, repository="o/r")
SUBMITTED = events.RunnerSubmitted(at=2, name="r1", pool="small", scope="web", slurm_id=5)
ROUND = events.RoundFinished(at=3, seconds=0.1, jobs=1, runners=1, actions=1)
# r2 takes the job that r1 was made for.
STOLEN = events.JobGone(at=4, job_id=7, repository="o/r", scope="web", waited=4.0, runner_name="r2")
CLOSED = events.RunnerClosed(at=5, name="r1", outcome="withdrawn")


def test_stories_of_a_runner_and_of_a_job() -> None:
    history = History()
    for event in (SEEN, MADE, OTHER, SUBMITTED, ROUND, STOLEN, CLOSED):
        history(event)
    assert history.of_runner("r1") == (MADE, SUBMITTED, CLOSED)
    assert history.of_job(7) == (SEEN, MADE, OTHER, SUBMITTED, STOLEN, CLOSED)
    assert history.of_job(9) == ()
    assert history.recent(2) == (CLOSED, STOLEN)
    assert history.recent(100) == (CLOSED, STOLEN, SUBMITTED, OTHER, MADE, SEEN)


def test_memory_is_bounded() -> None:
    history = History(kept=10)
    for number in range(100):
        history(events.SlurmReadable(at=float(number)))
    assert [event.at for event in history.recent(100)] == [float(at) for at in range(99, 89, -1)]
