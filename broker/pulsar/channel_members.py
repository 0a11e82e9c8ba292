"""What publishes and what hears on one :class:`broker.pulsar.channel.Channel`, for as long as it lasts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from broker.pulsar.failure import Result
from broker.pulsar.frames import (
    Command,
    Fields,
    batched,
    frame,
    message_frame,
    number,
    read_varint,
    text,
    unwrapped,
    varint,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from broker.pulsar.channel import Channel

_INDIVIDUAL = 0
_COMPRESSION, _BATCH, _BATCH_TAG = 8, 11, b"\x58"
_PERMITS_MAX = 2**31 - 1
"""The broker takes more for less than none, and hangs up."""


class ChannelProducer:
    """Publishes to one topic through one :class:`broker.pulsar.channel.Channel`."""

    __slots__ = ("_begin", "_channel", "_head", "_on_lost", "_sequence", "attached", "id", "receipt")

    def __init__(
        self, channel: Channel, id_: int, receipt: Callable[[int, Result], None], on_lost: Callable[[], None]
    ) -> None:
        self.id = id_
        self.attached = False
        self.receipt = receipt
        """Gets the number of each message that the broker has, or refuses."""
        self._channel = channel
        self._on_lost = on_lost
        self._sequence = 0
        self._begin = number(1, id_)
        self._head = b""

    def begin(self, name: str) -> None:
        """It may publish, under this name."""
        self._head = text(1, name.encode())
        self.attached = True

    def post(self, payload: bytes | bytearray, batch: int = 0) -> int:
        """Publish, and return the number of the message; 0 if it was dropped (:meth:`refusal` says why).

        ``batch`` is how many messages the payload is a batch of, 0 if it is none.
        """
        channel = self._channel
        if channel.full or len(payload) > channel.payload_bytes_max:
            return 0
        self._sequence = sequence = self._sequence + 1
        numbered = b"\x10" + varint(sequence)
        inner = self._begin + numbered
        metadata = b"%b%b\x18%b" % (self._head, numbered, varint(int(time.time() * 1000)))
        if batch:
            inner += number(3, batch)
            metadata += number(11, batch)
        channel.post(message_frame(b"\x08\x06\x32%c%b" % (len(inner), inner), metadata, payload))
        return sequence

    def refusal(self, payload: bytes | bytearray) -> Result:
        """Why there is no room for it."""
        return Result.MessageTooBig if len(payload) > self._channel.payload_bytes_max else Result.ProducerQueueIsFull

    async def hear(self, receipt: asyncio.Future[Result]) -> Result:
        """Wait for a receipt."""
        return await self._channel.hear(receipt)

    def lose(self) -> None:
        """It publishes nothing more."""
        self.attached = False
        self._on_lost()

    async def aclose(self) -> None:
        """Leave the topic when all is written."""
        await self._channel.close_producer(self)


class PulledMessage:
    """One message as it was handed to one consumer; whatever we cannot unpack is its payload as it came."""

    __slots__ = ("count", "id", "payload", "published_ms", "taker")

    def __init__(self, taker: ChannelConsumer, id_: bytes, metadata: bytes, payload: bytes) -> None:
        self.taker = taker
        self.id = id_
        """The broker's name for it, as it wrote it."""
        self.payload = payload
        self.published_ms = 0
        self.count = 1
        """How many messages it is to the broker."""
        try:
            fields = Fields(metadata)
            self.published_ms = fields.number(3)
            self.count = _in_batch(fields) or 1
            # Who gathers may have gathered one. Of several, a permit for one cannot take a part.
            if _BATCH in fields and self.count == 1 and not fields.number(_COMPRESSION):
                self.payload = batched(payload, 1)[0]
        except IndexError:
            pass  # whoever reads it will find that nobody can


