"""A TCP proxy that can behave as badly as a network does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

_CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """Stands in front of ``host:port``: ``async with TcpProxy(host, port) as proxy: proxy.port``.

    With ``ssl_context`` its own side speaks TLS.
    """

    def __init__(self, host: str, port: int, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl_context = ssl_context
        self.latency_s = 0.0
        """How long each chunk is held back, in each direction."""
        self.connections = 0
        """How many connections were accepted so far."""
        self.port = 0
        self._target = (host, port)
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._doomed: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> TcpProxy:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._ssl_context)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Refuse new connections, as the port of a dead process does."""
        assert self._server is not None
        self._server.close()

    def blackhole(self) -> None:
        """Carry nothing more, and close nothing. New connections are accepted and get no answer."""
        self._open.clear()

    def forget(self) -> None:
        """As :meth:`blackhole`, but only the connections of now fall silent, and for ever; new ones are served."""
        self._doomed |= self._tasks

    def restore(self) -> None:
        """Carry again what waits."""
        self._open.set()

    def reset(self) -> None:
        """Break every connection with a reset."""
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer, task)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        await self._open.wait()
        back_reader, back_writer = await asyncio.open_connection(*self._target)
        self._writers.add(back_writer)
        directions = [
            asyncio.ensure_future(self._carry(reader, back_writer, task)),
            asyncio.ensure_future(self._carry(back_reader, writer, task)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            self._writers.discard(back_writer)
            back_writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: asyncio.Task[None]
    ) -> None:
        while chunk := await reader.read(_CHUNK_BYTES):
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            await self._open.wait()
            if connection in self._doomed:
                # Read and thrown away: the sender sees an open connection that takes everything.
                continue
            writer.write(chunk)
            await writer.drain()
