"""The span of an attempt, from its delivery to what becomes of that; and of each call to an upstream, below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from process import genai
from process.span_names import ATTEMPT_ID, METHOD, NODE, NUMBER, OUTCOME, REQUEST_ID, SERVER, STATUS
from workernode.outcome import Later, Refused

if TYPE_CHECKING:
    from process.otel import Span, Traces
    from wire.request import Request
    from wire.usage import Usage
    from workernode.attempt import Attempt


def attempt_span(traces: Traces, request: Request, attempt_id: str, node: str) -> Span:
    """Below the span of the gateway, however often the request is delivered."""
    attributes: genai.Attributes = {
        REQUEST_ID: request.request_id,
        ATTEMPT_ID: attempt_id,
        NODE: node,
        "messaging.system": "pulsar",
        "messaging.operation.type": "process",
    }
    return traces.begin(f"process {request.model}", "consumer", request.traceparent, attributes)


def end_attempt(span: Span, attempt: Attempt) -> None:
    """It is settled, or its node is killed in the middle of it."""
    outcome = attempt.outcome
    span.note({NUMBER: attempt.number, OUTCOME: type(outcome).__name__.lower() if outcome else "none"})
    if isinstance(outcome, Refused | Later):
        span.fail(outcome.error.code)
    span.end()


class UpstreamCall:
    """The span of one call, of which the provider hears, so that it may go on with the trace."""

    def __init__(self, attempt: Span, request: Request, *, model: str, host: str) -> None:
        attributes = genai.asked(request) | {
            genai.REQUEST_MODEL: model,
            genai.PROVIDER: genai.provider_at(host),
            SERVER: host,
            METHOD: "POST",
        }
        self._span = attempt.child(f"{genai.OPERATIONS[request.endpoint]} {model}", "client", attributes)
        self.headers = {"traceparent": self._span.traceparent}
        """What the provider is told."""

    def status(self, status: int) -> None:
        """The head of an answer is here."""
        self._span.note({STATUS: status})

    def answered(self, usage: Usage, finish_reason: str | None) -> None:
        """The answer is whole."""
        self._span.note(genai.answered(usage, finish_reason))

    def end(self, error: str | None) -> None:
        """It is over, with this error or none."""
        if error is not None:
            self._span.fail(error)
        self._span.end()
