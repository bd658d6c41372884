"""Back-off of pools."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slurm_gha.controller.troubles import FIRST, LONGEST, escalate
from slurm_gha.domain.world import Trouble, TroubleKind


def test_the_first_failure_is_forgiven_soon() -> None:
    assert escalate("small", None, TroubleKind.REFUSED, "no", 100.0).until == 100.0 + FIRST


def test_failures_during_a_back_off_are_the_same_failure() -> None:
    first = escalate("small", None, TroubleKind.FAILING, "no", 100.0)
    assert escalate("small", first, TroubleKind.FAILING, "again", 101.0) is first


@given(st.integers(1, 200))
def test_back_off_grows_to_its_bound_and_no_further(failures: int) -> None:
    trouble: Trouble | None = None
    now, before = 0.0, 0.0
    for _ in range(failures):
        trouble = escalate("small", trouble, TroubleKind.REFUSED, "no", now)
        delay = trouble.until - now
        assert before <= delay <= LONGEST
        before, now = delay, trouble.until
    assert trouble is not None
    assert trouble.failures == failures