class ChannelConsumer:
    """One member of a subscription of a persistent topic, on one :class:`broker.pulsar.channel.Channel`."""

    __slots__ = ("_channel", "_on_lost", "_take", "attached", "id")

    def __init__(
        self, channel: Channel, id_: int, take: Callable[[PulledMessage], None], on_lost: Callable[[], None]
    ) -> None:
        self.id = id_
        self.attached = False
        self._channel = channel
        self._take = take
        self._on_lost = on_lost

    def permit(self, messages: int) -> None:
        """Let the broker send so many more."""
        self._channel.write(frame(Command.FLOW, number(1, self.id) + number(2, messages)))

    def take(self, data: bytes, at: int, end: int, stop: int) -> None:
        """One message: its id is in ``data`` at ``at``, itself from ``end`` to ``stop``."""
        size, at = read_varint(data, at + 1)
        message = PulledMessage(self, data[at : at + size], *unwrapped(data, end, stop))
        if message.count > 1:
            # A foreign batch took as many permits as it has messages, and one was asked for.
            self.permit(message.count - 1)
        self._take(message)
        if message.count < 0:
            self._channel.dismiss(self)

    def acknowledge(self, messages: list[PulledMessage]) -> None:
        """These are done with."""
        ids = b"".join(text(3, message.id) for message in messages)
        self._channel.write(frame(Command.ACK, number(1, self.id) + number(2, _INDIVIDUAL) + ids))

    def hand_back(self, messages: list[PulledMessage]) -> None:
        """These are for others. Those that this one does not hold any more stay where they are."""
        ids = b"".join(text(2, message.id) for message in messages)
        self._channel.write(frame(Command.REDELIVER, number(1, self.id) + ids))

    def lose(self) -> None:
        """It gets nothing more."""
        self.attached = False
        self._on_lost()

    async def aclose(self) -> None:
        """Leave; what it holds goes to others."""
        await self._channel.close_consumer(self)


class ChannelReader:
    """Hears one non-persistent topic on one :class:`broker.pulsar.channel.Channel`."""

    __slots__ = ("_channel", "_half", "_hear", "_on_lost", "_taken", "attached", "id")

    def __init__(
        self, channel: Channel, id_: int, hear: Callable[[bytes], None], permits: int, on_lost: Callable[[], None]
    ) -> None:
        self.id = id_
        self.attached = False
        self._channel = channel
        self._hear = hear
        self._half = (permits + 1) // 2
        self._on_lost = on_lost
        self._taken = 0

    def permit(self, messages: int) -> None:
        """Let the broker send so many more."""
        self._channel.write(frame(Command.FLOW, number(1, self.id) + number(2, messages)))

    def take(self, data: bytes, _: int, end: int, stop: int) -> None:
        """One message, which used one permit up, or a batch of them."""
        metadata, payload = unwrapped(data, end, stop)
        count, heard = 0, [payload]
        # Nobody of ours gathers what is heard; looking for the number's tag spares reading all of it each time.
        if _BATCH_TAG in metadata:
            try:
                if (count := _in_batch(Fields(metadata))) > 0:
                    heard = batched(payload, count)
            except IndexError:
                pass  # whoever hears it will find that nobody can read it
        if count < 0:
            self._channel.dismiss(self)
        self._taken += max(count, 1)
        if self._taken >= self._half:
            permits = min(self._taken, _PERMITS_MAX)
            self.permit(permits)
            self._taken -= permits
        for each in heard:
            self._hear(each)

    def lose(self) -> None:
        """It hears nothing more."""
        self.attached = False
        self._on_lost()

    async def aclose(self) -> None:
        """Hear nothing more."""
        await self._channel.close_consumer(self)


def _in_batch(fields: Fields) -> int:
    """How many messages it is a batch of, as the broker reads it: 32 bits with a sign. 0 where it is none.

    For less than none the broker gives permits instead of taking them, as many as it can count or more: then nobody can
    tell what it still delivers, and only who joins anew can be sure.
    """
    count = fields.number(_BATCH) & 0xFFFF_FFFF
    return count if count <= _PERMITS_MAX else count - 2**32
