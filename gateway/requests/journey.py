"""What a request comes through at its gateway: counted and timed for figures, and told to its span if it has one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from process import genai
from process.metrics import count_tokens
from process.span_names import ATTEMPT_ID, NODE, OUTCOME

if TYPE_CHECKING:
    from gateway.metrics import GatewayMetrics
    from gateway.requests.decisions import Complete, State
    from process.otel import Span
    from wire.errors import ErrorBody
    from wire.usage import Usage


class Journey:
    """Of one request, from its acceptance on."""

    def __init__(self, metrics: GatewayMetrics, *, stream: bool, span: Span | None = None) -> None:
        self._metrics = metrics
        self._span = span
        self._loop = asyncio.get_running_loop()
        self._accepted_at = self._loop.time()
        self._end_accepted_at: float | None = None
        self._holder: tuple[str, str] | None = None
        self._was_held = False
        self._awaits_part = stream

    @property
    def trace_id(self) -> str | None:
        """For log lines."""
        return None if self._span is None else self._span.trace_id

    def held(self, holder: tuple[str, str] | None) -> None:
        """This attempt and node have it now."""
        if holder == self._holder:
            return
        self._holder = holder
        if holder is None:
            return
        if not self._was_held:
            self._was_held = True
            self._metrics.queue.observe(self._loop.time() - self._accepted_at)
        if self._span is not None:
            self._span.step("begun", {ATTEMPT_ID: holder[0], NODE: holder[1]})

    def shown(self) -> None:
        """A part of an answer came."""
        if self._awaits_part:
            self._awaits_part = False
            self._metrics.first_token.observe(self._loop.time() - self._accepted_at)
            if self._span is not None:
                self._span.step("first_part")

    def end_accepted(self, usage: Usage) -> None:
        """An end was accepted, which is charged."""
        self._end_accepted_at = self._loop.time()
        count_tokens(self._metrics.tokens, usage)

    def settled(self) -> None:
        """The charge is stored."""
        if self._end_accepted_at is not None:
            self._metrics.settle.observe(self._loop.time() - self._end_accepted_at)
            self._end_accepted_at = None

    def answered(self, answer: Complete) -> None:
        """The client has its answer."""
        self._ended("answered")
        if self._span is not None:
            self._span.note(genai.answered(answer.usage, answer.finish_reason))

    def cancelled(self, error: ErrorBody | None) -> None:
        """The client has gone; or an operator wants no answer, and the client gets this error."""
        self._ended("cancelled")
        if error is not None:
            self._told(error)

    def failed(self, outcome: State, error: ErrorBody) -> None:
        """The client gets an error."""
        self._ended(outcome)
        self._told(error)

    def _told(self, error: ErrorBody) -> None:
        self._metrics.error(error.code)
        if self._span is not None:
            self._span.fail(error.code)

    def _ended(self, outcome: State) -> None:
        self._metrics.requests[outcome].inc()
        if self._span is not None:
            self._span.step("ended")
            self._span.note({OUTCOME: outcome})
