"""Something that speaks as a Pulsar broker does, and says what a test wants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.pulsar.frames import Command, Fields, frame, number, text

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType


PUBLISHED_MS = 1_700_000_000_000


class Visitor:
    """One connection to a :class:`PulsarPeer`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.commands: list[tuple[Command, Fields]] = []
        self.payloads: list[bytes] = []
        self.body = b""
        """The latest command, in which a field may be repeated."""
        self._writer = writer

    @property
    def gone(self) -> bool:
        """Whether the connection has ended."""
        return self._writer.is_closing()

    def said(self, command: Command) -> list[Fields]:
        """All of one kind that it said so far."""
        return [fields for said, fields in self.commands if said == command]

    def tell(self, command: Command, body: bytes = b"") -> None:
        """Tell it something."""
        self._writer.write(frame(command, body))

    def send(self, data: bytes) -> None:
        """The same, for what is no frame."""
        self._writer.write(data)

    def deliver(self, consumer: int, entry: int, *payloads: bytes, batch: bool = False) -> None:
        """Hand it a message, or a batch of them."""
        metadata = b""
        if batch:
            metadata = number(11, len(payloads))
            singles = [number(3, len(payload)) for payload in payloads]
            payloads = tuple(
                len(single).to_bytes(4, "big") + single + each for single, each in zip(singles, payloads, strict=True)
            )
        self.deliver_raw(consumer, entry, metadata, b"".join(payloads))

    def deliver_raw(self, consumer: int, entry: int, further: bytes, payload: bytes) -> None:
        """Hand it a message with ``further`` metadata beside the usual."""
        id_ = number(1, 7) + number(2, entry)
        command = frame(Command.MESSAGE, number(1, consumer) + text(2, id_))[8:]
        metadata = text(1, b"peer") + number(2, entry) + number(3, PUBLISHED_MS) + further
        checked = b"\x0e\x01" + b"\0" * 4
        rest = checked + len(metadata).to_bytes(4, "big") + metadata + payload
        size = 4 + len(command) + len(rest)
        self.send(size.to_bytes(4, "big") + len(command).to_bytes(4, "big") + command + rest)

    def hang_up(self) -> None:
        """End the connection."""
        self._writer.transport.abort()


class PulsarPeer:
    """``async with PulsarPeer() as peer: peer.url``. ``answers`` says what is answered otherwise than in order."""

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self.visitors: list[Visitor] = []
        self.port = 0
        self.answers: dict[Command, Callable[[Visitor, Fields], None]] = {
            Command.CONNECT: lambda visitor, _: visitor.tell(Command.CONNECTED, text(1, b"peer") + number(2, 19)),
            Command.PING: lambda visitor, _: visitor.tell(Command.PONG),
            Command.LOOKUP: lambda visitor, fields: visitor.tell(Command.LOOKUP_RESPONSE, self.found(fields)),
            Command.PRODUCER: lambda visitor, fields: visitor.tell(
                Command.PRODUCER_SUCCESS, number(1, fields.number(3)) + text(2, b"name")
            ),
            Command.SUBSCRIBE: lambda visitor, fields: visitor.tell(Command.SUCCESS, number(1, fields.number(5))),
            Command.CLOSE_PRODUCER: lambda visitor, fields: visitor.tell(Command.SUCCESS, number(1, fields.number(2))),
            Command.CLOSE_CONSUMER: lambda visitor, fields: visitor.tell(Command.SUCCESS, number(1, fields.number(2))),
            Command.SEND: lambda visitor, fields: visitor.tell(
                Command.SEND_RECEIPT, number(1, fields.number(1)) + number(2, fields.number(2))
            ),
        }
        self._ssl_context = ssl_context
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> PulsarPeer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl_context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for visitor in self.visitors:
            visitor.hang_up()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def url(self) -> str:
        """Its address."""
        return f"pulsar://127.0.0.1:{self.port}"

    def found(self, asked: Fields, *, url: str | None = None, redirect: bool = False, proxied: bool = False) -> bytes:
        """The answer to a lookup."""
        host = (url or self.url).encode()
        words = text(1, host) + text(2, host.replace(b"pulsar://", b"pulsar+ssl://")) + number(3, int(not redirect))
        return words + number(4, asked.number(2)) + number(5, int(redirect)) + number(8, int(proxied))

    def all_said(self, command: Command) -> list[Fields]:
        """All of one kind that anybody said so far."""
        return [fields for visitor in self.visitors for fields in visitor.said(command)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        visitor = Visitor(writer)
        self.visitors.append(visitor)
        try:
            while True:
                whole = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
                end = 4 + int.from_bytes(whole[:4], "big")
                base = Fields(whole[4:end])
                command = Command(base.number(1))
                if command == Command.SEND:
                    visitor.payloads.append(whole[end + 4 + int.from_bytes(whole[end : end + 4], "big") :])
                fields = base.inner(command)
                visitor.body = bytes(base[command])
                visitor.commands.append((command, fields))
                if (answer := self.answers.get(command)) is not None:
                    answer(visitor, fields)
        except (asyncio.IncompleteReadError, OSError):
            writer.transport.abort()
