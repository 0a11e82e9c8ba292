"""A provider that costs next to nothing: every request gets the same answer from memory, whole or as a stream.

It takes no part in what is measured but its share of the processor, which the results show.
As a process: ``python -m bench.upstream --port 9000``.
"""

from __future__ import annotations

import asyncio
import re
import signal
from typing import cast

import click
import httptools
import uvloop

from bench import answer

_STREAM = re.compile(rb'"stream":\s*true')
_PACED = answer.PACED.encode()


class Canned:
    """The bytes of both answers, HTTP and all."""

    def __init__(self, pace_s: float) -> None:
        self.pace_s = pace_s
        body = answer.whole_body()
        self.whole = b"".join(
            (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body), body)
        )
        self.head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        # Each event is a chunk of its own, as from a provider that writes token by token; the end goes with the last.
        self.parts = [b"%x\r\n%b\r\n" % (len(event), event) for event in answer.events()]
        self.parts[-1] += b"0\r\n\r\n"
        self.burst = self.head + b"".join(self.parts)


class Upstream(asyncio.Protocol):
    """One connection. Requests come one after the other."""

    def __init__(self, canned: Canned) -> None:
        self._canned = canned
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._body = b""
        self._transport: asyncio.Transport
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not _STREAM.search(self._body):
            self._transport.write(self._canned.whole)
        elif _PACED in self._body:
            self._transport.write(self._canned.head)
            self._write_part(0, self._loop.time())
        else:
            self._transport.write(self._canned.burst)

    def _write_part(self, number: int, began_s: float) -> None:
        self._transport.write(self._canned.parts[number])
        number += 1
        if number < len(self._canned.parts):
            # Reckoned from the beginning, so that late timers do not add up.
            due = began_s + number * self._canned.pace_s
            self._next = self._loop.call_at(due, self._write_part, number, began_s)


async def listen(port: int, pace_s: float) -> asyncio.Server:
    """Serve on the loopback interface; port 0 takes a free one."""
    canned = Canned(pace_s)
    return await asyncio.get_running_loop().create_server(lambda: Upstream(canned), "127.0.0.1", port, backlog=1024)


async def _serve(port: int, pace_s: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await listen(port, pace_s):
        await stop.wait()


@click.command()
@click.option("--port", default=9000, show_default=True, help="where to listen, on 127.0.0.1")
@click.option("--pace-ms", default=1.0, show_default=True, help="milliseconds between the chunks of a paced stream")
def main(port: int, pace_ms: float) -> None:
    """Answer every request with the same fifty tokens."""
    uvloop.run(_serve(port, pace_ms / 1000))


if __name__ == "__main__":
    main()
