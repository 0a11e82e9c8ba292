"""What a schema cannot say of a valid request, made so before it is sent: read by schemathesis, not by pytest."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import schemathesis

WAIT_MS_MIN = 60_000
TIMEOUT = "x-request-timeout-ms"
DIMENSIONS_MAX = 256
"""Of the static node's vectors."""
PLACES = itertools.count()


@schemathesis.hook
def before_call(_: Any, case: Any, __: dict[str, Any]) -> None:
    """What is meant to be wrong goes as it is. Each comes from elsewhere, or wrong keys would soon have to wait."""
    case.headers["x-forwarded-for"] = "10.{}.{}.{}".format(*next(PLACES).to_bytes(3, "big"))
    if (case.headers or {}).get(TIMEOUT, "").isdigit() and int(case.headers[TIMEOUT]) > 0:
        case.headers[TIMEOUT] = str(
            max(int(case.headers[TIMEOUT]), WAIT_MS_MIN)
        )  # a 504 would be right, and say nothing
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.operation.path.startswith("/v1/engines/"):
        case.path_parameters["model"] = "static"  # rather than a 404 each time
    if "request_id" in (case.path_parameters or {}):
        case.path_parameters["request_id"] = os.environ["REQUEST_ID"]
    if case.query:
        case.query.pop("cursor", None)  # only an answer can make one
        if "by" in case.query:
            case.query.update(since="2026-03-01", until="2026-03-07")  # some sums are told for few days only
    if isinstance(case.body, dict) and case.body.get("action") == "cancel":
        case.body["action"] = "discard"  # else each waits for the end of a request that nobody has
    if isinstance(case.body, dict):
        case.body = _with_public_addresses(_with_whole_numbers(case.body))
        case.body.pop("best_of", None)  # to be measured against n
        if case.body.get("dimensions"):
            case.body["dimensions"] = min(case.body["dimensions"], DIMENSIONS_MAX)


def _with_whole_numbers(body: dict[str, Any]) -> Any:
    # To JSON Schema 1.0 is an integer, to readers of JSON with types it is not.
    def number(text: str) -> float | int:
        value = float(text)
        return int(value) if value.is_integer() else value

    return json.loads(json.dumps(body), parse_float=number)


def _with_public_addresses(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_public_addresses(each) for each in value]
    if isinstance(value, dict):
        return {
            name: {**each, "url": "https://example.com/a"}
            if name.endswith("_url") and isinstance(each, dict)
            else _with_public_addresses(each)
            for name, each in value.items()
        }
    return value
