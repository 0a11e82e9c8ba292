"""A streamed answer on its way from the upstream to the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire.errors import AnswerTooLarge
from workernode.outcome import Answered, Refused
from workernode.prompts import prompt_count
from workernode.remote.chunk import Chunks
from workernode.remote.errors import Failure, after_first_token, failure_inside, interrupted, strange
from workernode.remote.sse import EventParser, EventTooLarge
from workernode.remote.usage import as_json, usage_of

if TYPE_CHECKING:
    import msgspec

    from wire.request import Request
    from wire.usage import Usage
    from workernode.engine import Answer, Job
    from workernode.remote.exchange import Exchange


@dataclass(frozen=True)
class StreamLimits:
    """What a stream may cost. ``between_tokens_s`` is the upstream's time alone, not the reader's."""

    between_tokens_s: float
    event_bytes_max: int
    answer_bytes_max: int


class StreamRelay:
    """Relays one stream: what one read brought is one write.

    The upstream's first chunk usually says only who speaks. It is held back until a token is there, so that until
    then the request can still be answered by someone else.
    """

    def __init__(
        self, job: Job, own: dict[str, msgspec.Raw], answer: Answer, limits: StreamLimits, *, key: str | None
    ) -> None:
        self._request = job.request
        self._answer = answer
        self._limits = limits
        self._key = key
        self._parser = EventParser(event_bytes_max=limits.event_bytes_max)
        self._choices = _choices_of(job.request)
        self._chunks = Chunks(own, usage_asked=job.request.usage_asked, key=key)
        self._held = b""
        self._bytes = 0
        self._shown = False

    async def run(self, exchange: Exchange) -> Answered:
        """Return when the answer is complete. Raises :class:`Failure` otherwise."""
        if exchange.media_type == "application/json":
            body = await exchange.read_all(bytes_max=self._limits.event_bytes_max)
            raise failure_inside(body, key=self._key)  # a provider that answers a stream so has an error to tell
        try:
            while await self._step(exchange):
                pass
        except Failure as failure:
            raise after_first_token(failure) if self._shown else failure from None
        await exchange.drain()
        return Answered(self._usage(), self._chunks.finish_reason)

    async def _step(self, exchange: Exchange) -> bool:
        """Pass on what one read brings. False when the answer is complete."""
        chunks = self._chunks
        said = chunks.text_chars
        data = await self._read(exchange)
        payloads = self._payloads(data)
        lines = chunks.take(payloads)
        over = chunks.done or not data
        if over and chunks.failure is None:
            if not self._complete():
                chunks.failure = interrupted() if self._shown else strange()
            elif self._request.usage_asked:
                lines += chunks.last(chunks.usage or as_json(self._usage()))
        if chunks.failure is not None and not self._shown:
            raise chunks.failure
        if lines:
            await self._pass_on(exchange, lines, text_chars=chunks.text_chars - said)
        elif payloads and self._shown:
            exchange.expect(self._limits.between_tokens_s)
        if chunks.failure is not None:
            raise chunks.failure
        return not over

    async def _read(self, exchange: Exchange) -> bytes:
        try:
            return await exchange.read()
        except Failure:
            if self._chunks.ended(self._choices):
                return b""  # the answer is complete: only its last formalities are missing
            if self._shown:
                raise interrupted() from None
            raise

    def _payloads(self, data: bytes) -> list[bytes]:
        try:
            return self._parser.feed(data) if data else self._parser.end()
        except EventTooLarge:
            raise Failure(Refused(AnswerTooLarge().body())) from None

    async def _pass_on(self, exchange: Exchange, lines: bytes, *, text_chars: int) -> None:
        self._bytes += len(lines)
        if self._bytes > self._limits.answer_bytes_max:
            raise Failure(Refused(AnswerTooLarge().body()))
        self._held += lines
        if not self._chunks.speaking:
            return
        lines, self._held = self._held, b""
        self._shown = True
        exchange.expect(None)  # how long the reader takes is no fault of the upstream
        await self._answer.write(lines, text_chars=text_chars)
        exchange.expect(self._limits.between_tokens_s)

    def _complete(self) -> bool:
        chunks = self._chunks
        return (chunks.done and chunks.speaking) or chunks.ended(self._choices)

    def _usage(self) -> Usage:
        return usage_of(self._chunks.usage, text_chars=self._chunks.text_chars, body=self._request.body)


def _choices_of(request: Request) -> int:
    """How many choices make a whole answer."""
    return (request.n or 1) * (prompt_count(request.body) if request.endpoint == "completions" else 1)
