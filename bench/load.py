"""A load client that costs little: some keep-alive connections, each asking again as soon as it was answered."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from bench import answer

LAST_ANSWERS_WAIT_S = 20.0
"""How long answers that are under way at the end of a run may take; what is missing then counts as failed."""


@dataclass(frozen=True)
class Ask:
    """One kind of request, and where it goes."""

    url: str
    """``http://host:port`` of a server with OpenAI's API."""
    stream: bool
    paced: bool = False

    @property
    def http(self) -> bytes:
        """The request as it goes over the wire."""
        body = answer.request_body(stream=self.stream, paced=self.paced)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {urlsplit(self.url).netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Sample:
    """What one run saw. Times are in seconds, one for each complete answer."""

    first_s: list[float] = field(default_factory=list)
    """From the request to the first data of the answer: a stream's first token."""
    total_s: list[float] = field(default_factory=list)
    """From the request to the end of the answer."""
    failed: int = 0
    """Answers that were incomplete, refused, or never came."""
    elapsed_s: float = 0.0

    @property
    def answers(self) -> int:
        return len(self.total_s)

    @property
    def per_second(self) -> float:
        return self.answers / self.elapsed_s


class Client(asyncio.Protocol):
    """One connection that asks until ``until_s`` of ``time.perf_counter()``. ``done`` resolves when it has ended."""

    def __init__(self, ask: Ask, sample: Sample, until_s: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = ask.http
        self._stream = ask.stream
        self._sample = sample
        self._until_s = until_s
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._waiting = False
        self._body = b""
        self._asked_s = self._first_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting:
            self._sample.failed += 1
        if not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_body(self, body: bytes) -> None:
        self._body += body
        # A stream may begin with comments, which are no part of the answer.
        if not self._first_s and (not self._stream or b"data:" in self._body):
            self._first_s = time.perf_counter()

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._waiting = False
        if answer.is_complete(self._parser.get_status_code(), self._body, stream=self._stream):
            self._sample.first_s.append(self._first_s - self._asked_s)
            self._sample.total_s.append(now - self._asked_s)
        else:
            self._sample.failed += 1
        if now < self._until_s and self._parser.should_keep_alive():
            self._ask()
        else:
            self._transport.close()

    def give_up(self) -> None:
        """End the connection; an answer that is under way counts as failed."""
        if not self.done.done():
            self._transport.abort()

    def _ask(self) -> None:
        self._waiting = True
        self._body = b""
        self._first_s = 0.0
        self._asked_s = time.perf_counter()
        self._transport.write(self._request)


async def load(ask: Ask, *, clients: int, seconds: float) -> Sample:
    """Let so many clients ask for so long, and wait for their last answers. Raises :class:`OSError` if none listens."""
    sample = Sample()
    host, _, port = urlsplit(ask.url).netloc.partition(":")
    began = time.perf_counter()
    connections: list[Client] = []
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        _, client = await loop.create_connection(lambda: Client(ask, sample, began + seconds), host, int(port))
        connections.append(client)
    await asyncio.wait([each.done for each in connections], timeout=seconds + LAST_ANSWERS_WAIT_S)
    for each in connections:
        each.give_up()
    await asyncio.gather(*(each.done for each in connections))
    sample.elapsed_s = time.perf_counter() - began
    return sample
