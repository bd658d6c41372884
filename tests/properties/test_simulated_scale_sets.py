"""Whatever happens to the simulated scale-set service, its numbers, its jobs and its messages stay in step."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.clocks import SetClock

from slurm_gha.domain.labels import satisfies
from slurm_gha.testing.github.errors import RefusedError
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.scalesets.behaviour import MESSAGE_ITEMS, ScaleSetBehaviour
from slurm_gha.testing.github.scalesets.values import ClaimState, QueueSession, ScaleSet
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import Assignment, SimRunner

PATH = ".github/workflows/x.yml"
WORKFLOW = """
on: workflow_dispatch
jobs:
  a: {runs-on: [lab], steps: [{run: x}]}
  b: {needs: a, runs-on: [LAB, gpu], steps: [{run: x}]}
  c: {runs-on: [self-hosted], steps: [{run: x}]}
  d: {strategy: {matrix: {n: [1, 2, 3]}}, runs-on: [lab], steps: [{run: x}]}
"""
SETS = [("repos/octo/one", "lab", ()), ("orgs/octo", "lab", ("lab", "gpu")), ("enterprises/big", "gpu", ("LAB",))]


class Queues(RuleBasedStateMachine):
    """Any order of scale sets, sessions, polls, acknowledgements, runners, cancellations and time."""

    @initialize(
        acquire=st.booleans(), skip=st.booleans(), steal=st.booleans(), busy=st.booleans(), seed=st.integers(0, 99)
    )
    def begin(self, acquire: bool, skip: bool, steal: bool, busy: bool, seed: int) -> None:
        self.clock = SetClock()
        knobs = ScaleSetBehaviour(acquire=acquire, skip_read=skip, abandoned_after=5000.0, assignment_timeout=200.0)
        self.github = GitHub(self.clock, seed=seed, behaviour=Behaviour(steal=steal, scale_sets=knobs))
        for name in ("octo/one", "octo/two"):
            self.github.add_repository(name, {PATH: WORKFLOW})
        self.github.add_enterprise("big", ["octo"])
        self.names = 0
        self.acknowledged: set[int] = set()
        if busy:
            self.create(SETS[1])
            self.open(0)
            self.poll(0, 4, True)
            for _ in range(2):
                self.mint(0, False, True)

    @property
    def sets(self) -> list[ScaleSet]:
        return list(self.github.scale_sets.sets.values())

    def _set(self, index: int) -> ScaleSet | None:
        self.github.tick()
        return self.sets[index % len(self.sets)] if self.sets else None

    def _session(self, index: int) -> QueueSession | None:
        self.github.tick()
        alive = [each.session for each in self.sets if each.session is not None]
        return alive[index % len(alive)] if alive else None

    @rule(which=st.sampled_from(SETS))
    def create(self, which: tuple[str, str, tuple[str, ...]]) -> None:
        scope, name, labels = which
        try:
            self.github.scale_sets.create(scope, name, labels=labels)
        except RefusedError:
            assert any(each.scope == scope and each.name == name for each in self.sets)

    @rule(index=st.integers(0, 9), gone=st.sampled_from([False, False, True]))
    def change(self, index: int, gone: bool) -> None:
        found = self._set(index)
        if found is not None and gone:
            self.github.scale_sets.remove(found)
        elif found is not None:
            self.github.scale_sets.update(found, labels=["lab", "gpu"] if index % 2 else ["gpu"])

    @rule(name=st.sampled_from(["octo/one", "octo/two"]))
    def start(self, name: str) -> None:
        self.github.dispatch(name, PATH)

    @rule(index=st.integers(0, 9))
    def open(self, index: int) -> None:
        found = self._set(index)
        if found is None:
            return
        alive = found.session is not None
        try:
            self.github.scale_sets.sessions.open(found, "somebody", "tenant")
        except RefusedError:
            assert alive
        else:
            assert not alive

    @rule(index=st.integers(0, 9))
    def close(self, index: int) -> None:
        session = self._session(index)
        if session is not None:
            self.github.scale_sets.sessions.close(session)

    @rule(index=st.integers(0, 9), capacity=st.integers(0, 6), heard=st.sampled_from([True, True, False]))
    def poll(self, index: int, capacity: int, heard: bool) -> None:
        session = self._session(index)
        if session is None:
            return
        found = session.scale_set
        before = self.github.scale_sets.statistics(found).assigned
        found.polled, found.capacity = True, capacity
        message = self.github.scale_sets.sessions.next_message(session.id)
        assert self.github.scale_sets.statistics(found).assigned <= max(before, capacity)
        if message is None:
            assert not found.items
            return
        assert message.id not in self.acknowledged
        assert len(message.items) <= MESSAGE_ITEMS
        assert message.id in found.messages
        announced = [each["runnerRequestId"] for each in message.items if each["messageType"] == "JobAvailable"]
        if heard:
            self.github.scale_sets.sessions.acknowledge(session, message.id)
            self.acknowledged.add(message.id)
            got = self.github.scale_sets.sessions.acquire(session, announced)
            assert set(got) <= set(announced)

    @rule(index=st.integers(0, 9), plain=st.booleans(), online=st.sampled_from([True, True, False]))
    def mint(self, index: int, plain: bool, online: bool) -> None:
        self.names += 1
        found = self._set(index)
        if plain or found is None:
            runner, _ = self.github.mint_runner("orgs/octo", f"r{self.names}", ["self-hosted", "lab", "gpu"])
        else:
            runner, _ = self.github.scale_sets.mint_runner(found, f"r{self.names}")
        if online:
            self.github.open_session(runner)

    @rule(index=st.integers(0, 50))
    def take(self, index: int) -> None:
        self.github.tick()
        offered = [session for session in self.github.sessions.values() if session.assignment is not None]
        if not offered:
            return
        session = offered[index % len(offered)]
        message = self.github.next_message(session.id)
        assert isinstance(message, Assignment)
        state = self.github.scale_sets.state_of(message.job)
        assert state is (None if session.runner.scale_set_id is None else ClaimState.ASSIGNED)
        self.github.acquire(session.runner, message.id)

    @rule(index=st.integers(0, 50), conclusion=st.sampled_from(["success", "failure"]))
    def complete(self, index: int, conclusion: str) -> None:
        self.github.tick()
        busy = [runner for runner in self.github.runners.values() if runner.job_id is not None]
        if busy:
            runner = busy[index % len(busy)]
            assert runner.job_id is not None
            self.github.complete(runner.job_id, conclusion)

    @rule(index=st.integers(0, 50))
    def remove(self, index: int) -> None:
        self.github.tick()
        idle = [runner for runner in self.github.runners.values() if not runner.busy]
        if idle:
            self.github.remove_runner(idle[index % len(idle)].id)

    @precondition(lambda self: self.github.runs)
    @rule(index=st.integers(0, 50), force=st.booleans())
    def cancel(self, index: int, force: bool) -> None:
        run = list(self.github.runs.values())[index % len(self.github.runs)]
        if run.status != "completed":
            self.github.cancel_run(run.repository.full_name, run.id, force=force)

    @rule(seconds=st.sampled_from([1.0, 31.0, 61.0, 210.0, 700.0, 6000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds
        self.github.tick()

    @invariant()
    def assigned_are_waiting_and_running_ones(self) -> None:
        for each in self.sets:
            numbers = self.github.scale_sets.statistics(each)
            states = [claim.state for claim in each.claims.values()]
            waiting = states.count(ClaimState.ASSIGNED)
            running = [claim.job for claim in each.claims.values() if claim.state is ClaimState.RUNNING]
            assert numbers.assigned == waiting + numbers.running
            assert numbers.running == len(running)
            assert all(job.status == "in_progress" for job in running)
            mine = [runner for runner in self.github.runners.values() if runner.scale_set_id == each.id]
            assert (numbers.registered, numbers.busy) == (len(mine), len(self._busy(mine)))
            assert numbers.busy == numbers.running
            assert 0 <= numbers.idle <= numbers.registered - numbers.busy

    def _busy(self, runners: list[SimRunner]) -> list[SimRunner]:
        return [runner for runner in runners if runner.busy]

    @invariant()
    def a_job_is_one_runners_and_of_its_scale_set(self) -> None:
        offers = [each.assignment for each in self.github.sessions.values() if each.assignment is not None]
        for offer in offers:
            state = self.github.scale_sets.state_of(offer.job)
            assert state is (None if offer.runner.scale_set_id is None else ClaimState.ASSIGNED)
        takers = [(offer.job.id, offer.runner) for offer in offers]
        takers += [(runner.job_id, runner) for runner in self.github.runners.values() if runner.job_id is not None]
        assert len({job_id for job_id, _ in takers}) == len(takers)
        for job_id, runner in takers:
            owners = [each.id for each in self.sets if job_id in each.claims]
            if runner.scale_set_id in self.github.scale_sets.sets or runner.scale_set_id is None:
                assert owners == ([] if runner.scale_set_id is None else [runner.scale_set_id])

    @invariant()
    def a_job_is_of_one_scale_set_at_most(self) -> None:
        held = [job_id for each in self.sets for job_id in each.claims]
        assert len(set(held)) == len(held)
        assert all(self.github.jobs[job_id].status in ("queued", "in_progress") for job_id in held)

    @invariant()
    def nothing_waits_that_could_run(self) -> None:
        free = [
            session.runner
            for session in self.github.sessions.values()
            if session.assignment is None and not session.runner.busy and not session.runner.done
        ]
        for each in self.sets:
            unoffered = [
                claim.job
                for claim in each.claims.values()
                if claim.state is ClaimState.ASSIGNED and claim.job.assignment is None
            ]
            mine = [runner for runner in free if runner.scale_set_id == each.id]
            assert not [job for job in unoffered for runner in mine if satisfies(runner.offered, job.wanted)]
            if each.session is not None and each.polled and (each.capacity or 0) > len(each.claims):
                held = {claim.state for claim in each.claims.values()}
                waiting = self.github.scale_sets.statistics(each).available
                assert waiting == sum(claim.state is ClaimState.AVAILABLE for claim in each.claims.values()), held

    def teardown(self) -> None:
        """Read and acknowledge all there is: what was acknowledged does not come again, and the queue runs dry."""
        if not hasattr(self, "github"):
            return
        self.github.scale_sets.change(acquire=False, statistics_messages=False)
        for each in self.sets:
            session = each.session or self.github.scale_sets.sessions.open(each, "last", "tenant")
            for _ in range(1000):
                message = self.github.scale_sets.sessions.next_message(session.id)
                if message is None:
                    break
                assert message.id not in self.acknowledged
                self.github.scale_sets.sessions.acknowledge(session, message.id)
                self.acknowledged.add(message.id)
            assert not each.messages
            assert not each.items


Queues.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestQueues = pytest.mark.slow(Queues.TestCase)
