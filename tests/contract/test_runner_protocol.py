"""The runner's protocol, from sign-in to the log that REST shows, under a virtual clock."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx2
import pytest
from trio.testing import MockClock

from slurm_gha.domain.clock import EventLoopClock
from slurm_gha.domain.secret import Secret
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Fault, FaultKind, Faults
from slurm_gha.testing.github.jit import Keys
from slurm_gha.testing.github.runner_routes import routes
from slurm_gha.testing.github.runners import Behaviour
from slurm_gha.testing.github.state import GitHub
from slurm_gha.testing.github.values import SimJob
from slurm_gha.testing.runner import protocol
from slurm_gha.testing.runner.protocol import Configuration, JobCancellation, JobOffer, RunnerConnection
from slurm_gha.testing.runner.virtual import VirtualEnd, VirtualResult, VirtualRunner, run_virtual

EPOCH = 1_700_000_000.0
WORKFLOW = """
name: Build
on: push
jobs:
  build:
    runs-on: [self-hosted, x]
    outputs: {version: "${{ steps.v.outputs.version }}"}
    steps: [{id: v, run: make}]
  test:
    needs: build
    runs-on: [self-hosted, x]
    steps: [{run: make test}]
"""


class Service:
    """The simulator with the runner's routes, in process, and one repository with two jobs in a row."""

    def __init__(self, behaviour: Behaviour | None = None, **options: Any) -> None:
        self.clock = EventLoopClock(EPOCH)
        self.github = GitHub(self.clock, behaviour=behaviour)
        self.github.add_repository("octo/app", {".github/workflows/b.yml": WORKFLOW, "README.md": "read me"})
        self.github.add_token("all", name="all")
        self.faults = Faults(self.clock)
        self.app = create_app(self.github, faults=self.faults, extra_routes=routes(self.github, **options))
        transport = httpx2.ASGITransport(self.app)  # type: ignore[arg-type]
        self.client = httpx2.AsyncClient(transport=transport, base_url=self.github.url, timeout=None)

    def configuration(self, name: str = "r1") -> Configuration:
        return Configuration.decode(self.jit(name))

    def jit(self, name: str = "r1") -> Secret:
        return Secret(self.github.mint_runner("repos/octo/app", name, ["self-hosted", "x"])[1])

    def connection(self, configuration: Configuration | None = None, **options: Any) -> RunnerConnection:
        return RunnerConnection(self.client, configuration or self.configuration(), self.clock, **options)

    async def run_one(self, **given: Any) -> VirtualResult:
        options: dict[str, Any] = {"duration": lambda _: 30.0, "outcome": lambda _: "succeeded", "idle_exit": 300.0}
        return await run_virtual(self.client, self.jit(), self.clock, **{**options, **given})

    def job(self, key: str = "build") -> SimJob:
        return next(job for job in self.github.jobs.values() if job.key == key)


def simulate(test: Callable[[], Awaitable[None]]) -> None:
    anyio.run(test, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


def test_a_job_from_sign_in_to_its_log() -> None:
    async def test() -> None:
        service = Service()
        service.github.push("octo/app")
        runner = service.connection()
        await runner.open_session()
        offer = await runner.poll()
        assert isinstance(offer, JobOffer)
        lease = await runner.take(offer)
        job = service.job()
        assert (job.status, job.runner_name, lease.name) == ("in_progress", "r1", "build")
        await service.clock.sleep(500)
        until = await runner.renew(lease)
        assert until > lease.locked_until
        step = {"external_id": "e", "number": 2, "name": "Run make", "status": 3, "conclusion": 0}
        await runner.update_steps(lease, [step], 1)
        assert [(each["name"], each["status"]) for each in job.steps] == [("Run make", "in_progress")]
        await runner.upload_summary(lease, "e", "# done")
        await runner.upload_log(lease, "line one\nline two ünïcode\n")
        ended = {"number": 2, "name": "Run make", "conclusion": "succeeded", "status": "completed"}
        await runner.complete(lease, "succeeded", {"version": "1.2"}, [ended])
        await runner.close_session()
        assert (job.status, job.conclusion, job.outputs) == ("completed", "success", {"version": "1.2"})
        assert service.job("test").needs["build"]["outputs"] == {"version": "1.2"}
        assert not service.github.runners
        headers = {"Authorization": "Bearer all"}
        url = f"/repos/octo/app/actions/jobs/{job.id}"
        shown = (await service.client.get(url, headers=headers)).json()
        assert [(each["name"], each["conclusion"]) for each in shown["steps"]] == [("Run make", "success")]
        log = await service.client.get(f"{url}/logs", headers=headers, follow_redirects=True)
        assert log.text == "line one\nline two ünïcode\n"

    simulate(test)


def test_sign_in_is_verified() -> None:
    async def test() -> None:
        service = Service()
        configuration = service.configuration()
        other_key = {**configuration.files, ".credentials_rsaparams": Secret(Keys().key()[1])}
        with pytest.raises(protocol.SignInError, match="Signature verification failed"):
            await service.connection(dataclasses.replace(configuration, files=other_key)).open_session()
        with pytest.raises(protocol.SignInError, match="not found"):
            await service.connection(dataclasses.replace(configuration, client_id="nobody")).open_session()
        late = RunnerConnection(service.client, configuration, EventLoopClock(EPOCH - 7200))
        with pytest.raises(protocol.SignInError, match="clock"):
            await late.open_session()
        runner = service.connection(configuration)
        await runner.open_session()
        service.github.remove_runner(next(iter(service.github.runners)))
        with pytest.raises((protocol.SignInError, protocol.SessionLostError)):
            await runner.poll()

    simulate(test)


def test_an_assertion_serves_once_and_a_token_is_for_its_runner() -> None:
    async def test() -> None:
        service = Service()
        configuration = service.configuration()
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": service.connection(configuration)._assertion(),
        }
        first = await service.client.post(configuration.token_url, data=form)
        again = await service.client.post(configuration.token_url, data=form)
        assert (first.status_code, again.status_code) == (200, 400)
        other = service.configuration("r2")
        headers = {"Authorization": f"Bearer {first.json()['access_token']}"}
        body = {"ownerName": "r2", "agent": {"id": other.agent_id, "name": "r2"}}
        refused = await service.client.post(other.broker_url + "session", json=body, headers=headers)
        assert refused.status_code == 404
        nobody = await service.client.post(other.broker_url + "session", json=body)
        assert nobody.status_code == 401

    simulate(test)


