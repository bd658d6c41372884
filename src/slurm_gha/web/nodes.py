"""The routes that compute nodes speak to: claim and report. See docs/developers/node-protocol.md."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from slurm_gha.controller.desk import Claimed, ClaimRefused, DemandGone, TryLater
from slurm_gha.domain.secret import Secret
from slurm_gha.web.bodies import BadRequest, plain, read_body

LONGEST_BODY = 4096
"""Bytes of a form; what a node has to say fits into a few hundred."""
BODY_SECONDS = 10.0
LONGEST_DETAIL = 300
_FIELDS = 16

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")
_SLURM_ID = re.compile(r"[0-9]{1,10}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_EVENT = re.compile(r"[a-z][a-z_]{0,31}")
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class Desk(Protocol):
    """What decides on claims and takes reports."""

    async def claim(self, name: str, secret: Secret, slurm_id: int, node: str) -> Claimed:
        """The configuration; raises DemandGone, ClaimRefused or TryLater."""
        ...

    async def report(self, name: str, token: Secret, event: str, at: float, detail: str) -> None:
        """Take a node's word, at its own time ``at`` (seconds since the epoch); raises ClaimRefused."""
        ...


class NodeRoutes:
    """The handlers of both routes, over one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def claim(self, request: Request) -> Response:
        """200 with the configuration, 410 demand gone, 403 refused, 503 try again after Retry-After seconds."""
        try:
            name, secret = _name(request), _bearer(request)
            form = await _form(request)
            slurm_id = int(_field(form, "slurm_job_id", _SLURM_ID))
            claimed = await self._desk.claim(name, secret, slurm_id, _field(form, "node", _NODE))
        except BadRequest as error:
            return plain(error.status, str(error))
        except DemandGone:
            return plain(410, "nobody needs this runner any more")
        except ClaimRefused:
            return plain(403, "refused")
        except TryLater as error:
            return plain(503, "not now", {"retry-after": str(max(1, math.ceil(error.seconds)))})
        return plain(200, claimed.config.reveal(), {"x-report-token": claimed.report_token.reveal()})

    async def report(self, request: Request) -> Response:
        """204, or 403 refused."""
        try:
            name, token = _name(request), _bearer(request)
            form = await _form(request)
            event = _field(form, "event", _EVENT)
            at = float(_field(form, "at", _TIME))
            await self._desk.report(name, token, event, at, _clean(form.get("detail", "")))
        except BadRequest as error:
            return plain(error.status, str(error))
        except (ClaimRefused, DemandGone):
            return plain(403, "refused")
        except TryLater as error:
            return plain(503, "not now", {"retry-after": str(max(1, math.ceil(error.seconds)))})
        return Response(status_code=204, headers={"cache-control": "no-store"})


def _name(request: Request) -> str:
    name = str(request.path_params["name"])
    if _NAME.fullmatch(name) is None:
        raise BadRequest("the runner's name must be 1 to 64 small letters, digits and hyphens")
    return name


def _bearer(request: Request) -> Secret:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or _TOKEN.fullmatch(token) is None:
        raise BadRequest("the header Authorization: Bearer is missing or malformed", 401)
    return Secret(token)


async def _form(request: Request) -> dict[str, str]:
    """The form of the body, read within bounds of size and time."""
    body = await read_body(request, most=LONGEST_BODY, seconds=BODY_SECONDS)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_FIELDS, errors="strict"
        )
    except ValueError:
        raise BadRequest("the body is not a URL-encoded form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadRequest("a field is given twice")
    return form


def _field(form: Mapping[str, str], key: str, pattern: re.Pattern[str]) -> str:
    value = form.get(key)
    if value is None:
        raise BadRequest(f"the field {key} is missing")
    if pattern.fullmatch(value) is None:
        raise BadRequest(f"the field {key} is malformed")
    return value


def _clean(text: str) -> str:
    """Foreign text on one line of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text)[:LONGEST_DETAIL].strip()
