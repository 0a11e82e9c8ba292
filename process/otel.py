"""OpenTelemetry's SDK behind the few things that our spans need. Loaded only where traces are wanted."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Literal

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from process import __version__
from process.logging import Log
from process.settings import WrongSettings
from process.span_names import ERROR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span as SdkSpan
    from opentelemetry.trace import Tracer

    from process.genai import Attributes

Kind = Literal["server", "consumer", "client"]

log = Log("process")

CLOSE_WAIT_S = 2.0
"""What the last spans may take at the end. A collector that is away costs its spans, and no more time than this."""
_KINDS = {"server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER, "client": SpanKind.CLIENT}
_propagator = TraceContextTextMapPropagator()


class Traces:
    """Begins spans, and sends what has ended to the collector from a thread of its own, in batches.

    What a batch waits for is bounded by the SDK (``OTEL_BSP_MAX_QUEUE_SIZE``); beyond it spans are dropped, and
    nothing else ever waits. The rest of ``OTEL_*`` (headers, sampler, resource) is the SDK's to read.
    """

    def __init__(self, url: str, role: str, instance: str) -> None:
        """Raises :class:`process.settings.WrongSettings` for those that the SDK does not take."""
        own = {"service.name": f"workernode-{role}", "service.version": __version__, "service.instance.id": instance}
        resource = Resource(own).merge(OTELResourceDetector().detect())
        _check_headers()
        try:
            self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(_Exporter(OTLPSpanExporter(endpoint=url))))
        except ValueError as error:
            raise WrongSettings(
                [f"OTEL_BSP_…, OTEL_EXPORTER_OTLP_… or OTEL_…_LIMIT: {str(error).rstrip('.')}."]
            ) from None
        self._tracer = self._provider.get_tracer("workernode", __version__)

    def begin(self, name: str, kind: Kind, parent: str | None, attributes: Attributes) -> Span:
        """A span below the one that ``parent``, a ``traceparent``, names; garbage and None begin a new trace."""
        context = _propagator.extract({"traceparent": parent}) if parent else None
        return _begun(self._tracer, name, kind, context, attributes)

    async def aclose(self) -> None:
        """Send what has ended, as far as that goes in time."""
        # A thread that neither the loop nor the interpreter waits for: it may be in the middle of a slow call.
        closed, loop = asyncio.Event(), asyncio.get_running_loop()

        def close() -> None:
            self._provider.shutdown()
            try:
                loop.call_soon_threadsafe(closed.set)
            except RuntimeError:
                return  # nobody waits any more

        threading.Thread(target=close, name="close traces", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await closed.wait()
        except TimeoutError:
            pass


class Span:
    """One span. What is told of it after its end does nothing."""

    def __init__(self, span: SdkSpan, tracer: Tracer) -> None:
        self._span = span
        self._tracer = tracer

    @property
    def traceparent(self) -> str:
        """What names it to others."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, set_span_in_context(self._span))
        return carrier["traceparent"]

    @property
    def trace_id(self) -> str:
        """What log lines call its trace."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def child(self, name: str, kind: Kind, attributes: Attributes) -> Span:
        """A span below this one."""
        return _begun(self._tracer, name, kind, set_span_in_context(self._span), attributes)

    def rename(self, name: str) -> None:
        """It is known better now what it is about."""
        self._span.update_name(name)

    def step(self, name: str, attributes: Attributes | None = None) -> None:
        """Something happened, just now."""
        self._span.add_event(name, attributes)

    def note(self, attributes: Attributes) -> None:
        """Something is known of it."""
        self._span.set_attributes(attributes)

    def fail(self, code: str) -> None:
        """It ends with this error. Its words are told nowhere: they may be a provider's."""
        self._span.set_attribute(ERROR, code)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """It is over."""
        self._span.end()


class _Exporter(SpanExporter):
    """Says once that the collector is away, and once that it is back."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._works = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        works = result is SpanExportResult.SUCCESS
        if self._works and not works:
            log.warning("Traces are lost: the collector does not take them.", action="traces_lost")
        elif works and not self._works:
            log.info("The collector takes traces again.", action="traces_recovered")
        self._works = works
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _check_headers() -> None:
    for name in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        parts = [part for part in os.environ.get(name, "").split(",") if part.strip()]
        if not all(part.partition("=")[1] and part.partition("=")[0].strip() for part in parts):
            raise WrongSettings([f"{name}: it is not written as name=value, with commas between several."])


def _begun(tracer: Tracer, name: str, kind: Kind, context: Context | None, attributes: Attributes) -> Span:
    return Span(tracer.start_span(name, context, _KINDS[kind], attributes), tracer)
