"""The types of single settings: how each is written, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from slurm_gha.config.addresses import parse_api_url, parse_scope_url, split_url
from slurm_gha.config.options import parse_option
from slurm_gha.domain.runner import INSTALLATION_PATTERN, POOL_PATTERN
from slurm_gha.domain.units import parse_address, parse_clock, parse_duration, parse_memory, parse_time_limit
from slurm_gha.domain.warm import zone

LONGEST_NODE_DIR = 40
"""Bytes. A Unix socket's path is at most 107 bytes long, and jobs make theirs below ``node_dir/sg-ID/``."""


@dataclass(frozen=True, slots=True)
class Written:
    """How the value is written in the file, for the reference page."""

    form: str


def from_text(parse: Callable[[str], Any]) -> BeforeValidator:
    """Reads a text; anything that is no text is told what the text should be."""

    def read(value: object) -> Any:
        return parse(value if isinstance(value, str) else "")

    return BeforeValidator(read)


def _matching(pattern: str | re.Pattern[str], allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)


def _path(text: str) -> Path:
    if not text.startswith("/") or not text.isprintable() or ".." in text.split("/"):
        raise ValueError('must be an absolute path without "..", such as "/var/lib/slurm-gha"')
    return Path(text)


def _slurm_path(text: str) -> Path:
    if "%" in text or "\\" in text:
        raise ValueError("must not hold % or a backslash: Slurm gives them a meaning in file names")
    return _path(text)


def _node_dir(text: str) -> Path:
    if len(text.encode(errors="replace")) > LONGEST_NODE_DIR:
        raise ValueError(f"must be at most {LONGEST_NODE_DIR} bytes long: sockets of jobs have to fit below it")
    return _path(text)


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable() or "," in text or text != text.strip() or len(text) > 256:
        raise ValueError("must be a label: 1 to 256 characters, no comma, no space at its ends, no control character")
    return text


def _node_url(text: str) -> str:
    split_url(text)
    return text.rstrip("/")


def _mirror_url(text: str) -> str:
    if split_url(text).path.strip("/"):
        raise ValueError("must be the URL of a registry's host, without a path")
    return text.rstrip("/")


def _proxy_url(text: str) -> str:
    try:
        parts = split_url(text)
    except ValueError as error:
        hint = "; it would show: put a proxy with a password into the variable HTTPS_PROXY of the service"
        raise ValueError(f"{error}{hint if 'password' in str(error) else ''}") from None
    if parts.path.strip("/"):
        raise ValueError('must be the URL of a proxy, such as "http://proxy.example:3128", without a path')
    return text.rstrip("/")


