"""Which repositories are looked at: within what may be spent, the hot ones at every turn, each of them some day."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.controller.rotation import GLANCE_PART, KEPT, WHOLE_PART, Look, Purse, Standing, choose, round_seconds

times = st.none() | st.floats(0, 1000)


@st.composite
def standings(draw: st.DrawFn) -> list[Standing]:
    found = []
    for number in range(draw(st.integers(0, 40))):
        runs = draw(st.integers(0, 8))
        seen_at = draw(times)
        found.append(
            Standing(
                name=f"o/r{number}",
                seen_at=seen_at,
                whole_at=draw(times) if seen_at is not None else None,
                known=seen_at is not None and draw(st.booleans()),
                glance=1 + runs,
                whole=5 + runs,
                hot=draw(st.booleans()),
                urgent=draw(st.booleans()),
            )
        )
    return found


parts = st.floats(-50, 300)
purses = st.builds(Purse, parts, parts, parts)


def cost(looks: tuple[Look, ...], all_of_them: list[Standing]) -> list[int]:
    by_name = {standing.name: standing for standing in all_of_them}
    return [by_name[look.name].whole if look.whole else by_name[look.name].glance for look in looks]


@given(standings(), purses)
def test_no_more_is_spent_than_there_is_but_for_the_last_look_of_each_purpose(
    given_: list[Standing], purse: Purse
) -> None:
    looks, left = choose(given_, purse)
    assert len({look.name for look in looks}) == len(looks), "none twice"
    spent = sum(cost(looks, given_))
    assert abs(purse.total - spent - left.total) < 1e-6, "what is spent is paid"
    most = max((standing.whole for standing in given_), default=0)
    for before, after in ((purse.hot, left.hot), (purse.glance, left.glance), (purse.whole, left.whole)):
        assert after >= min(before, 0.0) - most
    if purse.hot <= 0 and purse.glance <= 0 and purse.whole <= 0:
        assert spent == 0


@given(standings(), purses)
def test_a_repository_not_all_known_is_not_glanced_at_again(given_: list[Standing], purse: Purse) -> None:
    by_name = {standing.name: standing for standing in given_}
    for look in choose(given_, purse)[0]:
        standing = by_name[look.name]
        assert look.whole or standing.known or standing.seen_at is None


@given(standings(), st.floats(0, 300))
def test_where_all_can_be_read_all_are_read(given_: list[Standing], more: float) -> None:
    everything = sum(standing.whole for standing in given_)
    looks, left = choose(given_, Purse(hot=everything + more))
    assert sorted(look.name for look in looks) == sorted(standing.name for standing in given_)
    assert all(look.whole for look in looks)
    assert abs(left.total - more) < 1e-6


@given(standings(), purses)
def test_what_happened_comes_first_and_the_never_seen_before_the_rest(given_: list[Standing], purse: Purse) -> None:
    looks, left = choose(given_, purse)
    chosen = {look.name for look in looks}
    if any(standing.urgent and standing.name not in chosen for standing in given_):
        assert left.hot <= 0, "only for want of means is an urgent one left for later"
    if any(standing.seen_at is None and standing.name not in chosen for standing in given_):
        assert max(left.hot, left.glance, left.whole) <= 0
    if any(standing.hot and standing.name not in chosen for standing in given_):
        assert left.hot <= 0


@given(parts, parts, parts, st.floats(0, 10), st.floats(0, 10_000))
def test_no_more_than_a_minutes_income_is_kept(
    hot: float, glance: float, whole: float, pace: float, seconds: float
) -> None:
    before = Purse(hot, glance, whole)
    after = before.earn(pace, seconds)
    assert before.total - 1e-6 <= after.total <= max(before.total, pace * KEPT) + 1e-6
    assert after.total <= before.total + pace * seconds + 1e-6


@dataclass
class Scope:
    """A scope looked at turn by turn, where every look succeeds."""

    standings: dict[str, Standing]
    pace: float
    interval: float

    def run(self, turns: int, *, start: float = 0.0) -> dict[str, list[float]]:
        purse, seen, now = Purse(), {name: [start] for name in self.standings}, start
        spent = 0.0
        for _ in range(turns):
            now += self.interval
            purse = purse.earn(self.pace, self.interval)
            looks, purse = choose(list(self.standings.values()), purse)
            spent += sum(cost(looks, list(self.standings.values())))
            for look in looks:
                standing = self.standings[look.name]
                whole_at = now if look.whole else standing.whole_at
                self.standings[look.name] = replace(
                    standing, seen_at=now, whole_at=whole_at, known=standing.known or look.whole, urgent=False
                )
                seen[look.name].append(now)
        # The last look of each purpose may overdraw.
        most = max(standing.whole for standing in self.standings.values())
        assert spent <= self.pace * self.interval * turns + 3 * most
        for name in seen:
            seen[name].append(now)
        return seen


@st.composite
def scopes(draw: st.DrawFn) -> Scope:
    hot = draw(st.integers(0, 12))
    found = {}
    for number in range(draw(st.integers(20, 80))):
        runs = draw(st.integers(0, 3)) if number < hot else 0
        found[f"o/r{number}"] = Standing(f"o/r{number}", glance=1 + runs, whole=5 + runs, hot=number < hot)
    return Scope(found, pace=draw(st.floats(0.5, 5.0)), interval=draw(st.sampled_from([5.0, 30.0])))


@given(scopes())
def test_each_repository_is_looked_at_within_the_time_that_is_told(scope: Scope) -> None:
    """Also where the hot ones could use all that there is."""
    first = round_seconds(list(scope.standings.values()), scope.pace)
    scope.run(int(first / scope.interval) + 2)
    assert all(standing.known for standing in scope.standings.values()), "all is known after the first round"
    told = round_seconds(list(scope.standings.values()), scope.pace)
    # Looks that overdraw their part have it wait, and turns come at their interval.
    most = max(standing.whole for standing in scope.standings.values())
    slack = 2 * scope.interval + 2 * most / (scope.pace * WHOLE_PART)
    later = scope.run(int(4 * (told + slack) / scope.interval), start=1e6)
    for seen in later.values():
        assert max(b - a for a, b in pairwise(seen)) <= told + slack


@given(scopes())
def test_hot_ones_are_looked_at_at_every_turn_where_that_can_be_paid(scope: Scope) -> None:
    everything = list(scope.standings.values())
    hot = [replace(s, seen_at=0.0, whole_at=0.0, known=True) for s in everything if s.hot]
    cold = [replace(s, seen_at=0.0, whole_at=0.0, known=True) for s in everything if not s.hot]
    scope.standings = {s.name: s for s in [*hot, *cold]}
    scope.pace = (sum(s.glance for s in hot) + 1) / scope.interval / (1 - GLANCE_PART - WHOLE_PART)
    if sum(s.whole for s in everything) <= scope.pace * KEPT:
        return  # all of them are read, at once, as soon as that much is saved
    seen = scope.run(100)
    for standing in hot:
        looks = seen[standing.name]
        assert max(b - a for a, b in pairwise(looks)) <= scope.interval + 1e-6
