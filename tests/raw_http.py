"""HTTP over a plain socket: whatever bytes a test wants to send, and what comes back, read by the book."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "sk-test-0123456789abcdef"
"""The key that :func:`post` and :func:`get` show."""
JSON = ("content-type: application/json", f"authorization: Bearer {KEY}")


@dataclass(frozen=True)
class Answer:
    """A response. ``headers`` has lower-case names; ``whole`` tells whether its body ended as it should."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    @property
    def error(self) -> dict[str, Any]:
        """The error in it, with exactly the four keys of OpenAI's."""
        body = json.loads(self.body)
        assert set(body) == {"error"}, body
        error: dict[str, Any] = body["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        return error

    @property
    def events(self) -> list[Any]:
        """The data of its server-sent events: parsed, except for ``[DONE]``."""
        texts = [event for event in self.body.decode().split("\n\n") if event.startswith("data: ")]
        return [text if text == "[DONE]" else json.loads(text) for text in (each[6:] for each in texts)]


def post(body: bytes | dict[str, Any], *headers: str, path: str = "/v1/chat/completions") -> bytes:
    """A POST with a key, JSON and its length; ``headers`` replace those three."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    lines = [f"POST {path} HTTP/1.1", "host: gateway", *(headers or (*JSON, f"content-length: {len(data)}"))]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request without a body; ``headers`` replace the key."""
    lines = [f"{method} {path} HTTP/1.1", "host: gateway", *(headers or JSON[1:])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Connection:
    """One connection: ``async with Connection(port) as connection: connection.send(…); await connection.answer()``."""

    def __init__(self, port: int, *, limit: int = 2**16) -> None:
        self._port = port
        self._limit = limit

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=self._limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    @property
    def writer(self) -> asyncio.StreamWriter:
        """For what :meth:`send` does not do."""
        return self._writer

    def send(self, data: bytes) -> None:
        """Write, without waiting for anybody to take it."""
        self._writer.write(data)

    async def closed(self) -> bool:
        """Wait until the other side has closed, throwing away what still comes."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass
        return True

    async def answer(self, *, method: str = "POST") -> Answer:
        """The next response."""
        status, headers = await self.head()
        if method == "HEAD" or status == 204:
            return Answer(status, headers, b"", whole=True)
        if headers.get("transfer-encoding") == "chunked":
            parts: list[bytes] = []
            try:
                parts.extend([part async for part in self.parts()])
            except (asyncio.IncompleteReadError, ConnectionError):
                return Answer(status, headers, b"".join(parts), whole=False)
            return Answer(status, headers, b"".join(parts), whole=True)
        try:
            body = await self.piece(int(headers["content-length"]))
        except asyncio.IncompleteReadError as cut:
            return Answer(status, headers, cut.partial, whole=False)
        return Answer(status, headers, body, whole=True)

    async def piece(self, size: int) -> bytes:
        """So much of a body. Raises :class:`asyncio.IncompleteReadError` where it ends before."""
        return await self._reader.readexactly(size)

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the next response; its body is left to be read."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        assert len({name for name, _ in pairs}) == len(pairs), f"a header comes twice: {pairs}"
        return int(head[0].split(" ")[1]), {name.lower(): value for name, value in pairs}

    async def parts(self) -> AsyncIterator[bytes]:
        """The chunks of a body. Raises :class:`asyncio.IncompleteReadError` where it ends before its end."""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)


async def exchange(port: int, request: bytes, *, method: str = "POST", within_s: float = 20.0) -> Answer:
    """One request on a connection of its own."""
    async with asyncio.timeout(within_s), Connection(port) as connection:
        connection.send(request)
        return await connection.answer(method=method)
