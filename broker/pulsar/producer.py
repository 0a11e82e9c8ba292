"""A producer that outlives the connections it publishes through."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING

from broker.interface import PAYLOAD_BYTES_MAX, BrokerUnavailable, PayloadTooLarge
from broker.pulsar.address import is_persistent
from broker.pulsar.failure import Result, explain_send
from broker.pulsar.frames import in_batch
from broker.pulsar.patience import patiently

if TYPE_CHECKING:
    from broker.pulsar.broker import PulsarBroker
    from broker.pulsar.channel_members import ChannelProducer

_OK = Result.Ok  # a member of an enumeration is looked up slowly
_BATCH_MAX = 1000
_BATCH_BYTES_MAX = 128 * 1024


class _Entry:
    """What is one message to the broker: one of ours, or a batch of them."""

    __slots__ = ("count", "payload", "results", "sent", "since", "size")

    def __init__(self, since: float) -> None:
        self.since = since
        """Loop time of the first of our messages in it."""
        self.sent = False
        """Whether it was written to some connection."""
        self.payload: bytes | bytearray = b""
        self.count = 0
        """Messages of a batch; 0 where it is none."""
        self.size = 0
        """Bytes of our messages, as the window counts them."""
        self.results: list[asyncio.Future[Result]] = []
        """Who waits for its receipt."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more who did."""
        return not self.count and bool(self.results) and self.results[0].done()

    def end(self, result: Result) -> None:
        """It is decided what became of it."""
        for waiting in self.results:
            if not waiting.done():
                waiting.set_result(result)


class PulsarProducer:
    """Publishes at once, or what has come within ``gather_ms`` as one entry.

    What has no receipt when the broker moves the topic is published again when it is back, in order. What has none
    after the send timeout ends, whether somebody waits for it or not: as unknown if it was ever written.
    """

    returns_by_itself = False

    def __init__(self, broker: PulsarBroker, topic: str, gather_ms: int = 0) -> None:
        self.topic = topic
        self.looks_lost = 0
        self._broker = broker
        self._window = broker.window
        self._gather_s = gather_ms / 1000
        self._inner: ChannelProducer | None = None
        self._batch: _Entry | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._timeout_s = broker.limits.send_timeout_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._sent: dict[int, _Entry] = {}
        """Without a receipt, by their numbers at the inner producer, in order."""
        self._unsent: list[_Entry] = []
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether it is attached to its topic."""
        return self._inner is not None and self._inner.attached

    async def join(self) -> None:
        """Publish from here on; raises :class:`broker.pulsar.failure.PulsarFailure`."""
        if self.connected:
            return
        inner = await patiently(self._open, self._broker.limits)
        if self._closed:
            await inner.aclose()
            return
        self._inner = inner
        unsent, self._unsent = self._unsent, []
        for entry in unsent:
            if entry.abandoned:
                self._end(entry, Result.NotConnected)
            else:
                self._write(entry)

    def give_up(self) -> None:
        """What waits for a receipt ends, as unknown if it was ever written."""
        for entry in [*self._sent.values(), *self._unsent]:
            self._end(entry, Result.NotConnected if entry.sent else Result.NotWritten)
        self._sent.clear()
        self._unsent.clear()

    async def send(self, payload: bytes) -> None:
        size = len(payload)
        if size > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(f"The payload has {size} bytes, the limit is {PAYLOAD_BYTES_MAX}.")
        inner = self._inner
        if inner is None or self._closed or not self._broker.connected:
            what = f"This producer of {self.topic} is closed" if self._closed else f"{self.topic} cannot be reached"
            raise BrokerUnavailable(f"{what} at {self._broker.address}; the message was not sent.")
        self._window.check()
        receipt: asyncio.Future[Result] = self._loop.create_future()
        self._add(payload, receipt)
        result = await inner.hear(receipt)
        if result is not _OK:
            raise explain_send(result, self.topic)

    def post(self, payload: bytes) -> None:
        inner = self._inner
        if inner is None or self._closed or not self._broker.connected or len(payload) > PAYLOAD_BYTES_MAX:
            return
        if self._gather_s or is_persistent(self.topic):
            if not self._window.full:
                self._add(payload, None)
        elif inner.attached:
            inner.post(payload)  # nobody will ask what became of it

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._broker.members.discard(self)
        self._broker.doubt(self.topic)
        self._send_batch()
        try:
            if self._inner is not None:
                await self._inner.aclose()
        finally:
            self.give_up()
            if self._expiry is not None:
                self._expiry.cancel()

    async def _open(self) -> ChannelProducer:
        await self._broker.ensure_again(self.topic)
        # Who publishes what is kept waits for each receipt; of all others nobody does.
        channel = await self._broker.channels.channel(self.topic, gathers=not is_persistent(self.topic))
        return await channel.produce(self.topic, self._receipt, self._lost)

    def _add(self, payload: bytes, receipt: asyncio.Future[Result] | None) -> None:
        size = len(payload)
        self._window.charge(1, size)
        if self._batch is not None and len(self._batch.payload) + size > _BATCH_BYTES_MAX:
            self._send_batch()
        entry = self._batch or _Entry(self._loop.time())
        entry.size += size
        if receipt is not None:
            entry.results.append(receipt)
        if not self._gather_s:
            entry.payload = payload
            self._write(entry)
            return
        entry.count += 1
        entry.payload += in_batch(payload)
        self._batch = entry
        if entry.count >= _BATCH_MAX:
            self._send_batch()
        elif self._flush is None:
            self._flush = self._loop.call_later(self._gather_s, self._send_batch)

    def _send_batch(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        entry, self._batch = self._batch, None
        if entry is not None:
            self._write(entry)

    def _write(self, entry: _Entry) -> None:
        if self._expiry is None:
            self._expiry = self._loop.call_at(entry.since + self._timeout_s, self._expire)
        inner = self._inner
        if inner is None or not inner.attached:
            self._unsent.append(entry)
            return
        number = inner.post(entry.payload, entry.count)
        if number:
            self._sent[number] = entry
            entry.sent = True
        else:
            # Of what was written once before, nobody can say that it is not there.
            self._end(entry, Result.NotConnected if entry.sent else inner.refusal(entry.payload))

    def _expire(self) -> None:
        """End what has waited too long, the oldest first: while one topic is stuck, others need the room."""
        self._expiry = None
        latest = self._loop.time() - self._timeout_s
        while self._sent and next(iter(self._sent.values())).since <= latest:
            self._end(self._sent.pop(next(iter(self._sent))), Result.Timeout)
        late = sum(entry.since <= latest for entry in self._unsent)
        for entry in self._unsent[:late]:
            self._end(entry, Result.Timeout if entry.sent else Result.NotWritten)
        del self._unsent[:late]
        oldest = next(chain(self._sent.values(), self._unsent), None)
        if oldest is not None:
            self._expiry = self._loop.call_at(oldest.since + self._timeout_s, self._expire)

    def _receipt(self, number: int, result: Result) -> None:
        entry = self._sent.pop(number, None)
        if entry is not None:
            self._end(entry, result)

    def _end(self, entry: _Entry, result: Result) -> None:
        self._window.refund(entry.count or 1, entry.size)
        entry.end(result)

    def _lost(self) -> None:
        self._unsent = [*self._sent.values(), *self._unsent]
        self._sent = {}
        self._broker.doubt(self.topic)
        self._broker.hurry()
