"""Which errors an operation may answer with, for the OpenAPI document: each status and what it means here."""

from __future__ import annotations

from typing import Any

ERROR: dict[str, Any] = {
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

OPEN = {
    400: "The request is wrong: `param` names the field or header, if one is at fault",
    431: "The address and the headers are too large",
    500: "A fault of ours",
}
BEHIND_KEY = OPEN | {
    401: "There is no API key, or not a valid one",
    403: "No API key is asked for, so pages of other names than this machine's are not answered",
    503: "Not at the moment: `code` tells what is away, and `retry-after` when to come again",
}
OF_A_MODEL = BEHIND_KEY | {404: "There is no such model here, or it does not serve this endpoint"}
OF_A_BODY = OF_A_MODEL | {
    403: "This API key may not use that model; or none is asked for, and a page of another site asks",
    408: "The body took too long to arrive",
    413: "The body is too large",
    415: "The body is not JSON, or is compressed",
}
OF_AN_ANSWER = OF_A_BODY | {
    410: "An operator cancelled the request",
    422: "The provider of the model refused the request",
    429: "A limit of this API key, or a budget, is reached",
    502: "The provider of the model failed, or broke off",
    504: "The request's deadline passed",
}


def responses(errors: dict[int, str]) -> dict[str, Any]:
    """As an operation lists them."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": errors[status], "content": content} for status in sorted(errors)}
