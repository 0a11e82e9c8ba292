"""The bytes of one connection to a broker: when they are read, what of them are whole frames, what waits to be written.

What they mean is the business of :mod:`broker.pulsar.channel`.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, TypeVar, cast

from broker.pulsar.frames import FRAME_BYTES_MAX

Heard = TypeVar("Heard")

GATHER_S = 0.1
"""Receipts that nobody waits for would wake the loop as often as all words do."""
_NO_BROKER = "what answers there is no Pulsar broker"


class Traffic(NamedTuple):
    """What has gone through a connection: pieces that came, and bytes that the kernel took, beside those that wait."""

    came: int
    taken: int
    waiting: int

    def since(self, before: Traffic) -> bool:
        """Whether the other side shows that it lives. What the kernel took while nothing waited does not: for a dead
        connection it takes megabytes too."""
        return self.came > before.came or (before.waiting > 0 and self.taken > before.taken)


class Connection(asyncio.Protocol):
    """Hands whole frames to :meth:`_take`, which a subclass has."""

    def __init__(self, *, pending_bytes_max: int, gathers: bool) -> None:
        """Above ``pending_bytes_max`` to be written it is :attr:`full`. With ``gathers``, what nobody waits for is read
        :data:`GATHER_S` later, together with all that came meanwhile."""
        self.lost = False
        self.full = False
        """Whether so much waits to be written that a further message must be dropped."""
        self._pending_bytes_max = pending_bytes_max
        self._gathers = gathers
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._came = 0
        self._written = 0
        self._awaited = 0
        self._reads_later: asyncio.TimerHandle | None = None
        self._reads_now = False
        """Whether what came meanwhile is about to be read."""
        self._rest = bytearray()
        self._needed = 0

    @property
    def traffic(self) -> Traffic:
        """What has gone through it so far."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return Traffic(self._came, self._written - waiting, waiting)

    async def hear(self, future: asyncio.Future[Heard]) -> Heard:
        """Wait for what the broker says, however long it takes."""
        self._awaited += 1
        self._read()
        try:
            return await future
        finally:
            self._awaited -= 1

    def write(self, data: bytes) -> None:
        """Have it written; what cannot be is lost with the connection."""
        if self._transport is not None and not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def post(self, data: bytes) -> None:
        """The same, for what the broker has an answer to that nobody waits for."""
        self.write(data)
        if self._gathers and self._reads_later is None and not self._reads_now:
            self._read_later()

    def abort(self) -> None:
        """End at once: the other side does not answer any more."""
        # asyncio's own transport raises once it is gone, if something was still to be written when it was closed.
        if self._transport is not None and not self.lost:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(self._pending_bytes_max)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self._reads_later is not None:
            self._reads_later.cancel()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False

    def data_received(self, data: bytes) -> None:
        self._came += 1
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        while end - at >= 4:
            begin = at + 4
            stop = begin + int.from_bytes(data[at:begin], "big")
            if stop - begin > FRAME_BYTES_MAX:
                self._refuse(EOFError(_NO_BROKER))
                self.abort()
                return
            if stop > end:
                break
            try:
                self._take(data, begin, stop)
            except IndexError:  # a command that ends before its end
                self._refuse(EOFError(_NO_BROKER))
                self.abort()
                return
            at = stop
        if at < end:
            self._rest += data[at:]
            self._needed = 4 if end - at < 4 else stop - at
        if self._gathers and self._reads_later is None:
            self._read_later()

    def _read_later(self) -> None:
        if self._transport is not None and not self._awaited and not self._transport.is_closing():
            self._transport.pause_reading()
            self._reads_later = self._loop.call_later(GATHER_S, self._read)

    def _read(self) -> None:
        if self._reads_later is not None:
            self._reads_later.cancel()
            self._reads_later = None
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()
                # The loop does so at the end of its next turn. Who posts in each would put that off for ever.
                self._reads_now = True
                self._loop.call_soon(self._loop.call_soon, self._has_read)

    def _has_read(self) -> None:
        self._reads_now = False

    def _take(self, data: bytes, at: int, stop: int) -> None:
        """One frame without its size. Raises IndexError for a command that ends before its end."""
        raise NotImplementedError

    def _refuse(self, error: Exception) -> None:
        """The other side is no broker."""
        raise NotImplementedError
