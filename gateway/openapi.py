"""The OpenAPI document: FastAPI's own, with the plain ASGI endpoints and the error shape added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.openapi.utils import get_openapi

from gateway.chat import ChatRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

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


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=__doc__.split("\n", 1)[0])
    (chat,), parts = msgspec.json.schema_components([ChatRequest], ref_template="#/components/schemas/{name}")
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(parts)
    schemas["Error"] = _ERROR
    error = {
        "description": "An error in OpenAI's shape",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    made["paths"]["/v1/chat/completions"] = {
        "post": {
            "tags": ["chat"],
            "summary": "Answer a conversation, whole or as a stream",
            "operationId": "create_chat_completion",
            "requestBody": {"required": True, "content": {"application/json": {"schema": chat}}},
            "responses": {
                "200": {
                    "description": "A completion, or with stream=true server-sent events that end with [DONE]",
                    "content": {
                        "application/json": {"schema": {"type": "object"}},
                        "text/event-stream": {"schema": {"type": "string"}},
                    },
                },
            },
        }
    }
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = error
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"key": []}]
    app.openapi_schema = made
    return made
