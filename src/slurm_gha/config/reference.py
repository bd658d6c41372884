"""The tables of the settings reference, made from the schema, so that the page cannot drift from the program.

``python -m slurm_gha.config.reference PAGE`` writes them anew between the page's markers.
"""

from __future__ import annotations

import enum
import re
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from slurm_gha.config.cvmfs import CvmfsTable
from slurm_gha.config.dynamic import DynamicSettings
from slurm_gha.config.fields import Written
from slurm_gha.config.images import ImageSettings
from slurm_gha.config.options import ALLOWED, Argument
from slurm_gha.config.pools import PoolAllowSettings, PoolSettings, PoolSlurmSettings, PoolWarmSettings
from slurm_gha.config.schema import (
    PollSettings,
    ScopeSettings,
    ServiceSettings,
    SlurmSettings,
    TimeoutSettings,
    WebhookSettings,
)
from slurm_gha.domain.units import show_duration

SECTIONS: dict[str, type[BaseModel]] = {
    "service": ServiceSettings,
    "poll": PollSettings,
    "webhook": WebhookSettings,
    "slurm": SlurmSettings,
    "images": ImageSettings,
    "images.cvmfs": CvmfsTable,
    "timeouts": TimeoutSettings,
    "scope": ScopeSettings,
    "pool": PoolSettings,
    "pool.slurm": PoolSlurmSettings,
    "pool.dynamic": DynamicSettings,
    "pool.allow": PoolAllowSettings,
    "pool.warm": PoolWarmSettings,
}
_BLOCK = re.compile(r"(<!-- settings: ([a-z.]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PLAIN = {int: "whole number", str: "text", bool: "true or false", dict: "table of texts"}


def write_into(page: str) -> str:
    """The page with its tables made anew."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{_content(block[2])}\n{block[3]}", page)


def _content(section: str) -> str:
    if section == "extra":
        return _options()
    rows = ["| Key | Meaning | Written as | Default |", "|---|---|---|---|"]
    for name, field in SECTIONS[section].model_fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        rows.append(
            f"| `{field.alias or name}` | {meaning}{_bounds(field)} | {written_as(field)} | {shown_default(field)} |"
        )
    return "\n".join(rows) + "\n"


def _options() -> str:
    rows = ["| Option | Value |", "|---|---|"]
    for name, option in ALLOWED.items():
        example = f"such as `--{name}={option.example}`"
        value = {Argument.NONE: "none", Argument.OPTIONAL: f"none, or one {example}", Argument.REQUIRED: example}
        rows.append(f"| `--{name}` | {value[option.argument]} |")
    return "\n".join(rows) + "\n"


def shown_default(field: FieldInfo) -> str:
    """The default as it would be written in the file."""
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value == () or value is PydanticUndefined:
        return "none"
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    if isinstance(value, float):
        return f'`"{show_duration(value)}"`'
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f"`{value}`" if isinstance(value, int) else f'`"{value}"`'


def written_as(field: FieldInfo) -> str:
    """The form of a value, with its unit where it has one."""
    top = next((item.form for item in field.metadata if isinstance(item, Written)), None)
    return top or _form(field.annotation)


def _form(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        marked = next((item.form for item in arguments[1:] if isinstance(item, Written)), None)
        return marked or _form(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _form(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        listed = _form(arguments[0])
        return f"list of {listed}" if "`" in listed else f"list of {listed}s"
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in arguments)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f'`"{choice.value}"`' for choice in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _PLAIN[origin or annotation]


def _bounds(field: FieldInfo) -> str:
    """The limits of a number, as a sentence."""
    limits = {}
    for item in field.metadata:
        for bound in ("ge", "le"):
            if getattr(item, bound, None) is not None:
                limits[bound] = getattr(item, bound)
    texts = {key: show_duration(value) if field.annotation is float else str(value) for key, value in limits.items()}
    if "ge" in texts and "le" in texts:
        return f" From {texts['ge']} to {texts['le']}."
    return f" At least {texts['ge']}." if "ge" in texts else f" At most {texts['le']}." if "le" in texts else ""


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(write_into(target.read_text(encoding="utf-8")), encoding="utf-8")
