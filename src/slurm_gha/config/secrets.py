"""The files and variables that scopes name: tokens, private keys, certificate authorities."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slurm_gha.config.crosschecks import Finding
from slurm_gha.config.mistakes import shown
from slurm_gha.config.tokens import read_key_file, read_token_file, read_token_variable
from slurm_gha.domain.secret import Secret


def read_secrets(document: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[list[Finding], dict[str, Secret]]:
    """The token or private key of every scope that names one properly, whatever else is wrong with the file."""
    unread: list[Finding] = []
    secrets: dict[str, Secret] = {}
    tables = document.get("scope")
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        if not isinstance(table, dict):
            continue
        for key in ("token_file", "private_key_file", "token_env", "ca_file"):
            try:
                secret = _read(key, table.get(key), environ)
            except ValueError as error:
                unread.append((("scope", index, key), str(error)))
                continue
            if secret is not None and isinstance(table.get("name"), str):
                secrets.setdefault(table["name"], secret)
    return unread, secrets


def _read(key: str, value: object, environ: Mapping[str, str]) -> Secret | None:
    if not isinstance(value, str):
        return None
    if key == "token_env":
        named = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value)
        return read_token_variable(value, environ) if named else None
    if not value.startswith("/") or not value.isprintable():
        return None
    if key == "ca_file":
        _check_authority(Path(value))
        return None
    return read_token_file(Path(value)) if key == "token_file" else read_key_file(Path(value))


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
