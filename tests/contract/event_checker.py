"""Webhook bodies held against GitHub's own description of them (cut by tools/cut_openapi.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
from tests.contract.openapi_checker import ContractError

DESCRIPTION = Path(__file__).parent / "openapi/events/github.json"


def check_event(event: str, action: str | None, body: bytes) -> None:
    """Raise ContractError unless the description allows the body of that event and action."""
    name = event.replace("_", "-") + (f"-{action.replace('_', '-')}" if action else "")
    errors = _validator(name).iter_errors(json.loads(body))
    faults = [f"{'/'.join(map(str, error.instance_path)) or 'body'}: {error.message[:300]}" for error in errors]
    if faults:
        raise ContractError(f"webhook {name}: " + "; ".join(faults))


@cache
def _validator(name: str) -> jsonschema_rs.Validator:
    whole: Mapping[str, Any] = json.loads(DESCRIPTION.read_text())
    schema = whole["webhooks"][name]
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": _strict(whole["components"])}, validate_formats=True
    )


def _strict(value: Any) -> Any:
    """No property but those described. Parts of an ``allOf`` know only their own, and are left as they are."""
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: item if key == "allOf" else _strict(item) for key, item in value.items()}
    if isinstance(changed.get("properties"), dict) and changed.get("type") == "object":
        changed.setdefault("additionalProperties", False)
    return changed
