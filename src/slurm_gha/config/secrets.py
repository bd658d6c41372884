"""The files and variables that scopes name: tokens, private keys, certificate authorities, secrets of webhooks."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slurm_gha.config.crosschecks import Finding
from slurm_gha.config.mistakes import shown
from slurm_gha.config.tokens import (
    read_key_file,
    read_token_file,
    read_token_variable,
    read_webhook_secret_file,
    read_webhook_secret_variable,
)
from slurm_gha.domain.secret import Secret

Read = Callable[[str, Mapping[str, str]], Secret | None]


def read_secrets(document: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[list[Finding], dict[str, Secret]]:
    """The token or private key of every scope that names one properly, whatever else is wrong with the file."""
    return _read_all(
        document,
        environ,
        {
            "token_file": _from_file(read_token_file),
            "private_key_file": _from_file(read_key_file),
            "token_env": _from_variable(read_token_variable),
            "ca_file": _from_file(_check_authority),
        },
    )


def read_webhook_secrets(
    document: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[list[Finding], dict[str, Secret]]:
    """The webhook's secret of every scope that names one properly."""
    return _read_all(
        document,
        environ,
        {
            "webhook_secret_file": _from_file(read_webhook_secret_file),
            "webhook_secret_env": _from_variable(read_webhook_secret_variable),
        },
    )


def _read_all(
    document: Mapping[str, Any], environ: Mapping[str, str], readers: Mapping[str, Read]
) -> tuple[list[Finding], dict[str, Secret]]:
    """What could not be read, and of each scope, by its name, the first of the keys that gives a secret."""
    unread: list[Finding] = []
    secrets: dict[str, Secret] = {}
    tables = document.get("scope")
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        if not isinstance(table, dict):
            continue
        for key, read in readers.items():
            value = table.get(key)
            try:
                secret = read(value, environ) if isinstance(value, str) else None
            except ValueError as error:
                unread.append((("scope", index, key), str(error)))
                continue
            if secret is not None and isinstance(table.get("name"), str):
                secrets.setdefault(table["name"], secret)
    return unread, secrets


def _from_file(read: Callable[[Path], Secret | None]) -> Read:
    return lambda value, _: read(Path(value)) if value.startswith("/") and value.isprintable() else None


def _from_variable(read: Callable[[str, Mapping[str, str]], Secret]) -> Read:
    return lambda value, environ: read(value, environ) if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) else None


def _check_authority(path: Path) -> None:
    called = shown(path, longest=300)
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ValueError(
            f"{called} must hold certificates of authorities in PEM (-----BEGIN CERTIFICATE-----)"
        ) from None
    except OSError as error:
        raise ValueError(f"{called} cannot be read: {error.strerror}") from None
