"""What the processes of one gateway say to one another: the first one, which serves nobody, and those that serve."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from gateway.processes.figures import Family

if TYPE_CHECKING:
    import socket

WORD_BYTES_MAX = 16 * 1024 * 1024
_LENGTH_BYTES = 4


class Ready(msgspec.Struct, tag="ready"):
    """To the first process: requests can be taken."""


class AllReady(msgspec.Struct, tag="all_ready"):
    """From the first process: all could take requests at once, for the first time."""


class Ask(msgspec.Struct, tag="ask"):
    """From the first process: it wants :class:`Figures`, and to know that its question is heard."""


class Figures(msgspec.Struct, tag="figures"):
    """To the first process: what this process has counted, one for each :class:`Ask`."""

    families: list[Family]


class AskAll(msgspec.Struct, tag="ask_all"):
    """To the first process: :class:`AllFigures` are wanted."""


class AllFigures(msgspec.Struct, tag="all_figures"):
    """From the first process: what all have counted."""

    families: list[Family]


class Enter(msgspec.Struct, tag="enter"):
    """To the first process: a request of a limited key wants in."""

    name: str
    concurrent_max: int


class Entered(msgspec.Struct, tag="entered"):
    """From the first process: whether it may, one for each :class:`Enter`, in their order."""

    may: bool


class Leave(msgspec.Struct, tag="leave"):
    """To the first process: a request that was let in has ended."""

    name: str


Word = Ready | AllReady | Ask | Figures | AskAll | AllFigures | Enter | Entered | Leave
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)


class Channel:
    """One end of a pair of sockets. Words come in the order in which they were said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """On this end, which it closes."""
        return cls(*await asyncio.open_connection(sock=end))

    def say(self, word: Word) -> None:
        """Send. Nothing happens if the other one has gone, which :meth:`hear` tells."""
        if self._writer.is_closing():
            return
        body = _encoder.encode(word)
        self._writer.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    async def hear(self) -> Word | None:
        """The next word; None once the other process has gone."""
        try:
            size = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            assert size <= WORD_BYTES_MAX
            return _decoder.decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def close(self) -> None:
        """The other one hears the end."""
        self._writer.close()
