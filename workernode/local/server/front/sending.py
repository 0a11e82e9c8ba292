"""Answers on the wire: whole, as a stream, or as an error; and the news that the client has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from workernode.local.server.front.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_BYTES_MAX = 64 * 1024 * 1024
_JSON = b"application/json"
_encoder = msgspec.json.Encoder()


class Sender:
    """One exchange. A stream's head is sent with its first chunk: until then an error has a status of its own."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._begun = False

    async def body(self) -> bytes:
        """The request's body. Raises :class:`Problem` if it is too large."""
        parts = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            parts += message.get("body", b"")
            if len(parts) > BODY_BYTES_MAX:
                raise Problem("The body is too large.", code="request_too_large", status=413)
            if not message.get("more_body"):
                return bytes(parts)

    async def gone(self) -> None:
        """Returns when the client has closed the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def whole(self, fields: Any, *, status: int = 200) -> None:
        """An answer in one piece: JSON of ``fields``, or bytes that are JSON already."""
        data = fields if isinstance(fields, bytes) else _encoder.encode(fields)
        await self.data(data, _JSON, status=status)

    async def data(self, data: bytes, kind: bytes, *, status: int = 200) -> None:
        """An answer in one piece of any kind."""
        headers = [(b"content-type", kind), (b"content-length", str(len(data)).encode())]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": data})

    async def chunk(self, fields: Any) -> None:
        """One event of a stream."""
        await self._event(_encoder.encode(fields))

    async def done(self) -> None:
        """The good end of a stream."""
        await self._event(b"[DONE]", more=False)

    async def problem(self, problem: Problem) -> None:
        """The bad end: a status if nothing was sent, else an event without [DONE]."""
        if self._begun:
            await self._event(problem.json(), more=False)
        else:
            await self.whole(problem.json(), status=problem.status)

    async def _event(self, data: bytes, *, more: bool = True) -> None:
        if not self._begun:
            self._begun = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": more})
