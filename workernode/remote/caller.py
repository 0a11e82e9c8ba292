"""One attempt at a request: the calls to the provider that it takes, and their answers on the way through."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from workernode.outcome import Answered
from workernode.prompts import CHARS_PER_TOKEN
from workernode.remote.body import as_body
from workernode.remote.call import together
from workernode.remote.chunk import Chunks, identity
from workernode.remote.dialects.choices import Choices
from workernode.remote.exchange import Exchange
from workernode.remote.headers import request_headers
from workernode.remote.side_by_side import all_of, side_by_side
from workernode.remote.stated import stated
from workernode.remote.stream import StreamRelay
from workernode.remote.usage import as_json
from workernode.remote.vectors import embedded
from workernode.remote.whole import rewritten
from workernode.traced import UpstreamCall

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp
    from yarl import URL

    from wire.request import Endpoint
    from wire.usage import Usage
    from workernode.engine import Answer, Job
    from workernode.remote.call import Call, Plan
    from workernode.remote.dialects.choices import Part
    from workernode.remote.dialects.dialect import Adapter
    from workernode.remote.pace import CredentialPace
    from workernode.remote.stream import StreamLimits
    from workernode.remote.tokens import TokenCounter
    from workernode.remote.whole import Whole

MAIN: Endpoint = "chat/completions"
"""Every provider serves it: one that does not know it is not where API_URL says."""


@dataclass(frozen=True)
class AnswerLimits:
    """What an answer may cost."""

    first_token_s: float
    stream: StreamLimits


class Caller:
    """``due`` is the loop's time when the request must be answered; ``places`` bounds what is under way at once, and
    ``pace`` hears what the provider says of its limits. ``taken`` is called when the provider takes a call."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        places: asyncio.Semaphore,
        limits: AnswerLimits,
        counter: TokenCounter,
        pace: CredentialPace,
        *,
        job: Job,
        url: URL,
        key: str | None,
        adapters: frozenset[Adapter],
        model: str,
        node: str,
        due: float,
        taken: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._places = places
        self._limits = limits
        self._counter = counter
        self._pace = pace
        self._job = job
        self._request = request = job.request
        self._url = url
        self._key = key
        self._adapters = adapters
        self._via = [*(request.origin.via if request.origin else ()), node]
        self._upstream_model = model
        self._due = due
        self._taken = taken
        self._part: Part = "text" if request.endpoint == "completions" else "delta" if request.stream else "message"
        self._own = identity(
            answer_id=job.answer_id,
            created_s=job.created_s,
            model=request.model,
            completion=request.endpoint == "completions",
            stream=request.stream,
        )

    async def answer(self, plan: Plan, answer: Answer) -> Answered:
        """Make the calls of the plan. Raises :class:`workernode.remote.errors.Failure`."""
        calls = plan.calls
        if self._request.stream:
            if len(calls) == 1:
                return await self._stream(calls[0], self._request.usage_asked, answer)
            last = self._last if self._request.usage_asked else None
            return await side_by_side([partial(self._stream, call, False) for call in calls], answer, last=last)
        if len(calls) == 1:
            whole = await self._whole(calls[0])
        else:
            whole = together(plan, await all_of([self._whole(call) for call in calls]))
        await answer.write(whole.body, text_chars=whole.usage.completion_tokens * CHARS_PER_TOKEN)
        return Answered(whole.usage, whole.finish_reason)

    async def _stream(self, call: Call, usage_last: bool, answer: Answer) -> Answered:
        body = as_body(call.fields)
        chunks = Chunks(
            self._own,
            usage_asked=self._request.usage_asked,
            choices=self._choices(call, body),
            part=self._part,
            key=self._key,
            sent=body,
            keep_text=self._counter.exact,
        )
        relay = StreamRelay(
            chunks,
            answer,
            self._limits.stream,
            choices=call.choices,
            usage_last=usage_last,
            body=body,
            counter=self._counter,
        )
        async with self._places, self._exchange() as exchange:
            await self._send(exchange, call, body, within_s=self._limits.first_token_s)
            answered = await relay.run(exchange)
            if exchange.call is not None:
                exchange.call.answered(answered.usage, answered.finish_reason)
            return answered

    async def _whole(self, call: Call) -> Whole:
        """A whole answer's head has no time limit but the request's own, since most send it when all is complete. Some
        send it at once, and white space until then."""
        body = as_body(call.fields)
        limits = self._limits.stream
        async with self._places, self._exchange() as exchange:
            await self._send(exchange, call, body, within_s=None)
            received = await exchange.read_all(bytes_max=limits.answer_bytes_max, between_s=limits.between_tokens_s)
            exchange.expect(None)
            whole = await self._read(received, body, call)
            if exchange.call is not None:
                exchange.call.answered(whole.usage, whole.finish_reason)
            return whole

    async def _read(self, received: bytearray, body: bytes, call: Call) -> Whole:
        if self._request.endpoint == "embeddings":
            return embedded(
                received, model=self._request.model, request_body=body, key=self._key, counter=self._counter
            )
        rewrite = partial(
            rewritten,
            received,
            self._own,
            request_body=body,
            key=self._key,
            part=self._part,
            choices=self._choices(call, body),
            counter=self._counter,
        )
        return await asyncio.to_thread(rewrite) if self._counter.exact else rewrite()

    def _choices(self, call: Call, body: bytes) -> Choices:
        return Choices(first=call.first, cumulative="cumulative" in self._adapters, key=self._key, sent=body)

    def _exchange(self) -> Exchange:
        return Exchange(self._session, key=self._key, optional=self._request.endpoint != MAIN)

    async def _send(self, exchange: Exchange, call: Call, body: bytes, *, within_s: float | None) -> None:
        headers = request_headers(
            self._request,
            first=call.first,
            key=self._key,
            adapters=self._adapters,
            via=self._via,
            remaining_s=self._due - asyncio.get_running_loop().time(),
        )
        if self._job.span is not None:
            # The host alone: of an address that is all a trace may know.
            host, model = self._url.host or "", self._upstream_model
            exchange.call = UpstreamCall(self._job.span, self._request, model=model, host=host)
        sent_at = self._pace.now
        await exchange.send(self._url, body, headers, within_s=within_s)
        self._pace.learn(stated(exchange.headers, time.time()))
        self._pace.accepted(sent_at)
        if self._taken is not None:
            self._taken()

    def _last(self, usage: Usage) -> bytes:
        return Chunks(self._own, usage_asked=True, key=self._key).last(as_json(usage))