def _app_id(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**15:
        return str(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9.]{1,60}", value):
        return value
    raise ValueError('must be the App\'s number, or its client ID such as "Iv23liAbCdEfGh012345"')


def _listen(text: str) -> str:
    parse_address(text)
    return text


def _github_url(text: str) -> str:
    parse_scope_url(text)
    return text


def _time_zone(text: str) -> str:
    try:
        zone(text)
    except (KeyError, ValueError, OSError):
        raise ValueError('must be a time zone that this machine knows, such as "Europe/Berlin" or "UTC"') from None
    return text


def _as_list(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _variable_value(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must not hold line breaks or other control characters")
    return text


Duration = Annotated[float, Written("duration"), from_text(parse_duration)]
AbsolutePath = Annotated[Path, Written("absolute path"), from_text(_path)]
SlurmPath = Annotated[Path, Written("absolute path"), from_text(_slurm_path)]
Name = Annotated[str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,99}", "letters, digits and _ . @ + -")]
Names = Annotated[str, _matching(r"[A-Za-z0-9_][A-Za-z0-9_.,@+-]{0,199}", "letters, digits and _ . , @ + -")]
ScopeName = Annotated[str, _matching(r"[a-z0-9][a-z0-9-]{0,31}", "1 to 32 small letters, digits and hyphens")]
PoolName = Annotated[
    str, _matching(POOL_PATTERN, "1 to 24 small letters, digits and inner hyphens (it is part of runners' names)")
]
ScaleSetName = Annotated[
    str,
    _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "1 to 100 letters, digits and . _ - (jobs ask for it by this name)"),
]
RunnerGroup = Annotated[str, _matching(r"[^\x00-\x1f\x7f]{1,256}", "the name of a runner group")]
Installation = Annotated[
    str, _matching(INSTALLATION_PATTERN, "2 to 16 small letters and digits (it is part of runners' names)")
]
VariableName = Annotated[
    str,
    _matching(
        r"(?!SLURM_|SBATCH_|ACTIONS_RUNNER_INPUT_|SG_)[A-Za-z_][A-Za-z0-9_]{0,99}",
        "the name of an environment variable, not beginning with SLURM_, SBATCH_, SG_ or ACTIONS_RUNNER_INPUT_",
    ),
]
EnvironmentName = Annotated[
    str,
    _matching(
        r"(?i:(?!gh[a-z]_|github_pat_|[0-9a-f]{40}))[A-Za-z_][A-Za-z0-9_]{0,99}",
        "the name of an environment variable, not the token itself",
    ),
]
Gres = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9_]+(:[A-Za-z0-9_.-]+)?(:[0-9]{1,12}[KMGTP]?)?",
        'generic resources such as "gpu:1", "gpu:a100:2" or "tmpdisk:4G"',
    ),
]
Constraint = Annotated[
    str, _matching(r"[A-Za-z0-9_&|,.:!*()\[\]-]{1,200}", 'features such as "ssd" or "(rack1|rack2)&gpu"')
]
Repository = Annotated[
    str, _matching(r"([A-Za-z0-9_.-]{1,100}/)?[A-Za-z0-9_.-]{1,100}", 'a repository such as "owner/name"')
]
ExtraOption = Annotated[tuple[str, str | None], Written("text"), from_text(parse_option)]
NodeUrl = Annotated[str, Written("URL"), AfterValidator(_node_url)]
ProxyUrl = Annotated[str, Written("URL"), AfterValidator(_proxy_url)]
AppId = Annotated[str, Written("number or client ID"), BeforeValidator(_app_id)]
ListenAddress = Annotated[str, Written("host:port"), AfterValidator(_listen)]
GitHubUrl = Annotated[str, Written("URL"), AfterValidator(_github_url)]
Label = Annotated[str, AfterValidator(_label)]
VariableValue = Annotated[str, AfterValidator(_variable_value)]
ApiUrl = Annotated[str, Written("URL"), AfterValidator(parse_api_url)]
NodeDir = Annotated[Path, Written("absolute path"), from_text(_node_dir)]
TimeLimit = Annotated[int, Written("time limit"), from_text(parse_time_limit)]
Memory = Annotated[int, Written("memory"), from_text(parse_memory)]
GresList = Annotated[tuple[Gres, ...], Strict(False), BeforeValidator(_as_list)]
ImageName = Annotated[
    str,
    _matching(
        r"(docker://)?[A-Za-z0-9/][A-Za-z0-9_.:/@-]{0,254}",
        'an image: a name such as "runner", a reference such as "ghcr.io/owner/image:tag", or a path',
    ),
]
RegistryHost = Annotated[
    str,
    _matching(r"[a-z0-9][a-z0-9.-]{0,252}(:[0-9]{1,5})?", 'the host of a registry, such as "docker.io" or "ghcr.io"'),
]
MirrorUrl = Annotated[str, Written("URL"), AfterValidator(_mirror_url)]
Pattern = Annotated[
    str,
    _matching(r"[!-~¡-\U0010ffff]{1,256}", "1 to 256 characters without blanks, with * for any and ** for / as well"),
]
Patterns = Annotated[tuple[Pattern, ...], Strict(False), Field(max_length=1000)]
EventName = Annotated[str, _matching(r"[a-z_]{1,64}", 'an event as workflows write it, such as "pull_request"')]
ActorName = Annotated[
    str,
    _matching(r"[A-Za-z0-9_-]{1,100}(\[bot\])?", 'the name of a user, such as "octocat", or of an app, "name[bot]"'),
]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
TimeOfDay = Annotated[int, Written("time of day"), from_text(parse_clock)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
