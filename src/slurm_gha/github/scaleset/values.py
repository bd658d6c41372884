"""Values of the scale-set protocol that hold secrets, or are nobody else's business."""

from __future__ import annotations

from dataclasses import dataclass, field

from slurm_gha.domain.scaleset import ScaleSet, Statistics
from slurm_gha.domain.secret import Secret


@dataclass(frozen=True, slots=True)
class Admin:
    """The way into the Actions service: its URL (tenant prefix included), its token, and when that ends.

    ``expires_at`` is in seconds since the epoch; None where the token does not tell.
    """

    url: str
    token: Secret
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Session:
    """One reader of a scale set's queue; there can be only one at a time."""

    id: str
    scale_set_id: int
    owner: str
    queue_url: str
    queue_token: Secret
    statistics: Statistics = field(default_factory=Statistics)
    scale_set: ScaleSet | None = None
