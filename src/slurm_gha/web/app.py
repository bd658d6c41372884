"""The service's HTTP application: claims and reports of nodes, webhooks, health, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from slurm_gha.web.health import Health
from slurm_gha.web.nodes import Desk, NodeRoutes
from slurm_gha.web.webhooks import DeliveryDesk, WebhookRoutes

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the Prometheus text format."""

Handler = Callable[[Request], Awaitable[Response]]
OnError = Callable[[str, Exception], None]


def create_app(
    desk: Desk,
    health: Callable[[], Health],
    metrics: Callable[[], bytes],
    on_error: OnError = lambda where, error: None,
    *,
    deliveries: DeliveryDesk | None = None,
) -> Starlette:
    """The application. ``deliveries`` takes what GitHub's webhooks send; without it there is no such route.

    ``on_error`` is told of every unexpected error, as (route, error); the caller gets a bare 500.
    """
    nodes = NodeRoutes(desk)

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        problems = health().problems()
        if problems:
            return PlainTextResponse("not ready\n" + "".join(f"{line}\n" for line in problems), 503)
        return PlainTextResponse("ready\n")

    async def measured(_request: Request) -> Response:
        return Response(metrics(), media_type=METRICS_TYPE)

    routes: list[tuple[str, str, Handler]] = [
        ("POST", "/v1/runners/{name}/claim", nodes.claim),
        ("POST", "/v1/runners/{name}/report", nodes.report),
        ("GET", "/healthz", healthz),
        ("GET", "/readyz", readyz),
        ("GET", "/metrics", measured),
    ]
    if deliveries is not None:
        routes.append(("POST", "/v1/webhooks/{scope}", WebhookRoutes(deliveries).deliver))
    return Starlette(
        routes=[
            Route(path, _guarded(f"{method} {path}", handler, on_error), methods=[method])
            for method, path, handler in routes
        ]
    )


def _guarded(where: str, handler: Handler, on_error: OnError) -> Handler:
    """The edge at which an error that nobody foresaw becomes an event, and a 500 that tells nothing."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - the edge of the loop
            on_error(where, error)
            return PlainTextResponse("internal error\n", 500)

    return guarded
