"""The HTTP application: routes, health, metrics, and the documentation of all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from gateway.errors import error_headers, error_json
from gateway.front import Front, http_error
from gateway.openapi import document
from gateway.schemas import Model, ModelList, Ready
from process import __version__
from wire.errors import FleetError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from gateway.conversations import Conversations
    from gateway.keys import ApiKeys
    from gateway.metrics import GatewayMetrics
    from gateway.models import Models, ModelView
    from gateway.reception import ChatCompletions


def build(
    chat: ChatCompletions,
    models: Models,
    conversations: Conversations,
    keys: ApiKeys,
    metrics: GatewayMetrics,
    ready: Callable[[], str | None],
) -> ASGIApp:
    """The whole application. ``ready`` returns why the gateway is not ready, or None."""
    app = FastAPI(
        title="WorkerNode gateway",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.router.routes.append(Route("/v1/chat/completions", chat, methods=["POST"]))
    app.openapi = lambda: document(app)  # type: ignore[method-assign]

    @app.get("/v1/models", response_model=ModelList, tags=["models"], summary="The models there are")
    async def list_models() -> ModelList:
        return ModelList(data=[_model(view) for view in models.views()])

    @app.get("/v1/models/{model:path}", response_model=Model, tags=["models"], summary="One model")
    async def get_model(model: str) -> Model:
        return _model(models.view(model))

    @app.get("/livez", tags=["health"], summary="The process runs")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", response_model=Ready, tags=["health"], summary="Requests can be taken")
    async def readyz() -> JSONResponse:
        why = ready()
        body = Ready(ready=why is None, why=why, models=len(models.names), nodes=models.node_count)
        return JSONResponse(body.model_dump(exclude_none=True), status_code=200 if why is None else 503)

    @app.get("/metrics", tags=["health"], summary="Figures for Prometheus", response_class=Response)
    async def figures() -> Response:
        metrics.open.set(conversations.open_count)
        metrics.owned.set(len(conversations))
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def refused(error: FleetError) -> Response:
        metrics.refuse(error.http_status)
        return _rendered(error)

    @app.exception_handler(HTTPException)
    async def routing_error(_: Request, error: HTTPException) -> Response:
        response = refused(http_error(error.status_code))
        response.headers.update(error.headers or {})  # `allow` beside a 405
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

    return Front(app, keys, metrics)


def _rendered(error: FleetError) -> Response:
    body = error.body()
    response = Response(error_json(body), status_code=error.http_status)
    response.raw_headers[:0] = error_headers(body)
    return response


def _model(view: ModelView) -> Model:
    state: dict[str, Any] = {
        "state": view.state,
        "nodes": view.nodes,
        "ready_nodes": view.ready,
        "slots": view.slots,
        "busy": view.busy,
        "sentence": view.sentence,
        "context_length": view.context_length,
    }
    return Model(id=view.name, created=view.created_s, workernode=state)
