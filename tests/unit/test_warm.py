"""How many runners are kept ready, by the clock on the wall; and what the plan does about them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from tests.unit.planner_worlds import NOW, SCOPE, job, policy, pool, runner, world

from slurm_gha.config.loading import examine_text
from slurm_gha.domain.pool import Share
from slurm_gha.domain.runner import Runner
from slurm_gha.domain.warm import NEVER, Hours, Warm, weekdays
from slurm_gha.domain.world import ScopeView, SlurmView
from slurm_gha.planner.actions import Submit, Withdraw
from slurm_gha.planner.plan import needed, plan

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = Hours(weekdays(["mon", "tue", "wed", "thu", "fri"]), 8 * 60, 18 * 60, 3)
NIGHT = Hours(weekdays(["fri"]), 22 * 60, 6 * 60, 7)


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        ("2026-06-01T07:59:59", 1),
        ("2026-06-01T08:00:00", 3),  # a Monday, in summer
        ("2026-12-07T08:00:00", 3),  # and one in winter
        ("2026-06-01T17:59:59", 3),
        ("2026-06-01T18:00:00", 1),
        ("2026-06-06T12:00:00", 1),
        ("2026-06-05T22:00:00", 7),
        ("2026-06-06T05:59:00", 7),  # it began on Friday
        ("2026-06-06T06:00:00", 1),
        ("2026-06-06T22:00:00", 1),
    ],
)
def test_the_schedule_is_by_the_clock_on_the_wall(moment: str, wanted: int) -> None:
    assert Warm(1, (OFFICE, NIGHT), "Europe/Berlin").wanted(at(moment)) == wanted


def test_where_clocks_are_set_the_hours_follow() -> None:
    """On 29 March 2026 there is no 02:30; on 25 October it comes twice."""
    sunday = Warm(0, (Hours(weekdays(["sun"]), 2 * 60, 3 * 60, 1),), "Europe/Berlin")
    spring, autumn = at("2026-03-29T00:00:00"), at("2026-10-25T00:00:00")
    assert sum(sunday.wanted(spring + 60 * minute) for minute in range(23 * 60)) == 0
    assert sum(sunday.wanted(autumn + 60 * minute) for minute in range(25 * 60)) == 120


def test_of_hours_in_force_the_most_counts_and_they_may_be_fewer_than_usual() -> None:
    always = weekdays(["mon", "tue", "wed", "thu", "fri", "sat", "sun"])
    assert Warm(1, (OFFICE, Hours(always, 0, 1440, 2)), "Europe/Berlin").wanted(at("2026-06-01T09:00:00")) == 3
    assert Warm(5, (Hours(always, 0, 0, 0),)).wanted(NOW) == 0
    assert NEVER.wanted(NOW) == 0


def warm(name: str = "small", *labels: str, idle: int = 2, **settings: object) -> object:
    return pool(name, *labels, warm=Warm(idle), **settings)


def idle(suffix: str = "1", age: float = 100.0, **facts: object) -> Runner:
    times = {"intended_at": NOW - age, "minted_at": NOW - age, "online_at": NOW - age}
    return runner(suffix, "RUNNING", online=True, **{**times, **facts})  # type: ignore[arg-type]


def acts(*things: object, **rest: object) -> list[object]:
    under = policy(warm(**rest))  # type: ignore[arg-type]
    return list(plan(world(*things), under, NOW).actions)  # type: ignore[arg-type]


AHEAD = Submit("small", SCOPE)


def test_the_reserve_is_filled_beyond_demand() -> None:
    assert acts() == [AHEAD, AHEAD]
    assert acts(idle()) == [AHEAD]
    assert acts(idle(), idle("2")) == []
    assert acts(idle(), idle("2"), job()) == [AHEAD], "one of them will have the job"
    assert acts(job()) == [Submit("small", SCOPE, job()), AHEAD, AHEAD]
    assert acts(runner("1", "PENDING"), runner("2", None)) == [], "they are on their way"


def test_limits_hold_for_it_and_demand_comes_first() -> None:
    assert acts(job(1), job(2), max_runners=3) == [
        Submit("small", SCOPE, job(1)),
        Submit("small", SCOPE, job(2)),
        AHEAD,
    ]
    assert acts(max_runners=1) == [AHEAD]
    shares = {SCOPE: Share(max_runners=1)}
    assert list(plan(world(), policy(warm(), shares=shares), NOW).actions) == [AHEAD]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "seen",
    [
        world(view=ScopeView(SCOPE, None, NOW)),
        world(view=ScopeView(SCOPE, NOW, NOW, "HTTP 502")),
        world(view=ScopeView(SCOPE, NOW, NOW, None, "HTTP 502")),
        world(slurm=SlurmView(NOW, "down")),
        world(draining=True),
    ],
    ids=["jobs never read", "jobs", "runners", "slurm", "draining"],
)
def test_nothing_is_started_ahead_while_something_cannot_be_read(seen: object) -> None:
    assert plan(seen, policy(warm()), NOW).actions == ()  # type: ignore[arg-type]


def test_the_reserve_is_no_surplus_and_is_needed_at_its_claim() -> None:
    starting = runner("1", "RUNNING", claimed_at=None)
    seen = world(starting, surplus_since={starting.name: NOW - 900.0})
    assert dict(plan(seen, policy(warm(idle=1)), NOW).surplus_since) == {}  # type: ignore[arg-type]
    assert needed(seen, policy(warm(idle=1)), NOW, starting.name)  # type: ignore[arg-type]
    assert not needed(seen, policy(warm(idle=0)), NOW, starting.name)  # type: ignore[arg-type]


def test_what_is_too_much_after_the_hours_goes_by_the_idle_time_out() -> None:
    seen = world(idle("1", 400.0), idle("2", 500.0), surplus_since={idle("2").name: NOW - 301.0})
    (gone,) = plan(seen, policy(warm(idle=1)), NOW).actions  # type: ignore[arg-type]
    assert isinstance(gone, Withdraw)
    assert gone.name == idle("2").name


def test_an_old_one_is_replaced_and_goes_when_its_successor_is_there_or_at_the_last_moment() -> None:
    old, pending = idle("1", 1801.0), runner("2", "PENDING")
    assert acts(old, idle=1) == [AHEAD], "the successor comes first"
    assert acts(old, pending, idle=1) == []
    (gone,) = acts(old, idle("2", 5.0), idle=1)
    assert isinstance(gone, Withdraw)
    assert gone.name == old.name
    assert acts(old, idle("2", 5.0), job(), idle=1) == [], "the job will have the old one"
    (late,) = acts(idle("1", 2701.0), pending, idle=1)
    assert isinstance(late, Withdraw)


def test_the_reserve_makes_room_for_jobs_that_cannot_use_it() -> None:
    under = policy(warm(idle=1), pool("gpu", "gpu"), max_runners=1)  # type: ignore[arg-type]
    (gone,) = plan(world(idle(), job(1, "gpu")), under, NOW).actions
    assert isinstance(gone, Withdraw)
    assert gone.reason == "kept ready, but a queued job needs its room"
    leaving = idle(withdrawn_at=NOW - 1)
    assert plan(world(leaving, idle("2"), job(1, "gpu"), last_tried={leaving.name: NOW}), under, NOW).actions == ()


def test_none_is_started_for_a_repository_at_its_limit_to_take() -> None:
    under = policy(warm(idle=1, max_runners_per_repository=1))  # type: ignore[arg-type]
    busy = runner("1", "RUNNING", online=True, busy=True, taken_job=9, repository="octo/repo")
    assert plan(world(busy, job()), under, NOW).actions == ()


def test_a_scale_set_s_reserve_is_registered_through_it() -> None:
    under = policy(warm(idle=1), scale_sets=frozenset({(SCOPE, "small")}))  # type: ignore[arg-type]
    assert plan(world(idle()), under, NOW).actions[-1:] == (Submit("small", SCOPE, scale_set=True),)
    assert plan(world(idle(scale_set=True)), under, NOW).actions == ()


POOL = """
[service]
installation = "lab1"
[slurm]
output_dir = "/o"
handover_dir = "/h"
[[scope]]
name = "a"
url = "https://github.com/o"
token_env = "T"
[[pool]]
name = "small"
labels = ["x"]
runner_dir = "/r"
handover = "stdin"
{settings}
[pool.slurm]
cpus = 1
time = "1h"
"""


def told(settings: str) -> list[str]:
    examined = examine_text(POOL.replace("{settings}", settings), "f")
    return [str(mistake).split(": ", 1)[1] for mistake in examined.mistakes]


def test_hours_are_read_from_the_file() -> None:
    table = 'timezone = "Europe/Berlin"\nwarm = [{ days = ["fri"], from = "22:00", to = "06:00", min_idle = 7 }]'
    settings = examine_text(POOL.replace("{settings}", table), "f").settings
    assert settings is not None
    assert settings.policy().pools[0].warm == Warm(0, (NIGHT,), "Europe/Berlin")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            'timezone = "Mars/Olympus"',
            'pool[small].timezone: must be a time zone that this machine knows, such as "Europe',
        ),
        ('timezone = "../../etc/passwd"', "pool[small].timezone: must be a time zone"),
        (
            'warm = [{ from = "8:00", to = "18:00", min_idle = 1 }]',
            "pool[small].warm[1].from: must be a time of day from",
        ),
        ('warm = [{ from = "08:00", to = "24:30", min_idle = 1 }]', "pool[small].warm[1].to: must be a time of day"),
        (
            'warm = [{ days = ["Monday"], from = "08:00", to = "09:00", min_idle = 1 }]',
            "pool[small].warm[1].days[1]: must",
        ),
        ('warm = [{ from = "08:00", to = "09:00" }]', "pool[small].warm[1].min_idle: is missing; it is required"),
        ('recycle_after = "2h"', 'pool[small].recycle_after: must be at most "40m", not "2h"'),
        ("allow = { forks = true, branches = ['main'] }", "pool[small].allow.forks: is of no use beside branches"),
        ("allow = { events = ['Push'] }", "pool[small].allow.events[1]: must be an event as workflows write it"),
        ("allow = { actors = ['a b'] }", "pool[small].allow.actors[1]: must be the name of a user"),
        ("max_runners_per_repository = 0", "pool[small].max_runners_per_repository: must be at least 1, not 0"),
    ],
)
def test_what_is_wrong_is_said(settings: str, complaint: str) -> None:
    assert any(text.startswith(complaint) for text in told(settings)), told(settings)
