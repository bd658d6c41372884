"""Limits and faults of the simulated GitHub: each known way in which the real one refuses or fails."""

from __future__ import annotations

from typing import Literal

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from tests.contract.simulated_github import EPOCH, Service, simulate

from slurm_gha.domain.clock import EventLoopClock, SystemClock
from slurm_gha.testing.github.app import create_app
from slurm_gha.testing.github.faults import Fault, FaultKind, Faults
from slurm_gha.testing.github.limits import Limits, Rules
from slurm_gha.testing.github.serve import serve_in_thread
from slurm_gha.testing.github.state import GitHub

RUNS = "/repos/octo/app/actions/runs"
WISH = {"name": "r", "runner_group_id": 1, "labels": ["self-hosted"]}
CONFIG = "/repos/octo/app/actions/runners/generate-jitconfig"


def faulty(*faults: Fault, seed: int = 0, stale: float = 0.0) -> Service:
    clock = EventLoopClock(EPOCH)
    return Service(faults=Faults(clock, faults, seed=seed, stale=stale))


def limited(**rules: object) -> Service:
    return Service(limits=Limits(EventLoopClock(EPOCH), Rules(**rules)))  # type: ignore[arg-type]


def test_the_hourly_budget_ends_and_comes_back() -> None:
    async def scenario() -> None:
        service = Service()
        service.github.add_token("small", limit_per_hour=3)
        for left in ("2", "1", "0"):
            assert (await service.get(RUNS, token="small")).headers["x-ratelimit-remaining"] == left
        refused = await service.get(RUNS, token="small")
        assert (refused.status_code, refused.headers["x-ratelimit-remaining"]) == (403, "0")
        assert "retry-after" not in refused.headers
        assert (await service.get(RUNS)).status_code == 200
        await anyio.sleep(float(refused.headers["x-ratelimit-reset"]) - service.clock.now())
        assert (await service.get(RUNS, token="small")).status_code == 200

    simulate(scenario)


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("refusal", ["retry-after", "reset", "neither"])
def test_points_a_minute(status: int, refusal: Literal["retry-after", "reset", "neither"]) -> None:
    async def scenario() -> None:
        service = limited(points_per_minute=12, status=status, refusal=refusal)
        assert (await service.post(CONFIG, json=WISH)).status_code == 201
        for _ in range(7):
            assert (await service.get(RUNS)).status_code == 200
        refused = await service.get(RUNS)
        assert refused.status_code == status
        assert ("retry-after" in refused.headers) == (refusal == "retry-after")
        assert (refused.headers["x-ratelimit-remaining"] == "0") == (refusal == "reset")
        await anyio.sleep(61)
        assert (await service.get(RUNS)).status_code == 200

    simulate(scenario)


def test_writes_a_minute() -> None:
    async def scenario() -> None:
        service = limited(writes_per_minute=2, points_per_minute=None)
        codes = [(await service.post(CONFIG, json={**WISH, "name": f"r{n}"})).status_code for n in range(3)]
        assert codes == [201, 201, 403]
        assert (await service.get(RUNS)).status_code == 200

    simulate(scenario)


def test_calls_at_a_time() -> None:
    async def scenario() -> None:
        service = limited(concurrent=0)
        assert (await service.get(RUNS)).status_code == 403

    simulate(scenario)


def test_latency_errors_and_throttling() -> None:
    async def scenario() -> None:
        service = faulty(Fault(FaultKind.LATENCY, seconds=0.08, jitter=0.04))
        began = service.clock.now()
        await service.get(RUNS)
        assert 0.08 <= service.clock.now() - began <= 0.12
        service.faults.faults = [Fault(FaultKind.ERROR, status=503, route="GET .*/runs$")]
        assert (await service._client.get(RUNS)).status_code == 503
        assert (await service.get("/user")).status_code == 200
        service.faults.faults = [Fault(FaultKind.THROTTLE, status=403, retry_after=7)]
        assert (await service.get(RUNS)).headers["retry-after"] == "7"
        service.faults.faults = [Fault(FaultKind.THROTTLE, status=429)]
        bare = await service.get(RUNS)
        assert (bare.status_code, "retry-after" in bare.headers) == (429, False)
        assert service.faults.happened[FaultKind.THROTTLE] == 2

    simulate(scenario)


