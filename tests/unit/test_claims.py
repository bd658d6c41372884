"""The claim desk: one secret, one running Slurm job, one configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2
import pytest
from trio.testing import MockClock

from slurm_gha.controller.claims import ClaimDesk
from slurm_gha.controller.desk import ClaimRefused, DemandGone, TryLater
from slurm_gha.controller.observation import Observer
from slurm_gha.controller.registering import Registering
from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.pool import Handover, Policy, Pool, SlurmRequest
from slurm_gha.domain.runner import RunnerRecord, runner_name
from slurm_gha.domain.scope import Scope, ScopeKind
from slurm_gha.domain.secret import Secret
from slurm_gha.domain.submission import Submission
from slurm_gha.github.client import GitHubClient
from slurm_gha.github.scope import ScopeClient
from slurm_gha.observe.events import Bus, Event
from slurm_gha.store.journal import Journal
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Fault, FaultKind, Faults
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.simulated_slurm import SimulatedSlurm

EPOCH = 1_750_000_000.0
SECRET = Secret("claim-secret")
POOL = Pool(
    name="small",
    scopes=frozenset({"lab"}),
    labels=frozenset({"self-hosted", "small"}),
    request=SlurmRequest(cpus=1, time_seconds=600),
    runner_dir="/opt/runner",
)
NAME = runner_name("test", "small", "aaaa")


@dataclass
class Desk:
    """A claim desk over a real journal, the simulated Slurm and the simulated GitHub."""

    desk: ClaimDesk
    journal: Journal
    slurm: SimulatedSlurm
    github: GitHub
    faults: Faults
    clock: EventLoopClock
    events: list[Event] = field(default_factory=list)
    unneeded: set[str] = field(default_factory=set)
    woken: list[str] = field(default_factory=list)

    async def submit(self, name: str = NAME, *, record_id: bool = True) -> int:
        record = RunnerRecord(name, "lab", "small", POOL.labels, Handover.CLAIM, self.clock.now())
        self.journal.intend([record], {name: SECRET.digest()})
        slurm_id = await self.slurm.submit(Submission(name, POOL.request, "script", "{}", "/dev/null"))
        if record_id:
            self.journal.submitted(name, slurm_id, self.clock.now())
        return slurm_id

    async def running(self, name: str = NAME, *, record_id: bool = True) -> int:
        slurm_id = await self.submit(name, record_id=record_id)
        await self.clock.sleep(2.0)
        return slurm_id


def at_desk(story: Callable[[Desk], Awaitable[None]], directory: Path, *faults: Fault) -> None:
    """Run a story under virtual time."""

    async def main() -> None:
        clock = EventLoopClock(EPOCH)
        clock.now()
        github = GitHub(clock)
        github.add_organisation("lab")
        github.add_token("token")
        weather = Faults(clock, faults)
        app = create_app(github, faults=weather)
        events: list[Event] = []
        unneeded: set[str] = set()
        woken: list[str] = []
        policy = Policy(installation="test", pools=(POOL,))
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http,
            SimulatedSlurm(clock, {"n1": 4}) as slurm,
        ):
            client = GitHubClient(http, github.url, Secret("token"), clock)
            scope = Scope("lab", f"{github.url}/lab", github.url, ScopeKind.ORGANISATION, "lab")
            scopes = {"lab": ScopeClient(client, scope)}
            with Journal.open(directory / "journal.sqlite", synchronous="OFF") as journal:
                bus = Bus(events.append)
                observer = Observer(
                    installation="test", scopes=scopes, cluster=slurm, journal=journal, clock=clock, bus=bus
                )
                desk = ClaimDesk(
                    policy=lambda: policy,
                    registering=Registering(scopes, {}, journal),
                    journal=journal,
                    observer=observer,
                    clock=clock,
                    bus=bus,
                    token=lambda: Secret("report-token"),
                    needed=lambda name: name not in unneeded,
                    woken=woken.append,
                )
                await story(Desk(desk, journal, slurm, github, weather, clock, events, unneeded, woken))

    anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def test_a_running_job_gets_its_configuration(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        claimed = await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        (runner,) = at.github.runners.values()
        assert runner.name == NAME
        assert claimed.config.reveal()
        record = at.journal.record(NAME)
        assert record is not None
        assert (record.registration_id, record.minted_at is not None) == (runner.id, True)

    at_desk(story, tmp_path)


def test_a_secret_works_once(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        with pytest.raises(ClaimRefused, match="used"):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        assert len(at.github.runners) == 1

    at_desk(story, tmp_path)


def test_of_two_claims_at_once_one_is_granted(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        answers: list[str] = []

        async def claim() -> None:
            try:
                await at.desk.claim(NAME, SECRET, slurm_id, "n1")
                answers.append("granted")
            except ClaimRefused:
                answers.append("refused")

        async with anyio.create_task_group() as group:
            group.start_soon(claim)
            group.start_soon(claim)
        assert sorted(answers) == ["granted", "refused"]
        assert len(at.github.runners) == 1

    at_desk(story, tmp_path)


@pytest.mark.parametrize(
    ("name", "secret", "offset"),
    [
        (NAME, Secret("guess"), 0),
        (runner_name("test", "small", "none"), SECRET, 0),
        (NAME, SECRET, 1),
    ],
)
def test_a_wrong_claim_is_refused_and_costs_no_call(tmp_path: Path, name: str, secret: Secret, offset: int) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        with pytest.raises(ClaimRefused):
            await at.desk.claim(name, secret, slurm_id + offset, "n1")
        assert not at.github.runners

    at_desk(story, tmp_path)


def test_before_the_job_runs_the_secret_is_worth_nothing(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        for other in range(4):
            await at.submit(runner_name("test", "small", f"other{other}"))
        slurm_id = await at.running()
        with pytest.raises(TryLater):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        assert not at.github.runners

    at_desk(story, tmp_path)


def test_after_the_job_ended_the_secret_is_worth_nothing(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        at.slurm.end(slurm_id, "CANCELLED")
        await at.clock.sleep(60.0)
        with pytest.raises(ClaimRefused):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        assert not at.github.runners

    at_desk(story, tmp_path)


def test_a_claim_may_come_before_sbatch_has_answered(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running(record_id=False)
        await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        record = at.journal.record(NAME)
        assert record is not None
        assert record.slurm_id == slurm_id

    at_desk(story, tmp_path)


def test_a_listing_from_before_the_start_does_not_refuse(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        first = await at.running(runner_name("test", "small", "bbbb"))
        await at.desk.claim(runner_name("test", "small", "bbbb"), SECRET, first, "n1")
        slurm_id = await at.submit()
        await at.clock.sleep(0.9)
        assert await at.desk.claim(NAME, SECRET, slurm_id, "n1")

    at_desk(story, tmp_path)


def test_a_runner_that_nobody_needs_is_told_so(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        at.unneeded.add(NAME)
        with pytest.raises(DemandGone):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        assert not at.github.runners
        assert at.woken == [NAME]
        at.unneeded.clear()
        with pytest.raises(DemandGone):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")

    at_desk(story, tmp_path)


def test_when_slurm_cannot_be_read_the_node_tries_again(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        at.slurm.faults.down = True
        with pytest.raises(TryLater):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        at.slurm.faults.down = False
        await at.desk.claim(NAME, SECRET, slurm_id, "n1")

    at_desk(story, tmp_path)


def test_when_github_fails_the_claim_stays_good(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        at.faults.faults.append(Fault(FaultKind.ERROR, route="generate-jitconfig"))
        with pytest.raises(TryLater):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        at.faults.faults.clear()
        await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        assert len(at.github.runners) == 1

    at_desk(story, tmp_path)


def test_a_lost_answer_of_github_leaves_one_registration(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        at.faults.faults.append(Fault(FaultKind.LOSE, route="generate-jitconfig"))
        with pytest.raises(TryLater):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        at.faults.faults.clear()
        await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        (runner,) = at.github.runners.values()
        record = at.journal.record(NAME)
        assert record is not None
        assert record.registration_id == runner.id

    at_desk(story, tmp_path)


def test_a_runner_withdrawn_while_github_is_asked_is_deregistered(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        at.faults.faults.append(Fault(FaultKind.LATENCY, route="generate-jitconfig", seconds=3.0))

        async def withdraw() -> None:
            await at.clock.sleep(2.0)
            at.journal.withdraw(NAME, at.clock.now(), "no queued job needs it any more")

        async with anyio.create_task_group() as group:
            group.start_soon(withdraw)
            with pytest.raises(DemandGone):
                await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        assert not at.github.runners

    at_desk(story, tmp_path)


def test_reports_need_the_report_token_and_leave_their_times(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        claimed = await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        now = at.clock.now()
        with pytest.raises(ClaimRefused):
            await at.desk.report(NAME, SECRET, "listening", now, "")
        for event in ("launched", "listening", "job_started", "job_finished", "ended"):
            await at.desk.report(NAME, claimed.report_token, event, now, "")
        record = at.journal.record(NAME)
        assert record is not None
        assert None not in (record.online_at, record.busy_at, record.finished_at)
        assert [report.event for report in at.journal.reports(NAME)][-1] == "ended"

    at_desk(story, tmp_path)


def test_a_node_can_neither_flood_the_journal_nor_live_in_the_future(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        claimed = await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        for _ in range(500):
            await at.desk.report(NAME, claimed.report_token, "listening", at.clock.now() + 1e9, "x")
        reports = at.journal.reports(NAME)
        assert len(reports) <= 50
        assert all(report.at <= at.clock.now() for report in reports)
        await at.desk.report(NAME, claimed.report_token, "invented", at.clock.now(), "")
        assert len(at.journal.reports(NAME)) == len(reports)

    at_desk(story, tmp_path)


def test_a_claim_over_which_a_service_died_is_made_again(tmp_path: Path) -> None:
    async def story(at: Desk) -> None:
        slurm_id = await at.running()
        with anyio.move_on_after(5):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        with pytest.raises(ClaimRefused):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        at.faults.faults = []
        at.desk.recover()
        await at.desk.claim(NAME, SECRET, slurm_id, "n1")
        assert len(at.github.runners) == 1
        at.desk.recover()
        with pytest.raises(ClaimRefused):
            await at.desk.claim(NAME, SECRET, slurm_id, "n1")

    at_desk(story, tmp_path, Fault(FaultKind.HANG, route="generate-jitconfig", seconds=3600))