def test_a_second_session_is_refused_and_an_old_version_too() -> None:
    async def test() -> None:
        service = Service(minimum_runner_version="2.300.0")
        configuration = service.configuration()
        first = service.connection(configuration, version="2.299.9")
        await first.open_session()
        with pytest.raises(protocol.SessionConflictError):
            await service.connection(configuration).open_session()
        with pytest.raises(protocol.VersionDeprecatedError):
            await first.poll()
        await first.close_session()
        await service.connection(configuration).open_session()

    simulate(test)


def test_a_long_poll_lasts_fifty_seconds_and_wakes_for_a_job() -> None:
    async def test() -> None:
        service = Service()
        runner = service.connection()
        await runner.open_session()
        assert await runner.poll() is None
        assert service.clock.now() == EPOCH + 50

        async def push_later() -> None:
            await service.clock.sleep(7)
            service.github.push("octo/app")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(push_later)
            assert isinstance(await runner.poll(), JobOffer)
        assert service.clock.now() == EPOCH + 57

    simulate(test)


def test_a_job_not_taken_goes_to_another_and_cannot_be_taken_late() -> None:
    async def test() -> None:
        service = Service()
        service.github.push("octo/app")
        slow, quick = service.connection(), service.connection(service.configuration("r2"))
        await slow.open_session()
        offer = await slow.poll()
        assert isinstance(offer, JobOffer)
        await quick.open_session()
        await service.clock.sleep(61)
        lease = await quick.take(_offered(await quick.poll()))
        assert lease.name == "build"
        with pytest.raises(protocol.JobGoneError):
            await slow.take(offer)

    simulate(test)


def test_a_running_job_is_cancelled_through_the_poll() -> None:
    async def test() -> None:
        service = Service()
        (run,) = service.github.push("octo/app")
        runner = service.connection()
        await runner.open_session()
        lease = await runner.take(_offered(await runner.poll()))
        service.github.cancel_run("octo/app", run.id)
        assert await runner.poll(busy=True) == JobCancellation(lease.job_id)
        await runner.complete(lease, "canceled")
        assert service.job().conclusion == "cancelled"
        assert run.conclusion == "cancelled"
        with pytest.raises(protocol.JobGoneError):
            await runner.renew(lease)

    simulate(test)


def test_only_the_job_reaches_its_files_and_its_results() -> None:
    async def test() -> None:
        service = Service()
        service.github.add_repository("octo/other", {"secret.txt": "s"})
        service.github.push("octo/app")
        runner = service.connection()
        await runner.open_session()
        lease = await runner.take(_offered(await runner.poll()))
        token = lease.message["variables"]["system.github.token"]["value"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await service.client.get("/repos/octo/app/tarball/main", headers=headers)).content[:2] == b"\x1f\x8b"
        assert (await service.client.get("/repos/octo/other/tarball/main", headers=headers)).status_code == 404
        assert (await service.client.get("/repos/octo/app/tarball/main")).status_code == 401
        unsigned = f"{lease.results_url}blob/1/job-log/job?sig=0"
        assert (await service.client.put(unsigned, content=b"x")).status_code == 403

    simulate(test)


