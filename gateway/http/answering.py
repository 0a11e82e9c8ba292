"""Showing an answer: one JSON body, or server-sent events, from what comes through an exchange."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from gateway.http.errors import error_headers
from gateway.requests.decisions import Break
from gateway.requests.exchange import HungUp
from process.http_errors import error_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Send

    from gateway.queue.admission import Standing
    from gateway.requests.exchange import Exchange
    from process.connection import Connection
    from process.timers import Timers
    from wire.errors import ErrorBody

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Response:
    """One HTTP response as it goes out. While it is open, its exchange hears when its client is gone."""

    def __init__(
        self,
        exchange: Exchange,
        connection: Connection,
        send: Send,
        headers: list[tuple[bytes, bytes]],
        timers: Timers,
        write_wait_s: float,
    ) -> None:
        self.started = False
        self.status: int | None = None
        """The HTTP status, once it is told."""
        self._connection = connection
        self._send = send
        self._headers = headers
        self._timers = timers
        self._write_wait_s = write_wait_s
        self._began = time.perf_counter()
        connection.on_gone = exchange.hang_up
        if connection.gone:
            exchange.hang_up()

    async def whole(self, body: bytes) -> None:
        """A complete JSON answer."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self._start(200, headers)
        await self._write(body, more=False)

    async def error(self, error: ErrorBody) -> None:
        """An error instead of an answer."""
        body = error_json(error)
        await self._start(error.http_status, [*error_headers(error), (b"content-length", b"%d" % len(body))])
        await self._write(body, more=False)

    async def open_stream(self) -> None:
        """The head of a stream."""
        await self._start(200, STREAM_HEADERS)

    async def write(self, data: bytes) -> None:
        """A part of a stream. Raises :class:`HungUp` if the client does not take it in time."""
        await self._write(data, more=True)

    async def end(self, data: bytes) -> None:
        """The last part of a stream."""
        await self._write(data, more=False)

    def close(self) -> None:
        """Nobody needs to hear of the client any more."""
        self._connection.on_gone = None

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        if status < 400:
            took_ms = b"%d" % round((time.perf_counter() - self._began) * 1000)
            headers = [*headers, (b"openai-processing-ms", took_ms), (b"openai-version", b"2020-10-01")]
        self.started, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]})

    async def _write(self, data: bytes, *, more: bool) -> None:
        late = self._timers.after(self._write_wait_s, self._connection.cut)
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        finally:
            late.cancel()
        if self._connection.gone:
            raise HungUp
        if not more and self._connection.unsent:
            # What is written last is waited for by nobody: one who does not take it would keep it here for ever.
            self._see_out(self._connection.unsent, self._connection.requests)

    def _see_out(self, unsent: int, requests: int) -> None:
        self._timers.after(self._write_wait_s, partial(self._look, unsent, requests))

    def _look(self, before: int, requests: int) -> None:
        unsent = self._connection.unsent
        if self._connection.requests != requests:
            return  # whoever asks again has taken the answer, and what is unsent now is another one's
        if unsent >= before:
            self._connection.cut()
        elif unsent:
            self._see_out(unsent, requests)


async def answer_whole(exchange: Exchange, response: Response) -> None:
    """Wait for the end, then send everything at once: the status tells how it went."""
    end = await exchange.ended()
    if isinstance(end, Break):
        await response.error(end.error)
    else:
        await response.whole(exchange.take())


async def answer_stream(
    exchange: Exchange,
    response: Response,
    comment: Callable[[], bytes],
    *,
    status_hold_s: float,
    keep_alive_s: float,
) -> None:
    """Send parts as they come, and a comment where none comes for long.

    An end is ``[DONE]`` or an error event, never a stream that just stops.
    """
    if not await exchange.news(status_hold_s):
        await response.open_stream()
        await response.write(comment())
    while True:
        lines = exchange.take_lines()
        end = exchange.end
        if isinstance(end, Break) and not lines and not response.started:
            return await response.error(end.error)
        if not response.started:
            await response.open_stream()
        events = as_events(lines)
        if isinstance(end, Break):
            return await response.end(events + b"data: " + error_json(end.error) + b"\n\n")
        if end is not None:
            return await response.end(events + DONE)
        if events:
            await response.write(events)
        while not await exchange.news(keep_alive_s):
            await response.write(comment())


def keep_alive(standing: Standing | None) -> bytes:
    """What a stream says where it has no part of an answer: where the request stands while it waits for a node.

    A comment, which clients skip as long as the stream has no ``id:`` lines.
    """
    if standing is None:
        return PING
    eta = b"" if standing.eta_ms is None else b" eta_ms=%d" % standing.eta_ms
    return b": queue position=%d%s\n\n" % (standing.position, eta)


def queue_headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """Where a request stood when it was let in."""
    headers = [(b"x-queue-position", b"%d" % standing.position)]
    if standing.eta_ms is not None:
        headers.append((b"x-queue-eta-ms", b"%d" % standing.eta_ms))
    return headers


def as_events(lines: bytes) -> bytes:
    """Server-sent events of JSON chunks, one per line. A chunk holds no raw line break: JSON escapes them."""
    if not lines:
        return b""
    return b"data: " + lines.rstrip(b"\n").replace(b"\n", b"\n\ndata: ") + b"\n\n"
