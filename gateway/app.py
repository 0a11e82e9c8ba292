"""The HTTP application: routes, health, metrics, and the documentation of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 (FastAPI reads annotations when a route is made)
from starlette.routing import Route

from gateway.endpoints import token_check
from gateway.endpoints.table import ENDPOINTS
from gateway.http.errors import error_headers
from gateway.http.front import Front, http_error
from gateway.http.model_list import listed, shown
from gateway.http.openapi import document
from gateway.http.schemas import Model, ModelList, Ready
from gateway.page import routes as page
from gateway.reception import Window
from process import __version__
from process.http import NO_SPANS
from process.http_errors import error_json
from wire.errors import FleetError, InvalidRequest, ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp

    from gateway.http.cors import Cors
    from gateway.keys.api_keys import ApiKeys
    from gateway.keys.quota import Quota
    from gateway.metrics import GatewayMetrics
    from gateway.models.names import ModelNames
    from gateway.models.register import Models
    from gateway.reception import Reception
    from gateway.token_counter import TokenCounter


def build(
    reception: Reception,
    counter: TokenCounter,
    names: ModelNames,
    models: Models,
    keys: ApiKeys,
    metrics: GatewayMetrics,
    figures: Callable[[], Awaitable[bytes]],
    ready: Callable[[], str | None],
    quota: Quota | None = None,
    cors: Cors | None = None,
    *,
    is_local: bool = False,
) -> ASGIApp:
    """The whole application. ``ready`` returns why the gateway is not ready, or None; ``figures`` is for Prometheus,
    ``is_local`` for the front door."""
    app = FastAPI(
        title="WorkerNode gateway",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        telemetry=NO_SPANS,
    )
    windows = {path: Window(reception, endpoint) for endpoint in ENDPOINTS for path in endpoint.paths}
    app.router.routes.extend(Route(path, window, methods=["POST"]) for path, window in windows.items())
    app.openapi = lambda: document(app)  # type: ignore[method-assign]

    app.router.routes.append(Route(token_check.PATH, counter, methods=["POST"]))
    app.router.routes.extend(page.routes())

    @app.get("/v1/models", response_model=ModelList, tags=["models"], summary="The models there are")
    async def list_models(request: Request) -> ModelList:
        sees = request.state.visit.sees
        return ModelList(data=[each for each in listed(models, names) if sees(each.id, names.resolve(each.id))])

    @app.get("/v1/models/{model:path}", response_model=Model, tags=["models"], summary="One model")
    async def get_model(model: str, request: Request) -> Model:
        if not request.state.visit.sees(model, names.aliases.get(model, model)):
            raise ModelNotFound(param="model")
        return shown(model, models, names)

    @app.get("/livez", tags=["health"], summary="The process runs")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    not_yet: dict[int | str, dict[str, Any]] = {503: {"model": Ready, "description": "They cannot: `why` tells"}}

    @app.get(
        "/readyz", response_model=Ready, responses=not_yet, tags=["health"], summary="Whether requests can be taken"
    )
    async def readyz() -> JSONResponse:
        why = ready()
        body = Ready(ready=why is None, why=why, models=len(models.names), nodes=models.node_count)
        return JSONResponse(body.model_dump(exclude_none=True), status_code=200 if why is None else 503)

    @app.get("/metrics", tags=["health"], summary="Figures for Prometheus", response_class=PlainTextResponse)
    async def counted() -> Response:
        return Response(await figures(), media_type=CONTENT_TYPE_LATEST)

    def refused(error: FleetError) -> Response:
        metrics.refuse(error.http_status, error.own_code)
        return _rendered(error)

    @app.exception_handler(HTTPException)
    async def routing_error(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})  # `allow` beside a 405
        response = refused(http_error(error.status_code, request.url.path, headers.get("Allow")))
        response.headers.update(headers)
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        where = ".".join(str(part) for part in error.errors()[0]["loc"][1:])
        return refused(InvalidRequest("A parameter of this address is not valid.", param=where or None))

    @app.exception_handler(FleetError)
    async def ours(_: Request, error: FleetError) -> Response:
        return refused(error)

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> Response:
        # Starlette sends this and raises the exception once more, for the front door to log it.
        return refused(FleetError())

    return Front(app, windows, keys, metrics, quota, cors, is_local=is_local, leaving=lambda: reception.leaving)


def _rendered(error: FleetError) -> Response:
    body = error.body()
    response = Response(error_json(body), status_code=error.http_status)
    response.raw_headers[:0] = error_headers(body)
    return response
