"""The span of a request, from its first byte to the last of its response. Only requests with a good key have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from process import genai
from process.span_names import METHOD, PATH, REQUEST_ID, STATUS
from wire.errors import FleetError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Scope

    from gateway.endpoints.endpoint import Endpoint
    from process.otel import Span, Traces
    from wire.request import Request


async def traced(traces: Traces, endpoint: Endpoint, scope: Scope, answering: Awaitable[None]) -> None:
    """Answer with a ``scope["state"]["span"]``: below the client's own span, if it names one."""
    parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
    path = next(iter(endpoint.paths))
    attributes: genai.Attributes = {
        genai.OPERATION: genai.OPERATIONS[endpoint.name],
        METHOD: "POST",
        PATH: path,
        REQUEST_ID: scope["state"]["request_id"],
    }
    span = traces.begin(f"POST {path}", "server", parent, attributes)
    scope["state"]["span"] = span
    try:
        await answering
    except FleetError as error:
        span.note({STATUS: error.http_status})
        span.fail(error.own_code)
        raise
    except BaseException as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()


def admitted(span: Span, request: Request) -> None:
    """The request may wait for its answer; its model is one of ours."""
    span.rename(f"{genai.OPERATIONS[request.endpoint]} {request.model}")
    span.note(genai.asked(request))
    span.step("admitted")
