"""Requests and answers held against GitHub's own OpenAPI description (cut by tools/cut_openapi.py).

Stricter than the description: parameters and properties that it does not know are mistakes too. What it is known to
leave out is listed here, and explained in docs/developers/openapi-gaps.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema_rs

DESCRIPTIONS = Path(__file__).parent / "openapi"
GENERAL_STATUSES = frozenset({401, 403, 404, 422, 429})
"""Answers that any call may get, though the description names them for few; their body is a basic error."""
BARE_STATUSES = frozenset({304})
"""Not Modified: any conditional GET may get it; no body."""

GAPS: Mapping[str, Mapping[str, Any]] = {
    "validation-error": {"status": {"type": "string"}},
    "validation-error-simple": {"status": {"type": "string"}},
}
"""Properties that GitHub sends, and its description leaves out: by schema."""

INSTEAD: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("get", "/app/installations"): {"type": "array", "items": {"$ref": "#/components/schemas/installation"}},
    ("get", "/installation/repositories"): {
        "type": "object",
        "properties": {
            "total_count": {"type": "integer"},
            "repositories": {"type": "array", "items": {"$ref": "#/components/schemas/repository"}},
        },
        "required": ["total_count", "repositories"],
        "additionalProperties": False,
    },
}
"""Answers (200) that no value could satisfy by a description read so strictly, and what they are held to instead."""


class ContractError(AssertionError):
    """A request or an answer that GitHub's description does not allow; the text names the call and each fault."""


