"""GitHub's expression language, as far as job-level keys need it: ``if``, ``runs-on``, ``name``, ``matrix``.

Meaning follows the documentation of "Evaluate expressions in workflows and actions": loose equality, strings compared
without regard to case, a missing property is null, ``&&`` and ``||`` give an operand.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from slurm_gha.testing.github.errors import WorkflowError

Context = Mapping[str, Any]
Functions = Mapping[str, Callable[..., Any]]
Node = tuple[Any, ...]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))"
    r"|(?P<string>'(?:[^']|'')*')"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<operator>&&|\|\||==|!=|<=|>=|[!<>().,*\[\]]))"
)
_EMBEDDED = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_KEYWORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
_COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")
STATUS_FUNCTIONS = frozenset({"success", "failure", "always", "cancelled"})


def evaluate(text: str, context: Context, functions: Functions | None = None) -> Any:
    """The value of one expression (without ``${{ }}``)."""
    return _value(parse(text), context, functions or {})


def interpolate(text: str, context: Context, functions: Functions | None = None) -> Any:
    """A scalar of a workflow: a lone ``${{ x }}`` keeps its type, embedded ones become text."""
    whole = _EMBEDDED.fullmatch(text.strip())
    if whole is not None and "${{" not in whole[1]:
        return evaluate(whole[1], context, functions)
    return _EMBEDDED.sub(lambda match: to_text(evaluate(match[1], context, functions)), text)


def expand(value: Any, context: Context, functions: Functions | None = None) -> Any:
    """The same for a whole YAML value: every string in it is interpolated."""
    if isinstance(value, str):
        return interpolate(value, context, functions) if "${{" in value else value
    if isinstance(value, Mapping):
        return {key: expand(item, context, functions) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [expand(item, context, functions) for item in value]
    return value


def condition(text: str, context: Context, functions: Functions) -> bool:
    """An ``if:``, with or without ``${{ }}``; without a status function, success() is asked as well."""
    stripped = text.strip()
    whole = _EMBEDDED.fullmatch(stripped)
    inner = whole[1] if whole is not None and "${{" not in whole[1] else None
    if inner is None and "${{" in stripped:
        value = interpolate(stripped, context, functions)
        return truth(functions["success"]()) and truth(value)
    node = parse(inner if inner is not None else stripped)
    if not mentions(node, STATUS_FUNCTIONS) and not truth(functions["success"]()):
        return False
    return truth(_value(node, context, functions))


def mentions(node: Any, names: frozenset[str]) -> bool:
    """Whether a parsed expression calls one of the functions."""
    if not isinstance(node, tuple):
        return False
    if node and node[0] == "call" and node[1] in names:
        return True
    return any(mentions(part, names) for part in node)


@lru_cache(maxsize=4096)
def parse(text: str) -> Node:
    """The syntax tree of an expression; raises WorkflowError with the text and the place."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise WorkflowError(f"expression {text!r}: unexpected {text[position:].strip()[:10]!r}")
        assert match.lastgroup is not None
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    parser = _Parser(text, tokens)
    node = parser.either()
    parser.finish()
    return node


