"""The word that a GitHub App signs for itself: a JSON web token (RS256).

Source: docs.github.com, "Generating a JSON web token (JWT) for a GitHub App".
"""

from __future__ import annotations

from dataclasses import dataclass

from slurm_gha.domain.secret import Secret
from slurm_gha.github.errors import Forbidden

BACKDATED = 60
"""Seconds that the word claims to be older than it is, so that a clock a little ahead does no harm."""
LIFETIME = 600
"""Seconds from then until it is worth nothing: the longest that GitHub takes."""
SPARE = 120
"""Seconds before its end at which it is signed anew."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signed word, and the times (seconds since the epoch) between which it is used."""

    text: Secret
    since: float
    until: float

    def holds(self, now: float) -> bool:
        return self.since <= now < self.until


def sign(issuer: str, key: Secret, now: float) -> Assertion:
    """A fresh word of the App ``issuer`` (client id or App id); ``now`` is the time by GitHub's clock.

    Raises Forbidden, without showing anything of it, if ``key`` is no RSA private key in PEM.
    """
    import jwt  # here, for it takes longer to load than all else, and only Apps need it

    issued = int(now) - BACKDATED
    claims = {"iat": issued, "exp": issued + LIFETIME, "iss": issuer}
    try:
        text = jwt.encode(claims, key.reveal(), algorithm="RS256")
    except (ValueError, TypeError, jwt.PyJWTError):
        raise Forbidden(f"GitHub App {issuer}: its private key is no RSA private key in PEM") from None
    return Assertion(Secret(text), issued + BACKDATED - 1.0, issued + LIFETIME - SPARE)
