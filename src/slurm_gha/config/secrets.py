"""The secrets of webhooks, for all scopes of a file that name one properly, whatever else is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slurm_gha.config.crosschecks import Finding
from slurm_gha.config.tokens import read_webhook_secret_file, read_webhook_secret_variable
from slurm_gha.domain.secret import Secret


def read_webhook_secrets(
    document: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[list[Finding], dict[str, Secret]]:
    """What could not be read, and the secrets by the scope's name."""
    unread: list[Finding] = []
    secrets: dict[str, Secret] = {}
    tables = document.get("scope")
    for index, table in enumerate(tables if isinstance(tables, list) else ()):
        if not isinstance(table, dict):
            continue
        file, variable, name = table.get("webhook_secret_file"), table.get("webhook_secret_env"), table.get("name")
        key = "webhook_secret_file"
        try:
            if isinstance(file, str) and file.startswith("/") and file.isprintable():
                secret = read_webhook_secret_file(Path(file))
            elif isinstance(variable, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
                key = "webhook_secret_env"
                secret = read_webhook_secret_variable(variable, environ)
            else:
                continue
        except ValueError as error:
            unread.append((("scope", index, key), str(error)))
            continue
        if isinstance(name, str):
            secrets[name] = secret
    return unread, secrets
