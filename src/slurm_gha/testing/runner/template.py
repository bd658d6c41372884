"""A job message's template tokens and context data as YAML for act. Pure.

Expressions stay expressions; the contexts that only the service knows are put into them as literals.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_PART = re.compile(r"'(?:[^']|'')*'|\s*\.\s*[A-Za-z_][A-Za-z0-9_-]*|[A-Za-z_][A-Za-z0-9_-]*|\s+|.", re.DOTALL)
_PORT = re.compile(r"(\.\s*ports\s*)\[\s*(\d+)\s*\]")
_CALL = re.compile(r"\s*format\s*\(\s*('(?:[^']|'')*')\s*,(.*)\)\s*", re.DOTALL)
# act knows these itself, and better: they are places on this machine.
_OWN_GITHUB = frozenset({"workspace", "event", "event_path", "token", "env", "path", "action", "action_path"})


def plain(data: Any) -> Any:
    """Context data as plain values."""
    if isinstance(data, Mapping):
        if data.get("t") == 2:
            return {pair["k"]: plain(pair["v"]) for pair in data.get("d") or ()}
        if data.get("t") == 1:
            return [plain(item) for item in data.get("a") or ()]
        return next((data[key] for key in ("s", "b", "n") if key in data), None)
    return data


class Writer:
    """Template tokens back into YAML values. ``replaced``: expressions in place of a context's members."""

    def __init__(self, contexts: Mapping[str, Any], constants: Mapping[str, Mapping[str, Any]]) -> None:
        self._whole = {name: contexts.get(name) or {} for name in ("needs", "strategy", "inputs", "vars")}
        github = {key: value for key, value in (contexts.get("github") or {}).items() if key not in _OWN_GITHUB}
        self._members: dict[str, Mapping[str, Any]] = {**constants, "github": github}
        self.replaced: dict[tuple[str, str], str] = {}

    def value(self, token: Any) -> Any:
        if not isinstance(token, Mapping):
            return token
        match token.get("type"):
            case 0:
                return token["lit"]
            case 1:
                return [self.value(item) for item in token.get("seq") or ()]
            case 2:
                return {str(self.value(pair["Key"])): self.value(pair["Value"]) for pair in token.get("map") or ()}
            case 3:
                return self.text(str(token["expr"]))
            case 5:
                return bool(token.get("bool", False))
            case 6:
                return token.get("num", 0)
            case _:
                return None

    def text(self, expression: str) -> str:
        """An expression as a text with embedded ones; ``format('a {0}', x)`` is taken apart again."""
        call = _CALL.fullmatch(expression)
        arguments = None if call is None else _split(call[2])
        if call is None or arguments is None:
            return f"${{{{ {self.expression(expression)} }}}}"
        template = call[1][1:-1].replace("''", "'")

        def fill(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            return f"${{{{ {self.expression(arguments[int(match[1])].strip())} }}}}"

        return re.sub(r"\{\{|\}\}|\{(\d+)\}", fill, template)

    def expression(self, expression: str) -> str:
        """The expression with known contexts as literals."""
        parts = _PART.findall(expression)
        written: list[str] = []
        position = 0
        while position < len(parts):
            name = parts[position].lower()
            after = parts[position + 1].strip() if position + 1 < len(parts) else ""
            member = after[1:].strip().lower() if after.startswith(".") else None
            if name in self._whole:
                written.append(_constant(self._whole[name]))
            elif member is not None and (name, member) in self.replaced:
                written.append(self.replaced[name, member])
                position += 1
            elif member is not None and member in self._members.get(name, {}):
                written.append(_constant(self._members[name][member]))
                position += 1
            else:
                written.append(parts[position])
            position += 1
        whole = "".join(written)
        # act finds a port of a service by a text only.
        return _PORT.sub(r"\1['\2']", whole) if self.replaced else whole


def _constant(value: Any) -> str:
    """A value as an expression that holds no brace pairs, which would end the embedded expression for act."""

    def part(match: re.Match[str]) -> str:
        text = match[0]
        if text.startswith('"'):
            return text.replace("{", "\\u007b").replace("}", "\\u007d")
        return text + " "

    written = re.sub(r'"(?:[^"\\]|\\.)*"|[{}]', part, json.dumps(value))
    return "fromJSON('" + written.replace("'", "''") + "')"


def _split(arguments: str) -> list[str] | None:
    """The arguments of a call; None if the text closes more than it opens (then it was not one call)."""
    found, depth = [""], 0
    for part in _PART.findall(arguments):
        depth += (part in "([") - (part in ")]")
        if depth < 0:
            return None
        if part == "," and depth == 0:
            found.append("")
        else:
            found[-1] += part
    return found
