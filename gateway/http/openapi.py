"""The OpenAPI document: FastAPI's own, with the plain ASGI endpoints and the errors added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi.openapi.utils import get_openapi
from msgspec import Meta

from gateway.endpoints import token_check
from gateway.endpoints.fields import MODEL_CHARS_MAX
from gateway.endpoints.table import ENDPOINTS
from gateway.endpoints.token_check import TokenCheckAnswer, TokenCheckRequest
from gateway.http.front import HEALTH_PATHS
from gateway.http.openapi_errors import BEHIND_KEY, ERROR, OF_A_BODY, OF_A_MODEL, OF_AN_ANSWER, OPEN, responses
from wire.request import CLIENT_ID_CHARS_MAX, HOPS_MAX

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gateway.endpoints.endpoint import Endpoint

_AS_NAME = str.maketrans("/:{}", "____")
_DESCRIPTION = "OpenAI's API for the models of a fleet. Every response has `x-request-id`, errors too."
_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "The model; its slashes may stand as they are",
    "schema": {"type": "string", "minLength": 1, "maxLength": MODEL_CHARS_MAX},
}
_TIMEOUT = {
    "name": "x-request-timeout-ms",
    "in": "header",
    "description": "Milliseconds until the request's deadline, where the gateway's own is later",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**12 - 1},
}
_CLIENT_REQUEST_ID = {
    "name": "x-client-request-id",
    "in": "header",
    "description": f"The client's own name for the request, for tracing; above {CLIENT_ID_CHARS_MAX} characters none",
    "schema": {"type": "string"},
}
_NODE = "[a-z0-9][a-z0-9-]{3,95}"
_VIA = {
    "name": "x-workernode-via",
    "in": "header",
    "description": "The nodes that the request came through, by commas, where the client is a node of another fleet",
    "schema": {"type": "string", "pattern": f"^{_NODE}(,{_NODE}){{0,{HOPS_MAX - 1}}}$"},
}
_HEADERS = [_TIMEOUT, _CLIENT_REQUEST_ID, _VIA]
_EVENTS = {"description": "The data of each event is a JSON chunk, or an error; that of the last is [DONE]"}
_COUNT = {"type": "integer", "minimum": 0}
_QUEUED = {
    "x-queue-position": {"description": "Its place in the queue when it came in, 0 with a free slot", "schema": _COUNT},
    "x-queue-eta-ms": {"description": "The wait that was expected then", "schema": _COUNT},
}
_REQUEST_ID = {"x-request-id": {"schema": {"type": "string"}, "required": True}}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=_DESCRIPTION)
    paths, schemas = made["paths"], made["components"]["schemas"]
    for path, item in paths.items():
        item["get"]["responses"].pop("422", None)  # FastAPI's own
        errors = OPEN if path in HEALTH_PATHS else OF_A_MODEL if "{model}" in path else BEHIND_KEY
        item["get"]["responses"] = responses(errors) | item["get"]["responses"]
        if path in HEALTH_PATHS:
            item["get"]["security"] = []
    paths["/v1/models/{model}"]["get"]["parameters"] = [_MODEL]
    del schemas["HTTPValidationError"], schemas["ValidationError"]
    places = [(endpoint, path) for endpoint in ENDPOINTS for path in endpoint.paths]
    (*bodies, check, checked), parts = msgspec.json.schema_components(
        [
            *(Annotated[each.paths[path], Meta(extra_json_schema=each.rules)] for each, path in places),
            TokenCheckRequest,
            TokenCheckAnswer,
        ],
        ref_template="#/components/schemas/{name}",
    )
    schemas.update(parts, Error=ERROR)
    for (endpoint, path), body in zip(places, bodies, strict=True):
        paths[path.replace(":path", "")] = {"post": _operation(endpoint, body, path)}
    paths[token_check.PATH] = {"post": _token_check(check, checked)}
    for item in paths.values():
        for operation in item.values():
            for response in operation["responses"].values():
                response["headers"] = _REQUEST_ID | response.get("headers", {})
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    app.openapi_schema = made
    return made


def _operation(endpoint: Endpoint, body: dict[str, Any], path: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    text = "The answer"
    if endpoint.streams:
        content["text/event-stream"] = {"schema": _EVENTS}
        text += ", or with stream=true server-sent events that end with [DONE]"
    return {
        "tags": [endpoint.name],
        "summary": endpoint.summary,
        "operationId": "create" + path.translate(_AS_NAME).rstrip("_"),
        "parameters": [_MODEL, *_HEADERS] if "{model:path}" in path else _HEADERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": text, "headers": _QUEUED, "content": content},
            **responses(OF_AN_ANSWER),
        },
    }


def _token_check(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    told = {"description": "The answer", "content": {"application/json": {"schema": answer}}}
    return {
        "tags": ["token_check"],
        "summary": token_check.SUMMARY,
        "description": "Counted by a node of the model, as its tokenizer does it; where none can or does in time, "
        "estimated by length, and `estimated` says so. `fits` and `contextLength` are null where the context length "
        "is not known.",
        "operationId": "check_tokens",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": told, **responses(OF_A_BODY)},
    }
