"""What an application knows of its client's connection, and what a connection that is gone leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import weakref
from typing import TYPE_CHECKING

import pytest

from process.connection import CONNECTION
from process.http import bind, serving
from tests.raw_http import Connection, get
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from process import connection

ATTRIBUTES_MAX = 30
"""The names of so many are shared among a class's instances; with more each has a dictionary of its own."""


class Application:
    """Answers ``/slow`` when it may, everything else at once."""

    def __init__(self) -> None:
        self.connections: list[weakref.ref[connection.Connection]] = []
        self.attributes: list[int] = []
        self.may_answer = asyncio.Event()
        self.left: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client: connection.Connection = scope[CONNECTION]
        self.connections.append(weakref.ref(client))
        self.attributes.append(len(vars(client)))
        client.on_gone = lambda: self.left.append(scope["path"])
        assert not client.gone
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        if scope["path"] == "/slow":
            await self.may_answer.wait()
        client.on_gone = None
        await send({"type": "http.response.body", "body": b"1"})

    @property
    def client(self) -> connection.Connection | None:
        return self.connections[-1]()


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[Application, int]]:
    app = Application()
    listener = bind("127.0.0.1", 0, "PORT")
    async with asyncio.timeout(20), serving(app, listener, stop_grace_s=1.0):
        yield app, listener.getsockname()[1]


async def test_an_application_hears_once_that_its_client_left() -> None:
    async with served() as (app, port):
        async with Connection(port) as client:
            client.send(get("/slow"))
            await until(lambda: app.connections)
            assert app.left == []
        await until(lambda: app.left == ["/slow"])
        app.may_answer.set()


async def test_one_whose_client_left_between_requests_hears_nothing() -> None:
    async with served() as (app, port):
        async with Connection(port) as client:
            client.send(get("/"))
            assert (await client.answer()).whole
        await until(lambda: app.client is None)
        assert app.left == []


async def test_an_application_can_break_the_connection() -> None:
    async with served() as (app, port), Connection(port) as client:
        client.send(get("/slow"))
        await until(lambda: app.connections)
        assert app.client is not None
        app.client.cut()
        assert await client.closed()
        await until(lambda: app.left == ["/slow"])
        app.may_answer.set()


@pytest.mark.parametrize("path", ["/", "/slow"])
async def test_nothing_of_a_connection_stays_until_garbage_is_collected(path: str) -> None:
    async with served() as (app, port):
        gc.collect()
        gc.disable()
        try:
            async with Connection(port) as client:
                client.send(get(path))
                await until(lambda: app.connections)
                if path == "/":
                    assert (await client.answer()).whole
            app.may_answer.set()
            await until(lambda: app.client is None)
        finally:
            gc.enable()


async def test_nothing_of_an_idle_connection_stays_that_its_client_resets() -> None:
    async with served() as (app, port):
        async with Connection(port) as client:
            client.send(get("/"))
            assert (await client.answer()).whole
            at_once = struct.pack("ii", 1, 0)
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        await until(lambda: app.client is None, within_s=2)


async def test_a_connection_has_no_more_attributes_than_are_shared() -> None:
    async with served() as (app, port), Connection(port) as client:
        client.send(get("/"))
        await client.answer()
        assert app.attributes[0] <= ATTRIBUTES_MAX
