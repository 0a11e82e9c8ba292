"""The OpenAPI document: FastAPI's own, with the plain ASGI endpoints and the error shape added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.openapi.utils import get_openapi

from gateway.endpoints import token_check
from gateway.endpoints.table import ENDPOINTS
from gateway.endpoints.token_check import TokenCheckAnswer, TokenCheckRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

    from gateway.endpoints.endpoint import Endpoint

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

_AS_NAME = str.maketrans("/:{}", "____")


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=__doc__.split("\n", 1)[0])
    (*bodies, check, checked), parts = msgspec.json.schema_components(
        [*(endpoint.schema for endpoint in ENDPOINTS), TokenCheckRequest, TokenCheckAnswer],
        ref_template="#/components/schemas/{name}",
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(parts)
    schemas["Error"] = _ERROR
    error = {
        "description": "An error in OpenAI's shape",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for endpoint, body in zip(ENDPOINTS, bodies, strict=True):
        for path in endpoint.paths:
            made["paths"][path.replace(":path", "")] = {"post": _operation(endpoint, body, path)}
    made["paths"][token_check.PATH] = {"post": _token_check(check, checked)}
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = error
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    app.openapi_schema = made
    return made


def _operation(endpoint: Endpoint, body: dict[str, Any], path: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    text = "The answer"
    if endpoint.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
        text += ", or with stream=true server-sent events that end with [DONE]"
    operation: dict[str, Any] = {
        "tags": [endpoint.name],
        "summary": endpoint.summary,
        "operationId": "create" + path.translate(_AS_NAME).rstrip("_"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": text, "content": content}},
    }
    if "{model:path}" in path:
        model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        operation["parameters"] = [{**model, "description": "The model; its slashes may stand as they are"}]
    return operation


def _token_check(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": ["token_check"],
        "summary": token_check.SUMMARY,
        "description": "Counted by length, not by the model's tokenizer: `estimated` says so. `fits` and "
        "`contextLength` are null where the context length is not known.",
        "operationId": "check_tokens",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": {"description": "The answer", "content": {"application/json": {"schema": answer}}}},
    }