@pytest.mark.parametrize("text", ["", "nonsense", base64.b64encode(b"[]").decode(), base64.b64encode(b"{}").decode()])
def test_a_bad_configuration_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(protocol.ConfigurationError) as refused:
        Configuration.decode(Secret(text))
    assert not text or text not in str(refused.value)


def test_a_configuration_shows_no_secret() -> None:
    async def test() -> None:
        configuration = Service().configuration()
        private = json.loads(configuration.files[".credentials_rsaparams"].reveal())["d"]
        assert private not in repr(configuration)

    simulate(test)


# The virtual runner


def test_virtual_runners_do_the_jobs_and_are_gone() -> None:
    async def test() -> None:
        service = Service()
        (run,) = service.github.push("octo/app")
        first = await service.run_one()
        second = await VirtualRunner(
            service.client, service.jit(), service.clock, duration=lambda _: 400, outcome=lambda _: "failed"
        ).run()
        assert first == VirtualResult(VirtualEnd.FINISHED, "build", "succeeded")
        assert second == VirtualResult(VirtualEnd.FINISHED, "test", "failed")
        assert run.conclusion == "failure"
        assert service.clock.now() == EPOCH + 430
        assert not service.github.runners

    simulate(test)


def test_a_virtual_runner_without_a_job_leaves_and_stays_registered() -> None:
    async def test() -> None:
        service = Service()
        assert await service.run_one(idle_exit=120.0) == VirtualResult(VirtualEnd.IDLE)
        assert service.clock.now() == EPOCH + 120
        assert [runner.online for runner in service.github.runners.values()] == [False]

    simulate(test)


@pytest.mark.parametrize("after", [0.0, 10.0])
def test_an_interrupted_virtual_runner_cancels_its_job(after: float) -> None:
    async def test() -> None:
        service = Service()
        runner = VirtualRunner(
            service.client, service.jit(), service.clock, duration=lambda _: 400, outcome=lambda _: "succeeded"
        )
        if after:
            service.github.push("octo/app")

        async def interrupt() -> None:
            await service.clock.sleep(after or 10)
            runner.interrupt()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(interrupt)
            result = await runner.run()
        expected = VirtualResult(VirtualEnd.FINISHED, "build", "canceled") if after else VirtualResult(VirtualEnd.IDLE)
        assert result == expected
        assert service.clock.now() == EPOCH + 10
        assert not service.github.sessions

    simulate(test)


def test_a_virtual_runner_that_vanishes_loses_its_lease() -> None:
    async def test() -> None:
        service = Service()
        service.github.push("octo/app")
        with anyio.move_on_after(100):
            await service.run_one(duration=lambda _: 1e6)
        assert service.job().status == "in_progress"
        await service.clock.sleep(601)
        service.github.tick()
        assert (service.job().status, service.job().conclusion) == ("completed", "failure")

    simulate(test)


def test_virtual_runners_outlast_lost_answers_and_outages() -> None:
    async def test() -> None:
        service = Service()
        kinds = (FaultKind.LOSE, FaultKind.DROP, FaultKind.TRUNCATE, FaultKind.ERROR, FaultKind.HANG)
        service.faults.faults += [Fault(kind, probability=0.04, route="/_runner/", seconds=40) for kind in kinds]
        for _ in range(10):
            service.github.push("octo/app")
        results: list[VirtualResult] = []

        async def keep_running(number: int) -> None:
            while any(job.status != "completed" for job in service.github.jobs.values()):
                number += 100
                jit = service.jit(f"v{number}")
                runner = VirtualRunner(
                    service.client, jit, service.clock, duration=lambda _: 90, outcome=lambda _: "succeeded"
                )
                results.append(await runner.run(idle_exit=600))

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(keep_running, number)
        assert {job.status for job in service.github.jobs.values()} == {"completed"}
        assert len([result for result in results if result.end is VirtualEnd.FINISHED]) >= 5
        assert sum(service.faults.happened.values()) > 10

    simulate(test)


def test_a_runner_that_hangs_up_in_the_middle_of_a_call_is_no_error_of_the_service() -> None:
    async def test() -> None:
        app = Service().app
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/_runner/oauth/token",
            "raw_path": b"/_runner/oauth/token",
            "query_string": b"",
            "headers": headers,
            "scheme": "http",
            "http_version": "1.1",
        }
        parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
        answers: list[Any] = []

        async def receive() -> Any:
            return parts.pop(0) if len(parts) > 1 else parts[0]

        async def send(message: Any) -> None:
            answers.append(message)

        await app(scope, receive, send)
        assert answers[0]["status"] == 499

    simulate(test)


def _offered(news: Any) -> JobOffer:
    assert isinstance(news, JobOffer)
    return news
