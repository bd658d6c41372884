"""From a file to Settings, or to every mistake in it at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from slurm_gha.config.crosschecks import Finding, findings
from slurm_gha.config.explain import explain
from slurm_gha.config.locate import Lines, locate
from slurm_gha.config.mistakes import ConfigError, KeyPath, Mistake, shown
from slurm_gha.config.schema import Settings
from slurm_gha.config.secrets import read_secrets, read_webhook_secrets
from slurm_gha.domain.secret import Secret

_SYNTAX_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of a file: the settings if they hold, the token or private key of each scope, and every mistake.

    A token or key that cannot be read is a mistake, but leaves the settings standing.
    """

    settings: Settings | None
    mistakes: tuple[Mistake, ...]
    tokens: Mapping[str, Secret] = field(default_factory=dict)
    webhook_secrets: Mapping[str, Secret] = field(default_factory=dict)


def load(path: Path | str) -> Settings:
    """The settings in a file, without its tokens; raises ConfigError with every mistake."""
    examined = examine(path)
    if examined.settings is None:
        raise ConfigError(examined.mistakes)
    return examined.settings


def load_with_tokens(path: Path | str, environ: Mapping[str, str] | None = None) -> tuple[Settings, dict[str, Secret]]:
    """The settings in a file and the token or private key of each scope, by the scope's name; raises ConfigError."""
    examined = examine(path, os.environ if environ is None else environ)
    if examined.settings is None or examined.mistakes:
        raise ConfigError(examined.mistakes)
    return examined.settings, dict(examined.tokens)


def load_webhook_secrets(path: Path | str, environ: Mapping[str, str] | None = None) -> dict[str, Secret]:
    """The webhook's secret of each scope that has one, by the scope's name; raises ConfigError."""
    examined = examine(path, os.environ if environ is None else environ)
    if examined.settings is None or examined.mistakes:
        raise ConfigError(examined.mistakes)
    return dict(examined.webhook_secrets)


def examine(path: Path | str, environ: Mapping[str, str] | None = None) -> Examined:
    """Everything that can be said of a file; given ``environ``, the tokens are read too."""
    file = str(path)
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        return _failed(file, 0, f"the configuration cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        return _failed(file, error.object[: error.start].count(b"\n") + 1, "is not UTF-8 text")
    except ValueError:
        return _failed(file, 0, "the configuration cannot be read: its path is not valid")
    return examine_text(text, file, environ)


def examine_text(text: str, file: str, environ: Mapping[str, str] | None = None) -> Examined:
    """:func:`examine` for a text; ``file`` is what mistakes call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _syntax_mistake(text, file, str(error))
    except RecursionError:
        return _failed(file, 1, "is nested too deeply")
    except ValueError:
        return _failed(file, 1, "holds a number that is too long")  # int() has a limit of its own
    lines = locate(text)
    settings, complaints = _validate(document)
    complaints.extend(findings(document))
    unread, tokens = ([], {}) if environ is None else read_secrets(document, environ)
    secrets_unread, secrets = ([], {}) if environ is None else read_webhook_secrets(document, environ)
    mistakes = _placed(complaints + unread + secrets_unread, document, lines, file)
    return Examined(None if complaints else settings, mistakes, tokens, secrets)


def _failed(file: str, line: int, text: str) -> Examined:
    return Examined(None, (Mistake(file, line, "", text),))


def _syntax_mistake(text: str, file: str, message: str) -> Examined:
    lines = text.replace("\r\n", "\n").rstrip("\n").count("\n") + 1
    match = _SYNTAX_PLACE.search(message)
    line = min(int(match[1]), lines) if match is not None and match[1] else lines
    return _failed(file, line, f"is not valid TOML: {shown(_SYNTAX_PLACE.sub('', message))}")


def _validate(document: Mapping[str, Any]) -> tuple[Settings | None, list[Finding]]:
    try:
        return Settings.model_validate(document), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return None, [finding for detail in details if (finding := explain(detail, document)) is not None]


def _placed(complaints: Iterable[Finding], document: Mapping[str, Any], lines: Lines, file: str) -> tuple[Mistake, ...]:
    mistakes = {Mistake(file, lines.of(path), dotted(path, document), text): None for path, text in complaints}
    return tuple(sorted(mistakes, key=lambda mistake: mistake.line))


def dotted(path: KeyPath, document: Mapping[str, Any]) -> str:
    """A path as people write it: ``pool[small].slurm.cpus``; tables without a usable name go by number, from 1."""
    text = ""
    value: Any = document
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
        if isinstance(part, str):
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{shown(part)}"'
            text += f".{shown(name)}" if text else shown(name)
        else:
            given = value.get("name") if isinstance(value, dict) else None
            usable = isinstance(given, str) and re.fullmatch(r"[a-z0-9-]{1,32}", given)
            text += f"[{shown(given)}]" if usable else f"[{part + 1}]"
    return text