class _Parser:
    def __init__(self, text: str, tokens: list[tuple[str, str]]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    def finish(self) -> None:
        if self._next < len(self._tokens):
            raise WorkflowError(f"expression {self._text!r}: unexpected {self._tokens[self._next][1]!r}")

    def _take(self, *operators: str) -> str | None:
        if self._next < len(self._tokens):
            kind, text = self._tokens[self._next]
            if kind == "operator" and text in operators:
                self._next += 1
                return text
        return None

    def _expect(self, operator: str) -> None:
        if self._take(operator) is None:
            raise WorkflowError(f"expression {self._text!r}: {operator!r} is missing")

    def either(self) -> Node:
        node = self._both()
        while self._take("||"):
            node = ("or", node, self._both())
        return node

    def _both(self) -> Node:
        node = self._comparison()
        while self._take("&&"):
            node = ("and", node, self._comparison())
        return node

    def _comparison(self) -> Node:
        node = self._unary()
        while operator := self._take(*_COMPARISONS):
            node = ("compare", operator, node, self._unary())
        return node

    def _unary(self) -> Node:
        if self._take("!"):
            return ("not", self._unary())
        return self._postfix()

    def _postfix(self) -> Node:
        node = self._primary()
        while True:
            if self._take("."):
                node = ("filter", node) if self._take("*") else ("index", node, ("literal", self._name()))
            elif self._take("["):
                node = ("filter", node) if self._take("*") else ("index", node, self.either())
                self._expect("]")
            else:
                return node

    def _name(self) -> str:
        if self._next < len(self._tokens) and self._tokens[self._next][0] == "name":
            self._next += 1
            return self._tokens[self._next - 1][1]
        raise WorkflowError(f"expression {self._text!r}: a name is missing after '.'")

    def _primary(self) -> Node:
        if self._take("("):
            node = self.either()
            self._expect(")")
            return node
        if self._next >= len(self._tokens):
            raise WorkflowError(f"expression {self._text!r}: ends too early")
        kind, text = self._tokens[self._next]
        self._next += 1
        match kind:
            case "number":
                return ("literal", float(int(text, 16)) if "x" in text else float(text))
            case "string":
                return ("literal", text[1:-1].replace("''", "'"))
            case "name" if self._take("("):
                return ("call", text.lower(), *self._arguments())
            case "name":
                return ("literal", _KEYWORDS[text]) if text in _KEYWORDS else ("context", text.lower())
        raise WorkflowError(f"expression {self._text!r}: unexpected {text!r}")

    def _arguments(self) -> list[Node]:
        arguments: list[Node] = []
        if self._take(")"):
            return arguments
        arguments.append(self.either())
        while self._take(","):
            arguments.append(self.either())
        self._expect(")")
        return arguments


def _value(node: Node, context: Context, functions: Functions) -> Any:
    match node:
        case ("literal", value):
            return value
        case ("context", name):
            return context.get(name)
        case ("or", left, right):
            value = _value(left, context, functions)
            return value if truth(value) else _value(right, context, functions)
        case ("and", left, right):
            value = _value(left, context, functions)
            return _value(right, context, functions) if truth(value) else value
        case ("not", operand):
            return not truth(_value(operand, context, functions))
        case ("compare", operator, left, right):
            return compare(operator, _value(left, context, functions), _value(right, context, functions))
        case ("index", operand, key):
            return _index(_value(operand, context, functions), _value(key, context, functions))
        case ("filter", operand):
            found = _value(operand, context, functions)
            return _Filtered(found.values() if isinstance(found, Mapping) else found or ())
        case ("call", name, *arguments):
            function = functions.get(name) or BUILT_IN.get(name)
            if function is None:
                raise WorkflowError(f"expression: no function {name!r} here; there are {', '.join(sorted(BUILT_IN))}")
            return function(*(_value(argument, context, functions) for argument in arguments))
    raise AssertionError(node)


class _Filtered(list[Any]):
    """The result of ``.*``: a further property is taken of every item."""


def _index(value: Any, key: Any) -> Any:
    if isinstance(value, _Filtered) and isinstance(key, str):
        return _Filtered(item for each in value if (item := _index(each, key)) is not None)
    if isinstance(value, Mapping):
        wanted = to_text(key)
        if wanted in value:
            return value[wanted]
        return next((item for name, item in value.items() if str(name).lower() == wanted.lower()), None)
    if isinstance(value, list | tuple):
        number = to_number(key)
        return value[int(number)] if number == number and 0 <= number < len(value) else None
    return None


def truth(value: Any) -> bool:
    return not (
        value is None or value is False or value == "" or (_is_number(value) and (value == 0 or value != value))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return "Object"
    if isinstance(value, list | tuple):
        return "Array"
    return str(value)


def to_number(value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value.strip() or 0)
        except ValueError:
            return math.nan
    return math.nan


def compare(operator: str, left: Any, right: Any) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        left, right = left.lower(), right.lower()
    elif isinstance(left, Mapping | list | tuple) or isinstance(right, Mapping | list | tuple):
        return (left is right) == (operator == "==") if operator in ("==", "!=") else False
    elif not (left is None and right is None):
        left, right = to_number(left), to_number(right)
    match operator:
        case "==":
            return bool(left == right)
        case "!=":
            return bool(left != right)
    if left is None:
        return operator in ("<=", ">=")
    match operator:
        case "<":
            return bool(left < right)
        case ">":
            return bool(left > right)
        case "<=":
            return bool(left <= right)
    return bool(left >= right)


def _contains(search: Any, item: Any) -> bool:
    if isinstance(search, list | tuple):
        return any(compare("==", each, item) for each in search)
    return to_text(item).lower() in to_text(search).lower()


def _format(template: Any, *arguments: Any) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        number = int(match[1])
        if number >= len(arguments):
            raise WorkflowError(f"format(): {{{number}}} has no argument")
        return to_text(arguments[number])

    return re.sub(r"\{\{|\}\}|\{(\d+)\}", fill, to_text(template))


def _join(items: Any, separator: Any = ",") -> str:
    if isinstance(items, list | tuple):
        return to_text(separator).join(to_text(item) for item in items)
    return to_text(items)


def _from_json(text: Any) -> Any:
    try:
        return json.loads(to_text(text))
    except ValueError as error:
        raise WorkflowError(f"fromJSON(): {error}") from error


BUILT_IN: Functions = {
    "contains": _contains,
    "startswith": lambda text, start: to_text(text).lower().startswith(to_text(start).lower()),
    "endswith": lambda text, end: to_text(text).lower().endswith(to_text(end).lower()),
    "format": _format,
    "join": _join,
    "tojson": lambda value: json.dumps(value, indent=2),
    "fromjson": _from_json,
}
