"""Whatever happens to the simulated GitHub, jobs and runners stay in step."""

from __future__ import annotations

import anyio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.clocks import SetClock

from slurm_gha.domain.labels import normalise, satisfies
from slurm_gha.testing.github.errors import RefusedError
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Assignment, SimRunner

LABELS = [
    ["self-hosted"],
    ["self-hosted", "Small"],
    ["self-hosted", "small", "large", "gpu"],
    ["Self-Hosted", "gpu", "large"],
    ["large"],
]
REPOSITORIES = ["octo/one", "octo/two"]
WORKFLOW = """
on: workflow_dispatch
jobs:
  a: {runs-on: [self-hosted], steps: [{run: x}]}
  b: {runs-on: [self-hosted, small], steps: [{run: x}]}
  c: {needs: a, runs-on: [SELF-HOSTED, Large], steps: [{run: x}]}
  d: {needs: [b, c], if: always(), strategy: {matrix: {n: [1, 2]}}, runs-on: [self-hosted, gpu], steps: [{run: x}]}
"""
PATH = ".github/workflows/x.yml"


class Assignments(RuleBasedStateMachine):
    """Any order of pushes, runners, cancellations, losses and time."""

    @initialize(steal=st.booleans(), seed=st.integers(0, 1000))
    def begin(self, steal: bool, seed: int) -> None:
        self.clock = SetClock()
        self.github = GitHub(self.clock, seed=seed, behaviour=Behaviour(steal=steal))
        for name in REPOSITORIES:
            self.github.add_repository(name, {PATH: WORKFLOW})
        self.names = 0

    def _pick(self, choices: list[SimRunner], index: int) -> SimRunner | None:
        return choices[index % len(choices)] if choices else None

    @rule(name=st.sampled_from(REPOSITORIES))
    def start(self, name: str) -> None:
        self.github.dispatch(name, PATH)

    @rule(
        labels=st.sampled_from(LABELS),
        scope=st.sampled_from(["orgs/octo", *(f"repos/{name}" for name in REPOSITORIES)]),
        online=st.sampled_from([True, True, True, False]),
    )
    def mint(self, labels: list[str], scope: str, online: bool) -> None:
        self.names += 1
        runner, _ = self.github.mint_runner(scope, f"r{self.names}", labels)
        if online:
            self.github.open_session(runner)

    @rule(index=st.integers(0, 50))
    def acquire(self, index: int) -> None:
        self._acquire(index)

    def _acquire(self, index: int) -> None:
        self.github.tick()
        offered = [session.runner for session in self.github.sessions.values() if session.assignment is not None]
        runner = self._pick(offered, index)
        if runner is None:
            return
        session = next(each for each in self.github.sessions.values() if each.runner is runner)
        message = self.github.next_message(session.id)
        assert isinstance(message, Assignment)
        job = self.github.acquire(runner, message.id)
        assert self.github.acquire(runner, message.id) is job
        assert satisfies(runner.offered, normalise(job.labels))

    @rule(index=st.integers(0, 50), conclusion=st.sampled_from(["success", "failure"]), stays=st.booleans())
    def complete(self, index: int, conclusion: str, stays: bool) -> None:
        self.github.tick()
        if not any(each.busy for each in self.github.runners.values()):
            self._acquire(index)
        runner = self._pick([each for each in self.github.runners.values() if each.busy], index)
        if runner is None or runner.job_id is None:
            return
        self.github.complete(runner.job_id, conclusion)
        session = next((each for each in self.github.sessions.values() if each.runner is runner), None)
        if session is not None and not stays:
            self.github.close_session(session.id)
            assert runner.id not in self.github.runners

    @rule(index=st.integers(0, 50))
    def remove(self, index: int) -> None:
        self.github.tick()
        runner = self._pick(list(self.github.runners.values()), index)
        if runner is None:
            return
        busy = runner.busy
        try:
            self.github.remove_runner(runner.id)
        except RefusedError:
            assert busy
        else:
            assert not busy

    @rule(index=st.integers(0, 50))
    def close(self, index: int) -> None:
        self.github.tick()
        sessions = sorted(self.github.sessions)
        if sessions:
            self.github.close_session(sessions[index % len(sessions)])

    @precondition(lambda self: self.github.runs)
    @rule(index=st.integers(0, 50), force=st.booleans())
    def cancel(self, index: int, force: bool) -> None:
        run = list(self.github.runs.values())[index % len(self.github.runs)]
        if run.status != "completed":
            self.github.cancel_run(run.repository.full_name, run.id, force=force)

    @precondition(lambda self: self.github.runs)
    @rule(index=st.integers(0, 50))
    def again(self, index: int) -> None:
        run = list(self.github.runs.values())[index % len(self.github.runs)]
        if run.status == "completed" and run.conclusion in ("failure", "cancelled"):
            self.github.rerun_failed_jobs(run.repository.full_name, run.id)

    @rule(seconds=st.sampled_from([1.0, 61.0, 130.0, 650.0, 90_000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds
        self.github.tick()

    @invariant()
    def in_step(self) -> None:
        github = self.github
        for runner in github.runners.values():
            if runner.job_id is not None:
                job = github.jobs[runner.job_id]
                assert (job.status, job.runner_id, job.runner_name) == ("in_progress", runner.id, runner.name)
        running = [job for job in github.jobs.values() if job.status == "in_progress"]
        assert all(github.runners[job.runner_id or 0].job_id == job.id for job in running)
        offers = [session.assignment for session in github.sessions.values() if session.assignment is not None]
        assert len({offer.job.id for offer in offers}) == len(offers)
        assert all(offer.job.status == "queued" and offer.job.assignment is offer for offer in offers)

    @invariant()
    def nothing_waits_that_could_run(self) -> None:
        free = [
            session.runner
            for session in self.github.sessions.values()
            if session.assignment is None and not session.runner.busy and not session.runner.done
        ]
        for job in self.github.jobs.values():
            if job.status == "queued" and job.assignment is None:
                scopes = {f"repos/{job.repository.full_name}", "orgs/octo"}
                assert not [each for each in free if each.scope in scopes and satisfies(each.offered, job.wanted)]

    @invariant()
    def runs_end_when_their_jobs_have(self) -> None:
        for run in self.github.runs.values():
            finished = all(job.status == "completed" for job in self.github.present_jobs(run))
            assert (run.status == "completed") == finished
            assert (run.id in run.repository.open_runs) == (run.status != "completed")


Assignments.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAssignments = Assignments.TestCase


def test_one_seed_gives_one_history() -> None:
    async def history(seed: int) -> list[tuple[str, int, str]]:
        github = GitHub(SetClock(), seed=seed, behaviour=Behaviour(steal=True))
        seen: list[tuple[str, int, str]] = []
        github.listeners.append(lambda event: seen.append((event.kind, event.id, event.name)))
        github.add_repository("octo/one", {PATH: WORKFLOW})
        for number in range(8):
            github.dispatch("octo/one", PATH)
            runner, _ = github.mint_runner("orgs/octo", f"r{number}", ["self-hosted", "small"])
            message = github.next_message(github.open_session(runner))
            assert isinstance(message, Assignment)
            github.acquire(runner, message.id)
        return seen

    first = anyio.run(history, 1)
    assert first == anyio.run(history, 1)
    assert first != anyio.run(history, 2)
