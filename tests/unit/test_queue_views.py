"""What is not known of one scale set stops what would be done to its runners, and to no others."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from tests.unit.planner_worlds import NOW, SCOPE, actions, later, policy, pool, runner, world

from slurm_gha.cli.inquiry import sights
from slurm_gha.domain.allow import EVERYTHING, Allow
from slurm_gha.domain.scope import Scope, ScopeKind, Source
from slurm_gha.domain.world import ScopeView
from slurm_gha.github.permissions import Sight
from slurm_gha.planner.actions import Withdraw
from slurm_gha.planner.plan import needed

READ = ScopeView(SCOPE, NOW - 1.0, NOW - 1.0)
UNREAD = ScopeView(SCOPE, NOW - 1.0, NOW - 1.0, "in use by another", "in use by another")
VIEW = ScopeView(
    SCOPE, NOW - 1.0, NOW - 1.0, UNREAD.jobs_error, UNREAD.runners_error,
    MappingProxyType({"small": READ, "large": UNREAD}),
)  # fmt: skip
POLICY = policy(pool("small"), pool("large"), scale_sets=frozenset({(SCOPE, "small"), (SCOPE, "large")}))
RUNNERS = (runner("1", pool="small", scale_set=True), runner("2", pool="large", scale_set=True), runner("3"))


def test_only_runners_of_a_queue_that_is_read_are_withdrawn() -> None:
    found = actions(later(world(*RUNNERS, view=VIEW), 60.0), POLICY)
    assert [action.name for action in found if isinstance(action, Withdraw)] == [RUNNERS[0].name]


def test_only_a_runner_of_a_queue_that_is_read_is_told_that_it_is_not_needed() -> None:
    seen = world(*RUNNERS, view=VIEW)
    assert [needed(seen, POLICY, NOW, each.name) for each in RUNNERS] == [False, True, True]


@pytest.mark.parametrize(
    ("sources", "allow", "sight"),
    [
        ({Source.SCALESET}, EVERYTHING, Sight.NOTHING),
        ({Source.SCALESET}, Allow(forks=True, events=("push",)), Sight.NOTHING),
        ({Source.SCALESET}, Allow(), Sight.PULL_REQUESTS),
        ({Source.SCALESET}, Allow(forks=True, actors=("mona",)), Sight.PULL_REQUESTS),
        ({Source.SCALESET, Source.POLL}, EVERYTHING, Sight.JOBS),
        ({Source.POLL}, Allow(), Sight.JOBS),
    ],
)
def test_the_right_to_read_runs_is_asked_for_where_they_are_read(
    sources: set[Source], allow: Allow, sight: Sight
) -> None:
    scope = Scope(SCOPE, "u", "a", ScopeKind.ORGANISATION, "lab", sources=frozenset(sources))
    assert sights([scope], [pool("small", allow=allow)]) == {SCOPE: sight}
