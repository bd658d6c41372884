"""Texts of others made fit to be shown: no control characters, no secrets, not too long. Pure."""

from __future__ import annotations

import re
import unicodedata

SHOWN = 300
# No more than this is looked at, however long a text is.
_LOOKED_AT = 20_000
_HIDDEN = "***"
OWN_TOKEN = "sgt_"  # noqa: S105
"""How our own claim secrets and report tokens begin, so that they are known wherever they turn up."""

# What a credential looks like. A last net: nothing that holds one is meant to come this far.
_CREDENTIALS = re.compile(
    r"""
    gh[a-z]_[A-Za-z0-9_.-]{16,}                      # GitHub tokens: ghp_, gho_, ghu_, ghs_, ghr_
    | github_pat_[A-Za-z0-9_]{16,}
    | sgt_[A-Za-z0-9_-]{16,}                         # OWN_TOKEN
    | ey[IJ][A-Za-z0-9+/_=-]{16,}(?:\.[A-Za-z0-9_=-]*)*   # base64 of '{"' (JIT configurations), JWTs
    | (?<![A-Za-z0-9])A[A-Z2-7]{28}(?![A-Za-z0-9])   # registration and removal tokens of runners
    | -----BEGIN[ A-Z]*PRIVATE[ ]KEY-----.*?(?:-----END[ A-Z]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
# What stands behind such words is hidden, whatever it looks like; the words themselves stay.
_BEHIND = re.compile(
    r"""
    (?P<lead>
        \bbearer\s+(?=\S{16})
        | \bauthorization["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token|remoteauth)\s+)?
        | \b[a-z_-]*(?:secret|token|password|jitconfig|jit_config|api_key)["']?\s*=\s*["']?
    )
    [^\s"'&,;]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_USER_OF_URL = re.compile(r"(?P<lead>[a-z][a-z0-9+.-]{1,20}://)[^/\s@]+(?=@)", re.IGNORECASE)


def clean(text: str, limit: int = SHOWN) -> str:
    """One line of printable text of at most ``limit`` characters; cut text ends in an ellipsis.

    White space of any kind becomes one blank. Control characters, escape sequences' leads, marks that turn the
    direction of writing, and lone surrogates are dropped.
    """
    line = " ".join("".join(_kept(character) for character in text[:_LOOKED_AT]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def mask(text: str) -> str:
    """The text with everything that looks like a credential hidden."""
    for pattern, shown in (
        (_CREDENTIALS, _HIDDEN),
        (_BEHIND, rf"\g<lead>{_HIDDEN}"),
        (_USER_OF_URL, rf"\g<lead>{_HIDDEN}"),
    ):
        text = pattern.sub(shown, text)
    return text


def presentable(text: str, limit: int = SHOWN) -> str:
    """Clean, masked, and of bounded length: masked before it is cut, so that no cut makes a credential unknowable."""
    return clean(mask(clean(text, _LOOKED_AT)), limit)


def _kept(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else (" " if character.isspace() else "")
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp"):
        return " "
    return "" if category in ("Cc", "Cf", "Cs", "Co", "Cn") else character
