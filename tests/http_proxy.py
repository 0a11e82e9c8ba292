"""An HTTP proxy, such as the only way out of many networks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from urllib.parse import urlsplit


class HttpProxy:
    """``async with HttpProxy() as proxy: proxy.url``. With a ``password`` it lets nobody through without it."""

    def __init__(self, password: str = "") -> None:
        self.asked: list[str] = []
        """What was asked for: ``CONNECT host:port``, or a method and an address."""
        self._authorization = base64.b64encode(f"user:{password}".encode()).decode() if password else ""
        self._user = f"user:{password}@" if password else ""
        self._server: asyncio.Server

    async def __aenter__(self) -> HttpProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        """With the password."""
        return f"http://{self._user}127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            self.asked.append(f"{method} {target}")
            if self._authorization and f"Basic {self._authorization}" not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
                return
            address = urlsplit(target if "://" in target else f"//{target}")
            there, here = await asyncio.open_connection(address.hostname, address.port)
            with contextlib.closing(here):
                if method == "CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    here.write(head.encode("latin-1"))
                ways = [asyncio.ensure_future(_carry(*way)) for way in ((reader, here), (there, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
