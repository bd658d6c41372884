"""A pool's back-off: how long, and when it ends. Pure."""

from __future__ import annotations

from slurm_gha.domain.world import Trouble, TroubleKind

FIRST = 5.0
LONGEST = 600.0


def escalate(pool: str, before: Trouble | None, kind: TroubleKind, reason: str, now: float) -> Trouble:
    """The trouble after one more failure. Failures during a running back-off are the same failure: no escalation."""
    if before is not None and now < before.until:
        return before
    failures = 1 if before is None else before.failures + 1
    return Trouble(pool, failures, now + min(LONGEST, FIRST * 2.0 ** (failures - 1)), reason, kind)
