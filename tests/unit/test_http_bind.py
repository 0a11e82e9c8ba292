"""How a process listens."""

from __future__ import annotations

import asyncio
import socket

from process.http import bind


async def test_small_packets_are_sent_at_once() -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = bind("127.0.0.1", 0, "PORT")
    async with await asyncio.start_server(hear, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await asyncio.wait_for(told, 5), "else the body of an answer waits 40 ms for the receipt of its head"
        writer.close()
        await writer.wait_closed()
