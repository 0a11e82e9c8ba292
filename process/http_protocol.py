"""What a connection may do before there is a request for the application: limits on the head, and refusals in the
shape of all errors."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from process.connection import CONNECTION
from process.http_errors import error_json
from process.identity import new_request_id
from wire.errors import FleetError, HeadTooLarge, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

    RefusalHeaders = Callable[[Scope], list[tuple[bytes, bytes]]]

LINGER_S = 1.0
"""How long a refused client is still listened to. To close at once, with bytes of its unread, would reset the
connection, and the client might never see why."""


PIPELINE_MAX = 32
"""Requests of one connection that may wait for the answers to earlier ones. Programs that do so send a few."""

_PIECE_BYTES = 256 * 1024
"""As much as the event loop reads at once, of which all but a byte may be body."""
_OFFERS = (b"upgrade", b"http2-settings")
"""Headers, and words of ``connection``, that offer another protocol."""


class _Few(list[Any]):
    """As much of a deque as uvicorn asks of its pipeline: an empty deque takes 0.7 KiB."""

    def appendleft(self, item: Any) -> None:
        """Add it before the others."""
        self.insert(0, item)


class _Signal:
    """As much of an :class:`asyncio.Event` as uvicorn asks of it, for one who waits: an event has a deque."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        if not self._is_set:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class _HeadWithBody:
    """An answer's transport, on which the head waits for the first part of the body, at the latest until the loop's
    next turn: both go in one packet."""

    __slots__ = ("_close", "_head", "_late", "_loop", "_transport")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, close: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._close = close
        self._head: bytes | None = None
        self._late: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if self._late is not None:
            self._let_go(data)
        elif self._head is None:
            self._head = data
            self._late = self._loop.call_soon(self._let_go)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._let_go()
        self._close()

    def _let_go(self, body: bytes = b"") -> None:
        if self._late is not None and self._head is not None:
            self._late.cancel()
            self._late = None
            self._transport.writelines((self._head, body))
            self._head = b""


class _TooManyAhead(Exception):
    """Ends the parser's work within a piece."""


class _UntilClosed:
    """How many bytes are still to come, to uvicorn's reckoning: nobody knows, and it is always right."""

    def __lt__(self, written: int) -> bool:
        return False

    def __isub__(self, written: int) -> _UntilClosed:
        return self

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a bound on each request's head, in bytes and in time, and on what a connection may send
    that nobody reads: requests in advance, what stands beside a body, and a body that was answered before it came.

    A head begins with the connection or with the end of the request before it. While nothing of it has come on a
    connection that was used before, the connection is idle, which is uvicorn's business.
    """

    head_bytes_max: int
    head_wait_s: float
    refusal_headers: RefusalHeaders
    """What a refusal says beside its error, by as much of the request's head as has come."""

    # Beyond thirty attributes, of which uvicorn has 28, Python gives each instance a dictionary of 1.5 KiB.
    __slots__ = (
        "_beside_bytes",
        "_head_bytes",
        "_head_timer",
        "_in_head",
        "_linger",
        "_refused",
        "_running",
        "gone",
        "on_gone",
        "requests",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pipeline = _Few()  # type: ignore[assignment]
        self.gone = False
        self.requests = 0
        self.on_gone: Callable[[], None] | None = None
        self._in_head = True
        self._head_bytes = 0
        self._beside_bytes = 0
        """Since something of the body came last: extensions of chunks, and lines behind the last of them."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._refused = False
        self._running: RequestResponseCycle | None = None
        """The request that is being answered, which is not the latest where others wait behind it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        if self._linger is not None:
            self._linger.cancel()
        self._unset_keepalive_if_required()  # which uvicorn forgets where a client resets the connection
        super().connection_lost(exc)
        self._part()
        # Two that hold one another would stay until somebody collects garbage.
        self.scope = self.cycle = self._running = None  # type: ignore[assignment]

    @property
    def unsent(self) -> int:
        """See :class:`process.connection.Connection`."""
        return 0 if self.gone else self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """See :class:`process.connection.Connection`."""
        self.transport.abort()

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
            else:
                self._beside_bytes += len(piece)
                if self._beside_bytes > self.head_bytes_max + _PIECE_BYTES:
                    self._refuse(HeadTooLarge())
                    return
            data = data[len(piece) :]
            self._feed(piece)
        if self._in_head and self._head_bytes and self._head_timer is None and not self._refused:
            self._await_head()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINE_MAX:
            raise _TooManyAhead
        self.requests += 1
        # A second request in one piece with the first is counted from the next piece on; that it began is known.
        self._head_bytes = self._head_bytes or 1
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self.cycle.message_event = _Signal()  # type: ignore[assignment]
        if self.scope["method"] != "HEAD":  # which has no body to wait for
            self.cycle.transport = _HeadWithBody(self.transport, self.loop, self._close)  # type: ignore[assignment]
        if self.scope["http_version"] == "1.0":
            # It knows no chunks: an answer whose length is not told ends with the connection.
            self.cycle.chunked_encoding, self.cycle.expected_content_length = False, _UntilClosed()  # type: ignore[assignment]
        self.cycle.keep_alive = False  # whoever is answered before all of the body has come is told that this ends it
        self._in_head, self._beside_bytes = False, 0
        self._head_came()
        self.headers = []  # what comes behind a chunked body is not let in among the headers of the head

    def on_body(self, body: bytes) -> None:
        self._beside_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if not self.cycle.response_started:
            self.cycle.keep_alive = self.scope["http_version"] != "1.0" and self.parser.should_keep_alive()
        self._in_head, self._head_bytes = True, 0
        if not self.pipeline:
            # It rests where much of a body came at once, and who has all of it asks for no more: a client that leaves
            # would not be heard.
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head and self.cycle.response_complete and not self.transport.is_closing():
            # It was answered before all of it had come, and nobody will read the rest.
            self._refused = True
            self._end()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what its parser does not take."""
        self._refuse(InvalidRequest("This is not valid HTTP/1.1.", code="invalid_http"))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> None:
        """What uvicorn does with what comes, but for an offer of another protocol, which it would take for accepted."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self.send_400_response("")
        except HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])

    def _decline(self, rest: bytes) -> None:
        """Read a request that offers HTTP/2, as Java's client does with each, as if it did not; ``rest`` follows its
        head. RFC 9110, 7.8: a server may ignore the offer."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(InvalidRequest("This is no proxy.", code="invalid_http"))
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            kept = value
            if name == b"connection":
                kept = b", ".join(each for each in map(bytes.strip, value.split(b",")) if each.lower() not in _OFFERS)
            if kept and name not in _OFFERS:
                lines.append(name + b": " + kept)
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.requests -= 1
        self._feed(b"\r\n".join((*lines, b"", rest)))

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

    def _part(self) -> None:
        self.gone = True
        if self._running is not None:
            self._running.disconnected = True  # as uvicorn tells the latest alone
            self._running.message_event.set()
        if self.on_gone is not None:
            self.on_gone()

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
            self._part()
            if begun:
                self.transport.close()
                return
        self._answer(error)
        self._end()

    def _close(self) -> None:
        """What uvicorn does with a connection after its last answer, unless something of the body is still to come."""
        if self._in_head or self._running is not self.cycle:
            self.transport.close()

    def _end(self) -> None:
        """Say no more, and be gone in a moment."""
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client has gone already
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