@dataclass(frozen=True, slots=True)
class _Operation:
    method: str
    template: str
    pattern: re.Pattern[str]
    body: Mapping[str, Any]
    components: Mapping[str, Any]
    parameters: Mapping[tuple[str, str], Mapping[str, Any]]

    def validator(self, schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
        return jsonschema_rs.Draft202012Validator({**schema, "components": self.components}, validate_formats=True)


def check_request(method: str, url: str, params: Mapping[str, Any] | None = None, body: object = None) -> None:
    """Raise ContractError unless the description allows the request; ``body`` is bytes, text, a value or None."""
    operation, parts = _operation(method, url)
    query = [*parse_qsl(urlsplit(url).query, keep_blank_values=True), *((str(k), v) for k, v in (params or {}).items())]
    faults = [
        *_parameter_faults(operation, "path", list(parts.items())),
        *_parameter_faults(operation, "query", query),
        *_body_faults(operation, _decoded(body)),
    ]
    _raise(f"request {method} {url}", faults)


def check_response(method: str, url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raise ContractError unless the description allows the answer to that request."""
    what = f"answer {status} to {method} {url}"
    try:
        operation, _ = _operation(method, url)
    except ContractError:
        if status in (401, 404):
            return
        raise
    given = {name.lower(): value for name, value in headers.items()}
    _raise(what, [*_answer_faults(operation, status, given, body), *_header_faults(given)])


def _answer_faults(operation: _Operation, status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
    described = operation.body["responses"].get(str(status))
    if described is None:
        if status in BARE_STATUSES:
            return ["has a body"] if body else []
        if status not in GENERAL_STATUSES:
            return [f"status {status}: the description has {', '.join(operation.body['responses'])}"]
        described = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/basic-error"}}}}
    described = _resolve(described, operation.components)
    faults = [
        f"no {name} header" for name in described.get("headers", {}) if name == "Location" and "location" not in headers
    ]
    content = described.get("content", {}).get("application/json")
    if content is None:
        return [*faults, "has a body"] if body else faults
    if not headers.get("content-type", "").startswith("application/json"):
        return [*faults, f"content type {headers.get('content-type')!r}"]
    try:
        value = json.loads(body)
    except ValueError as error:
        return [*faults, f"no JSON: {error}"]
    return faults + _schema_faults(operation, content["schema"], value)


def _header_faults(headers: Mapping[str, str]) -> list[str]:
    faults = [
        f"header {name}: {headers[name]!r} is no number"
        for name in (
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-used",
            "x-ratelimit-reset",
            "retry-after",
        )
        if name in headers and not headers[name].isdigit()
    ]
    link = headers.get("link")
    if link is not None and not re.fullmatch(r'(<[^<>]+>; rel="(prev|next|last|first)"(, )?)+', link):
        faults.append(f"header link: {link!r}")
    return faults


def _parameter_faults(operation: _Operation, where: str, given: list[tuple[str, Any]]) -> list[str]:
    faults = []
    for name, text in given:
        parameter = operation.parameters.get((where, name))
        if parameter is None:
            faults.append(f"{where} parameter {name!r} is unknown")
            continue
        value = _typed(text, parameter["schema"].get("type"))
        faults += [
            f"{where} parameter {name}: {fault}" for fault in _schema_faults(operation, parameter["schema"], value)
        ]
    names = {name for name, _ in given}
    required = (name for (place, name), each in operation.parameters.items() if place == where and each.get("required"))
    return faults + [f"{where} parameter {name!r} is missing" for name in required if name not in names]


def _body_faults(operation: _Operation, value: object) -> list[str]:
    described = operation.body.get("requestBody")
    if value is None:
        return ["the body is missing"] if described is not None and described.get("required") else []
    if described is None:
        return ["a body is sent, and none is described"]
    return _schema_faults(operation, described["content"]["application/json"]["schema"], value)


def _schema_faults(operation: _Operation, schema: Mapping[str, Any], value: object) -> list[str]:
    errors = operation.validator(schema).iter_errors(value)
    return [f"{'/'.join(map(str, error.instance_path)) or 'body'}: {error.message[:300]}" for error in errors]


def _operation(method: str, url: str) -> tuple[_Operation, dict[str, str]]:
    path = urlsplit(url).path.removeprefix("/api/v3")
    path = re.sub(r"^/repositories/\d+(?=/|$)", "/repos/any/any", path)
    path = re.sub(r"^/organizations/\d+(?=/|$)", "/orgs/any", path)
    for operation in _operations():
        match = operation.pattern.fullmatch(path)
        if match is not None and operation.method == method.lower():
            return operation, {name: unquote(text) for name, text in match.groupdict().items()}
    raise ContractError(f"{method} {url}: the cut description has no such call; see tools/cut_openapi.py")


@cache
def _operations() -> tuple[_Operation, ...]:
    found = []
    for file in sorted(DESCRIPTIONS.glob("*.json")):
        whole = json.loads(file.read_text())
        for schema, properties in GAPS.items():
            if schema in whole["components"]["schemas"]:
                whole["components"]["schemas"][schema]["properties"].update(properties)
        whole = _strict(whole)
        for template, methods in whole["paths"].items():
            for method, body in methods.items():
                if (method, template) in INSTEAD:
                    body["responses"]["200"]["content"]["application/json"]["schema"] = INSTEAD[method, template]
                resolved = (_resolve(each, whole["components"]) for each in body.get("parameters", ()))
                found.append(
                    _Operation(
                        method=method,
                        template=template,
                        pattern=re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)),
                        body=body,
                        components=whole["components"],
                        parameters={(each["in"], each["name"]): each for each in resolved},
                    )
                )
    return tuple(sorted(found, key=lambda operation: operation.template.count("{")))


def _strict(value: Any) -> Any:
    """OpenAPI 3.0 as JSON schema: ``nullable`` written out, and no property but those described."""
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _strict(item) for key, item in value.items()}
    if isinstance(changed.get("properties"), dict) and changed.get("type") == "object":
        changed.setdefault("additionalProperties", False)
    if changed.get("nullable") is True:
        if "type" in changed:
            changed["type"] = [changed["type"], "null"]
        if "enum" in changed:
            changed["enum"] = [*changed["enum"], None]
    if changed.get("format") == "timestamp":
        del changed["format"]
    return changed


def _resolve(value: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in value:
        return value
    _, _, kind, name = value["$ref"].split("/")
    found: Mapping[str, Any] = components[kind][name]
    return found


def _typed(text: object, kind: str | None) -> object:
    if not isinstance(text, str):
        return text
    if kind == "integer" and re.fullmatch(r"-?\d+", text):
        return int(text)
    if kind == "boolean" and text in ("true", "false"):
        return text == "true"
    return text


def _decoded(body: object) -> object:
    if isinstance(body, bytes | str):
        return json.loads(body) if body else None
    return body


def _raise(what: str, faults: list[str]) -> None:
    if faults:
        raise ContractError(f"{what}: " + "; ".join(faults))
