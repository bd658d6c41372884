"""What callers of the scale-set service ask: the version of the API, and the fields of bodies."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.requests import Request

from slurm_gha.testing.github.scalesets.errors import COMMON, ServiceError, malformed

API_VERSION = "6.0-preview"


def check_version(request: Request) -> None:
    """The version of the API stands in the query or in Accept; acknowledging alone does without."""
    if request.method == "DELETE" and "/messages/" in request.url.path:
        return
    accepted = re.search(r"api-version=([^\s;,]+)", request.headers.get("accept", ""))
    given = request.query_params.get("api-version") or (accepted[1] if accepted else "")
    if given != API_VERSION:
        raise ServiceError(
            400, "VssVersionNotSpecifiedException", f"No api-version {API_VERSION} was supplied.", space=COMMON
        )


async def content(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise malformed("The body is no JSON.") from error


async def body(request: Request) -> dict[str, Any]:
    found = await content(request)
    if not isinstance(found, dict):
        raise malformed("The body is no JSON object.")
    return found


def text(asked: dict[str, Any], name: str) -> str | None:
    value = asked.get(name)
    if value is not None and not isinstance(value, str):
        raise malformed(f"{name} is a text.")
    return value


def number(asked: dict[str, Any], name: str) -> int | None:
    value = asked.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise malformed(f"{name} is a number.")
    return value


def labels(asked: dict[str, Any]) -> list[str] | None:
    value = asked.get("labels")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, dict) and each.get("name") for each in value):
        raise malformed("labels are a list of objects with a name.")
    return [str(each["name"]) for each in value]


def disable_update(asked: dict[str, Any]) -> bool | None:
    setting = asked.get("RunnerSetting", asked.get("runnerSetting"))
    if setting is not None and not isinstance(setting, dict):
        raise malformed("RunnerSetting is an object.")
    return None if setting is None else bool(setting.get("disableUpdate"))
