"""What a connection may do before there is a request for the application: limits on the head, and refusals in the
shape of all errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from process.http_errors import error_json
from process.identity import new_request_id
from wire.errors import FleetError, HeadTooLarge, InvalidRequest

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from starlette.types import Scope

    RefusalHeaders = Callable[[Scope], list[tuple[bytes, bytes]]]

LINGER_S = 1.0
"""How long a refused client is still listened to. To close at once, with bytes of its unread, would reset the
connection, and the client might never see why."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a bound on each request's head, in bytes and in time.

    A head begins with the connection or with the end of the request before it. While nothing of it has come on a
    connection that was used before, the connection is idle, which is uvicorn's business.
    """

    head_bytes_max: int
    head_wait_s: float
    refusal_headers: RefusalHeaders
    """What a refusal says beside its error, by as much of the request's head as has come."""

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _linger: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        if self._linger is not None:
            self._linger.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # In slices, since a head that is too long must not reach the parser, which would keep all of it. Nearly every
        # request comes whole in one piece of less than a slice.
        while data and not self._refused and not self.transport.is_closing():
            piece = data
            if self._in_head:
                room = self.head_bytes_max - self._head_bytes
                if room <= 0:
                    self._refuse(HeadTooLarge())
                    return
                piece = data[:room]
                self._head_bytes += len(piece)
            data = data[len(piece) :]
            super().data_received(piece)
        if self._in_head and self._head_bytes and self._head_timer is None and not self._refused:
            self._await_head()

    def on_message_begin(self) -> None:
        # A second request in one piece with the first is counted from the next piece on; that it began is known.
        self._head_bytes = self._head_bytes or 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._head_came()
        self.headers = []  # what comes behind a chunked body is not let in among the headers of the head

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what its parser does not take."""
        self._refuse(InvalidRequest("This is not valid HTTP/1.1.", code="invalid_http"))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_wait_s, self._head_is_late)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._is_answering():
            self._await_head()  # an answer is on its way, and reading may rest for it: that is not the client's doing
        elif not self.transport.is_closing():
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: FleetError) -> None:
        self._refused = True
        self._head_came()
        if self._is_answering():
            if self._in_head:
                self.cycle.keep_alive = False  # earlier requests get their answers, then the connection ends
                return
            # The rest of this request's body is lost, so its answer must not be begun, nor go on as if it were whole.
            begun = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if begun:
                self.transport.close()
                return
        self._answer(error)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._linger = self.loop.call_later(LINGER_S, self.transport.close)

    def _answer(self, error: FleetError) -> None:
        body = error_json(error.body())
        # In a head that has just begun stands what is known of it; before, there is nothing, and not the last one's.
        headers = (self.headers or []) if self._in_head else self.scope["headers"]
        more = self.refusal_headers({"headers": headers})
        head = (
            f"HTTP/1.1 {error.http_status} {HTTPStatus(error.http_status).phrase}\r\n"
            "content-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n"
            f"x-request-id: {new_request_id()}\r\ncontent-length: {len(body)}\r\n"
        )
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in more)
        self.transport.write(head.encode() + lines + b"\r\n" + body)


def limited(head_bytes_max: int, head_wait_s: float, refusal_headers: RefusalHeaders) -> type[LimitedProtocol]:
    """The protocol with these limits, as uvicorn wants it: a class."""
    return type(
        "LimitedProtocol",
        (LimitedProtocol,),
        {
            "head_bytes_max": head_bytes_max,
            "head_wait_s": head_wait_s,
            "refusal_headers": staticmethod(refusal_headers),
        },
    )