def test_broken_bodies_hanging_and_dropped_connections() -> None:
    async def scenario() -> None:
        service = faulty(Fault(FaultKind.TRUNCATE))
        headers = {"authorization": "Bearer all"}
        whole = len((await Service()._client.get(RUNS, headers=headers)).content)
        assert len((await service._client.get(RUNS, headers=headers)).content) == whole // 2
        service.faults.faults = [Fault(FaultKind.MALFORM)]
        assert (await service._client.get(RUNS, headers=headers)).text.startswith("<!DOCTYPE")
        service.faults.faults = [Fault(FaultKind.DROP)]
        with pytest.raises(httpx2.TransportError):
            await service.get(RUNS)
        service.faults.faults = [Fault(FaultKind.HANG)]
        with pytest.raises(TimeoutError), anyio.fail_after(600):
            await service.get(RUNS)

    simulate(scenario)


@pytest.mark.parametrize("kind", [FaultKind.DROP, FaultKind.LOSE])
def test_behind_a_real_server_the_connection_is_dropped(kind: FaultKind) -> None:
    clock = SystemClock()
    faults = Faults(clock, [Fault(kind, route="^GET")])

    def make(url: str) -> Starlette:
        github = GitHub(clock, url=url)
        github.add_token("t")
        return create_app(github, faults=faults, in_process=False)

    with serve_in_thread(make) as served, httpx2.Client(headers={"authorization": "Bearer t"}) as client:
        with pytest.raises(httpx2.TransportError):
            client.get(f"{served.url}/user")
        faults.faults = []
        assert client.get(f"{served.url}/user").status_code == 200


def test_an_answer_can_be_lost_after_its_effect() -> None:
    async def scenario() -> None:
        service = faulty(Fault(FaultKind.LOSE, route="POST .*generate-jitconfig"))
        with pytest.raises(httpx2.TransportError):
            await service.post(CONFIG, json=WISH)
        assert [runner.name for runner in service.github.runners.values()] == ["r"]

    simulate(scenario)


def test_an_outage_has_a_beginning_and_an_end() -> None:
    async def scenario() -> None:
        service = faulty(Fault(FaultKind.ERROR, start=EPOCH + 10, end=EPOCH + 20))
        codes = []
        for _ in range(4):
            codes.append((await service._client.get("/user", headers={"authorization": "Bearer all"})).status_code)
            await anyio.sleep(8)
        assert codes == [200, 200, 502, 200]

    simulate(scenario)


def test_listings_may_lag_behind() -> None:
    async def scenario() -> None:
        service = faulty(stale=30)
        assert (await service.get(RUNS)).json()["total_count"] == 0
        [run] = service.github.push("octo/app")
        assert (await service.get(RUNS)).json()["total_count"] == 0
        assert (await service.get(f"{RUNS}/{run.id}")).status_code == 200
        await anyio.sleep(31)
        assert (await service.get(RUNS)).json()["total_count"] == 1

    simulate(scenario)


def test_the_same_seed_fails_in_the_same_places() -> None:
    async def codes(seed: int) -> list[int]:
        service = faulty(Fault(FaultKind.ERROR, probability=0.3), seed=seed)
        headers = {"authorization": "Bearer all"}
        return [(await service._client.get("/user", headers=headers)).status_code for _ in range(40)]

    async def scenario() -> None:
        first, second, other = await codes(1), await codes(1), await codes(2)
        assert first == second != other
        assert 3 < first.count(502) < 25

    simulate(scenario)
