"""What an answer's parts are to the network: how many packets, and when."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from process.connection import CONNECTION
from process.http_protocol import LimitedProtocol, limited
from tests.raw_http import get, post
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest
    from starlette.types import Receive, Scope, Send

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}


class Wire(asyncio.Transport):
    """Remembers what goes out together."""

    def __init__(self) -> None:
        super().__init__()
        self.packets: list[bytes] = []
        self.closed = False
        self.is_read = True

    def write(self, data: Any) -> None:
        assert not self.closed
        self.packets.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


async def _asked(answering: Any, request: bytes) -> Wire:
    """A connection on which ``request`` has just been answered, by ``answering(send)``."""
    answered = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(send)
        answered.set()

    wire = Wire()
    protocol = _connected(app, wire)
    protocol.data_received(request)
    await answered.wait()
    packets = list(wire.packets)
    protocol.connection_lost(None)
    wire.packets = packets
    return wire


def _connected(app: Any, wire: Wire) -> LimitedProtocol:
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none")
    protocol = limited(65_536, 30.0, lambda _: [])(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(wire)
    return protocol


async def test_a_whole_answer_is_one_packet() -> None:
    async def answering(send: Send) -> None:
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"{}"})

    wire = await _asked(answering, get("/"))
    [packet] = wire.packets
    assert packet.startswith(b"HTTP/1.1 200 OK\r\n")
    assert packet.endswith(b"\r\n\r\n{}")


async def test_a_head_does_not_wait_for_a_body_that_is_still_to_come() -> None:
    async def answering(send: Send) -> None:
        await send(HEAD)
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        await send({"type": "http.response.body", "body": b"}"})

    wire = await _asked(answering, get("/"))
    assert [packet[:8] for packet in wire.packets] == [b"HTTP/1.1", b"{", b"}"]


async def test_a_head_whose_body_fails_is_sent_before_the_connection_ends() -> None:
    async def answering(send: Send) -> None:
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"too long"})

    async def failing(send: Send) -> None:
        try:
            await answering(send)
        except RuntimeError:
            await send({"type": "http.response.body", "body": b"no"})

    wire = await _asked(failing, get("/", "connection: close"))
    [packet] = wire.packets
    assert packet.endswith(b"\r\n\r\nno")
    assert wire.closed


async def test_a_head_that_no_body_follows_is_sent_before_the_connection_ends() -> None:
    async def answering(send: Send) -> None:
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"{}"})

    wire = await _asked(answering, get("/", "content-length: 5", method="HEAD"))
    [packet] = wire.packets
    assert packet.endswith(b"\r\n\r\n")


async def test_a_client_is_listened_to_until_it_is_answered_however_large_its_body_came() -> None:
    """Else nobody would hear that it leaves. The next request may wait until this one has its answer."""
    may_answer = asyncio.Event()
    taken = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        more = True
        while more:
            message = await receive()
            taken += len(message["body"])
            more = message["more_body"]
        await may_answer.wait()
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"{}"})

    wire = Wire()
    protocol = _connected(app, wire)
    size = 200_000
    protocol.data_received(post(b"", f"content-length: {size + 1}") + b"x")
    await until(lambda: taken == 1)
    protocol.data_received(b"x" * size)
    await until(lambda: taken == size + 1)
    assert wire.is_read
    protocol.data_received(get("/"))
    assert not wire.is_read
    may_answer.set()
    await until(lambda: len(wire.packets) == 2)
    protocol.connection_lost(None)


async def test_whoever_leaves_with_another_request_ahead_is_answered_no_more(caplog: pytest.LogCaptureFixture) -> None:
    begun, may_end, heard = asyncio.Event(), asyncio.Event(), list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await may_end.wait()
        await receive()
        heard.append((await receive())["type"])

    wire = Wire()
    protocol = _connected(app, wire)
    protocol.data_received(get("/") * 2)
    await begun.wait()
    wire.close()
    protocol.connection_lost(ConnectionResetError())
    may_end.set()
    await until(lambda: not protocol.tasks)
    assert heard == ["http.disconnect"]
    assert not caplog.records


async def test_whoever_spoils_a_later_request_is_answered_no_more(caplog: pytest.LogCaptureFixture) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[CONNECTION].on_gone = gone.set
        begun.set()
        await gone.wait()

    wire = Wire()
    protocol = _connected(app, wire)
    protocol.data_received(get("/"))
    await begun.wait()
    protocol.data_received(post(b"z\r\n", "transfer-encoding: chunked"))
    await until(lambda: not protocol.tasks)
    assert (wire.closed, wire.packets) == (True, [])
    assert not caplog.records
    protocol.connection_lost(None)


async def test_a_client_that_has_gone_before_it_hears_why_nobody_reads_on_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send({"type": "http.response.body", "body": b"{}"})

    class Gone(Wire):
        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    protocol = _connected(app, Gone())
    protocol.data_received(post(b"x", "content-length: 100"))
    await until(lambda: not protocol.tasks)
    assert not caplog.records
    protocol.connection_lost(None)
