"""A collector that takes traces as OTLP over HTTP and keeps their spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


@dataclass(frozen=True)
class Heard:
    """One span as it arrived; ids in hexadecimal."""

    service: str
    name: str
    kind: int
    trace_id: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, Any]
    steps: list[str]
    """The names of its events, in order."""

    @classmethod
    def of(cls, span: Span, service: str) -> Heard:
        """From its words on the wire."""
        return cls(
            service,
            span.name,
            span.kind,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.status.code == span.status.STATUS_CODE_ERROR,
            {each.key: _value(each.value) for each in span.attributes},
            [event.name for event in span.events],
        )


class OtlpReceiver:
    """``async with OtlpReceiver() as collector: … collector.url … collector.spans``."""

    def __init__(self) -> None:
        self.spans: list[Heard] = []
        self.bytes = b""
        """All that came, as it was on the wire."""
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> OtlpReceiver:
        app = web.Application()
        app.add_routes([web.post(PATH, self._take)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def of(self, service: str) -> list[Heard]:
        """The spans of a role."""
        return [span for span in self.spans if span.service == f"workernode-{service}"]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bytes += body
        for batch in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {each.key: _value(each.value) for each in batch.resource.attributes}
            for scope in batch.scope_spans:
                self.spans += [Heard.of(span, resource["service.name"]) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
