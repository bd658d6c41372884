"""URLs in the configuration: what they may look like, and which scope a GitHub URL means. Pure."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from slurm_gha.domain.scope import Scope, ScopeKind

_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})|[0-9A-Fa-f:.]+")


def split_url(text: str) -> SplitResult:
    """A plain http(s) URL in its parts; raises ValueError for user names, queries, and other surprises."""
    problem = 'must be a URL such as "https://host.example:8480"'
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(problem) from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError("must not hold a user name, password or token")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("must not have a query or fragment (the part from ? or # on)")
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or _HOST.fullmatch(parts.hostname) is None
        or port == 0
        or re.fullmatch(r"[!-~]+", text) is None
        or re.search(r"[\"'`\\$;&|<>(){}]", text)
    ):
        raise ValueError(problem)
    return parts


def is_loopback(host: str) -> bool:
    """Whether the host name means this machine."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def check_encrypted(parts: SplitResult) -> None:
    """Tokens go to this address: http is only good enough within one machine."""
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https:// (http:// is accepted for 127.0.0.1, ::1 and localhost only)")


def parse_api_url(text: str) -> str:
    """The base of a REST API, without a slash at its end."""
    check_encrypted(split_url(text))
    return text.rstrip("/")


def parse_scope_url(text: str) -> tuple[ScopeKind, str, str]:
    """Kind, path and API base of a GitHub URL.

    Source: GitHub's REST documentation; github.com and *.ghe.com have their API at ``api.``, others below ``/api/v3``.
    """
    parts = split_url(text)
    check_encrypted(parts)
    segments = [segment for segment in parts.path.split("/") if segment]
    if not 1 <= len(segments) <= 2 or not all(_PART.fullmatch(segment) for segment in segments):
        raise ValueError(
            "must be the URL of a repository (https://github.com/OWNER/NAME), an organisation "
            "(https://github.com/NAME) or an enterprise (https://github.com/enterprises/NAME)"
        )
    path = "/".join(segments)
    if path.endswith(".git"):
        raise ValueError('must be the address of a web page, without ".git" at its end')
    if len(segments) == 1:
        if path.lower() == "enterprises":
            raise ValueError("must name the enterprise: https://github.com/enterprises/NAME")
        kind = ScopeKind.ORGANISATION
    elif segments[0].lower() == "enterprises":
        kind, path = ScopeKind.ENTERPRISE, f"enterprises/{segments[1]}"
    else:
        kind = ScopeKind.REPOSITORY
    return kind, path, api_base(parts)


def api_base(parts: SplitResult) -> str:
    """The API base that belongs to a GitHub host."""
    host = (parts.hostname or "").lower()
    host = host.removeprefix("www.") if host == "www.github.com" else host
    if host == "github.com" or host.endswith(".ghe.com"):
        return f"https://api.{host}"
    return f"{parts.scheme}://{parts.netloc}/api/v3"


def make_scope(name: str, url: str, api_url: str | None, repositories: tuple[str, ...]) -> Scope:
    """The scope of a table that has been checked; repositories become ``owner/name`` in lower case."""
    kind, path, base = parse_scope_url(url)
    full = tuple(entry if "/" in entry else f"{path}/{entry}" for entry in repositories)
    return Scope(name, url.rstrip("/"), api_url or base, kind, path, tuple(entry.lower() for entry in full))
