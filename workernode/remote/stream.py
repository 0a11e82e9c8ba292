"""A streamed answer on its way from the upstream to the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wire.errors import AnswerTooLarge
from wire.usage import Usage
from workernode.outcome import Answered, Refused
from workernode.remote.errors import Failure, after_first_token, empty, interrupted, is_strange, strange
from workernode.remote.sse import EventParser, EventTooLarge
from workernode.remote.usage import as_json, counted
from workernode.remote.whole import as_chunks

if TYPE_CHECKING:
    from workernode.engine import Answer
    from workernode.remote.chunk import Chunks
    from workernode.remote.exchange import Exchange
    from workernode.remote.tokens import TokenCounter


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
        self,
        chunks: Chunks,
        answer: Answer,
        limits: StreamLimits,
        *,
        choices: int,
        usage_last: bool,
        body: bytes,
        counter: TokenCounter,
    ) -> None:
        """The answer to ``body`` has so many ``choices``, and ends with its usage if ``usage_last``."""
        self._chunks = chunks
        self._answer = answer
        self._limits = limits
        self._choices = choices
        self._usage_last = usage_last
        self._body = body
        self._counter = counter
        self._parser = EventParser(event_bytes_max=limits.event_bytes_max)
        self._held = b""
        self._bytes = 0
        self._shown = False
        self._usage = Usage()

    async def run(self, exchange: Exchange) -> Answered:
        """Return when the answer is complete. Raises :class:`Failure` otherwise."""
        try:
            data = await self._beginning(exchange)
            if data.startswith(b"{"):  # no event, whatever the content type says
                # A provider that answers a stream as a whole has an error to tell, or knows no streams.
                body = data + await exchange.read_all(bytes_max=self._limits.answer_bytes_max)
                await self._take(exchange, as_chunks(body), over=True)
            else:
                while await self._take(exchange, self._payloads(data), over=not data):
                    data = await self._read(exchange)
        except Failure as failure:
            raise after_first_token(failure) if self._shown else failure from None
        await exchange.drain()
        return Answered(self._usage, self._chunks.finish_reason)

    async def _beginning(self, exchange: Exchange) -> bytes:
        """What the first read brings that is more than white space; nothing at the end of the answer."""
        while (data := await self._read(exchange)).isspace():
            pass
        return data.lstrip()

    async def _take(self, exchange: Exchange, payloads: list[bytes], *, over: bool) -> bool:
        """Pass on what one read brings. False when the answer is complete."""
        chunks = self._chunks
        said = chunks.text_chars
        lines = chunks.take(payloads)
        if over and chunks.failure is not None and is_strange(chunks.failure):
            chunks.failure = None  # the end has cut an event off: the answer was whole before it, or broke off there
        over = over or chunks.done
        if over and chunks.failure is None:
            if self._complete():
                lines += await self._ending()
            else:
                chunks.failure = self._unfinished()
        if chunks.failure is not None and not self._shown:
            raise chunks.failure
        if lines:
            await self._pass_on(exchange, lines, text_chars=chunks.text_chars - said)
        elif payloads and self._shown:
            exchange.expect(self._limits.between_tokens_s)
        if chunks.failure is not None:
            raise chunks.failure
        return not over

    def _unfinished(self) -> Failure:
        if self._shown:
            return interrupted()
        if self._chunks.empty:
            return empty()
        return strange()

    async def _ending(self) -> bytes:
        chunks = self._chunks
        self._usage = await counted(
            chunks.usage, texts=chunks.texts, text_chars=chunks.text_chars, body=self._body, counter=self._counter
        )
        last = chunks.last(chunks.usage or as_json(self._usage)) if self._usage_last else b""
        return chunks.endings() + last

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
