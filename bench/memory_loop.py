"""An event loop without a kernel: connections are memory, and time stands still until nothing else is left to do.

What runs on it does the same in every run, however slow the machine, so that its instructions can be counted.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    Factory = Callable[[], asyncio.Protocol]


class MemoryLoop(asyncio.SelectorEventLoop):
    """Servers are found by their port; no byte of theirs goes through a socket."""

    def __init__(self) -> None:
        self.now = 0.0
        self.servers: dict[int, Factory] = {}
        """By port, in the order in which they came. More may be put here."""
        self._asked: dict[int, int] = {}  # ports by the file descriptor of the socket that wants to connect
        super().__init__(_Clock(self))

    def time(self) -> float:
        return self.now

    def connect(self, port: int, protocol: asyncio.Protocol) -> asyncio.Transport:
        """A connection to the server at this port."""
        near, far = _End(self, protocol, port), _End(self, self.servers[port](), port)
        near.other, far.other = far, near
        far.protocol.connection_made(far)
        near.protocol.connection_made(near)
        return near

    async def create_server(self, factory: Factory, *_: Any, sock: socket.socket, **__: Any) -> Any:  # type: ignore[override]
        self.servers[sock.getsockname()[1]] = factory
        return _Server()

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self._asked[sock.fileno()] = address[1]

    async def create_connection(self, factory: Factory, *_: Any, sock: socket.socket, **__: Any) -> Any:  # type: ignore[override]
        protocol = factory()
        port = self._asked.pop(sock.fileno())
        sock.close()
        return self.connect(port, protocol), protocol

    _scheduled: list[asyncio.TimerHandle]


class _Clock(selectors.SelectSelector):
    """Looks at no socket: to wait is to put the clock forward."""

    def __init__(self, loop: MemoryLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("Everybody waits, and no timer is set.")
        if timeout > 0:
            self._loop.now = self._loop._scheduled[0].when()
        return []


class _Server:
    sockets = ()

    def close(self) -> None:
        return

    async def wait_closed(self) -> None:
        return


class _End(asyncio.Transport):
    """One end of a connection. Nobody's reading is ever paused: who asks here does not overwhelm."""

    other: _End

    def __init__(self, loop: MemoryLoop, protocol: asyncio.Protocol, port: int) -> None:
        super().__init__({"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", port)})
        self.protocol = protocol
        self._loop = loop
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closing:
            self._loop.call_soon(self.other.protocol.data_received, bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        for end in (self, self.other):
            if not end._closing:
                end._closing = True
                self._loop.call_soon(end.protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return
