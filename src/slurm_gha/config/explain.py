"""Pydantic's complaints in the words of this file format: what is wrong, and what is allowed."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from slurm_gha.config.mistakes import KeyPath, shown
from slurm_gha.config.schema import Settings
from slurm_gha.domain.units import show_duration

_INLINE_TOKENS = frozenset(
    {"token", "pat", "password", "secret", "access_token", "github_token", "auth_token", "webhook_secret"}
)
_INLINE_KEYS = frozenset({"private_key", "app_private_key", "app_key", "pem"})
# Values that may hold a secret, or that the sentence about them repeats already.
_UNREPEATED = frozenset({"environment", "url", "extra", "proxy", "private_key_file", "app_id"})
_WANTED = {
    "int_type": "a whole number, without quotes",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "tuple_type": "a list in square brackets",
    "dict_type": "a table",
    "model_type": "a table",
}


def explain(error: ErrorDetails, document: Mapping[str, Any]) -> tuple[KeyPath, str] | None:
    """The path of the key to blame, and the sentence about it; None for a mere echo of another complaint."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        return path, "is missing; it is required" + _meaning(path)
    if kind == "extra_forbidden":
        return path, _unknown(path)
    if kind == "value_error":
        return path, str(context.get("error", error["msg"])) + _given(path, document)
    if kind in ("enum", "literal_error"):
        return path, f"must be one of {context['expected']}{_given(path, document)}".replace("'", '"')
    if kind == "too_short" and _value(path, document):
        return None  # entries were refused one by one, and pydantic counts what is left
    if kind in ("too_short", "too_long"):
        return path, _length(kind, context, path)
    if kind in ("greater_than_equal", "less_than_equal"):
        word = "at least" if kind == "greater_than_equal" else "at most"
        bound = context["ge"] if word == "at least" else context["le"]
        limit = f'"{show_duration(bound)}"' if isinstance(_value(path, document), str) else bound
        return path, f"must be {word} {limit}{_given(path, document)}"
    if kind in _WANTED:
        wanted = "[[double brackets]]: one table each" if path in (("scope",), ("pool",)) else _WANTED[kind]
        return path, f"must be {wanted}{_given(path, document)}"
    return path, error["msg"] + _given(path, document)


def _meaning(path: KeyPath) -> str:
    model = model_at(path[:-1])
    if len(path) == 1:
        return f": write [[{path[0]}]]" if path[0] in ("scope", "pool") else f": write [{path[0]}]"
    for name, field in model.model_fields.items() if model is not None else ():
        if path[-1] in (name, field.alias) and field.description:
            return f" ({field.description.split('.')[0].split(':')[0]})"
    return ""


def _length(kind: str, context: Mapping[str, Any], path: KeyPath) -> str:
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries"
    if path in (("scope",), ("pool",)):
        return f"is empty; at least one [[{path[0]}]] is required"
    return "must not be empty; leave the key out or give at least one entry"


def _value(path: KeyPath, document: Mapping[str, Any]) -> object:
    value: Any = document
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return None
    return value


def _given(path: KeyPath, document: Mapping[str, Any]) -> str:
    """What was given, if it may be repeated: nothing that is or may be a secret."""
    words = [part for part in path if isinstance(part, str)]
    secretive = any("token" in word or "secret" in word or word in _UNREPEATED for word in words)
    value = _value(path, document)
    if secretive or value is None:
        return ""
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, str):
        return f', not "{shown(value)}"'
    if isinstance(value, (list, dict)):
        return f", not a {'list' if isinstance(value, list) else 'table'}"
    return f", not {shown(value)}"


def _unknown(path: KeyPath) -> str:
    key = str(path[-1])
    allowed = allowed_keys(path[:-1])
    if key.lower().replace("-", "_") in _INLINE_KEYS:
        return (
            "a secret must not stand in this file: put the App's private key into a file of mode 0600 and name it by "
            "private_key_file in [[scope]]; if it was a real key, delete it on GitHub and make another"
        )
    if key.lower().replace("-", "_") in _INLINE_TOKENS:
        if key.lower() == "webhook_secret":
            return (
                "a secret must not stand in this file: put it into a file of mode 0600 and name it by "
                "webhook_secret_file, or into an environment variable and name that by webhook_secret_env"
            )
        return (
            "a secret must not stand in this file: put the token into a file of mode 0600 and name it by "
            "token_file in [[scope]], or into an environment variable and name that by token_env; "
            "if it was a real token, treat it as disclosed"
        )
    near = difflib.get_close_matches(key.lower(), allowed, n=1)
    guess = f'; did you mean "{near[0]}"?' if near else ""
    return f"is not a known key{guess} Allowed here: {', '.join(allowed)}".replace("key Allowed", "key; allowed")


def allowed_keys(table: KeyPath) -> list[str]:
    """The keys that a table may hold, in the reference's order; empty for what is no table of ours."""
    model = model_at(table)
    return [field.alias or name for name, field in model.model_fields.items()] if model is not None else []


def model_at(table: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the table at a path."""
    model: type[BaseModel] | None = Settings
    for part in table:
        if isinstance(part, int):
            continue
        annotation = next(
            (
                field.annotation
                for name, field in (model.model_fields if model else {}).items()
                if part in (name, field.alias)
            ),
            None,
        )
        model = _model_in(annotation)
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part)) is not None), None)
