"""A producer whose messages take their time, and whose receipts tell less than one would like."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from broker.interface import PAYLOAD_BYTES_MAX, BrokerError, BrokerUnavailable, PayloadTooLarge, SendUnknown
from process.identity import now_ms
from tests.simulation.sea import short
from tests.simulation.virtual_loop import WORLD
from tests.simulation.words import told

if TYPE_CHECKING:
    from broker.memory_server import Topic
    from tests.simulation.rough_broker import RoughBroker

STEP_S = 1e-6
"""Messages of one producer arrive one after the other."""
CLOSE_WAIT_S = 5.0


class _Message:
    """On its way. ``receipt`` is None for what was posted."""

    __slots__ = ("payload", "published_ms", "receipt", "sent")

    def __init__(self, payload: bytes, published_ms: int, receipt: asyncio.Future[None] | None) -> None:
        self.payload, self.published_ms, self.receipt = payload, published_ms, receipt
        self.sent = False


class RoughProducer:
    """Messages arrive in the order of the calls; after a lost connection those without a receipt are sent again."""

    def __init__(self, broker: RoughBroker, topic: Topic, gather_s: float) -> None:
        self.topic = topic
        self._broker, self._sea, self._gather_s = broker, broker.sea, gather_s
        self._under_way: deque[_Message] = deque()
        self._last_at = self._written_at = 0.0
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False
        self.unanswered = 0
        """Calls of :meth:`send` that wait for a receipt."""

    async def send(self, payload: bytes) -> None:
        life, sea = self._broker.life, self._sea
        if not life.alive:
            await life.silence()
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(f"The payload has {len(payload)} bytes.")
        if self._closed or not self._broker.connected:
            raise BrokerUnavailable("There is no connection to the broker; the message was not sent.")
        receipt: asyncio.Future[None] = sea.loop.create_future()
        message = _Message(payload, now_ms(), receipt)
        self._put(message)
        timer = sea.loop.call_later(sea.weather.unknown_after_s, self._give_up, message, context=WORLD)
        self.unanswered += 1
        try:
            await receipt
        finally:
            self.unanswered -= 1
            timer.cancel()

    def post(self, payload: bytes) -> None:
        if self._broker.life.alive and self._broker.connected and not self._closed:
            self._put(_Message(payload, now_ms(), None))

    async def aclose(self) -> None:
        if self._closed or not self._broker.life.alive:
            return
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._empty.wait()
        except TimeoutError:
            pass
        self._broker.forget(self)

    def broke(self) -> None:
        """The connection broke: the broker has some of what was under way, and no receipt of it will come."""
        sent = [message for message in self._under_way if message.sent]
        for message in sent[: self._sea.random.randint(0, len(sent))]:
            self._sea.store(self.topic, message.payload, message.published_ms)
            if self.topic.persistent:
                self._sea.doubled += 1

    def resume(self) -> None:
        """There is a connection again: send what has no receipt."""
        if self._broker.up and self._sea.takes(self.topic):
            for message in self._under_way:
                self._send(message)

    def died(self) -> None:
        """Some of what was under way has left the process in time."""
        # What the network held back is lost with its host.
        left = 0 if self._broker.mute_until > self._sea.loop.now else self._sea.random.randint(0, len(self._under_way))
        for message in list(self._under_way)[left:]:
            self._under_way.remove(message)

    def _put(self, message: _Message) -> None:
        trace = self._sea.trace
        if trace.wanted:
            trace.add(self._broker.life.name, f"sends to {short(self.topic.name)}: {told(message.payload)}")
        self._under_way.append(message)
        self._empty.clear()
        if self._broker.up and self._sea.takes(self.topic):
            self._send(message)

    def _send(self, message: _Message) -> None:
        sea = self._sea
        way_s = sea.some(sea.weather.latency_s + self._gather_s)
        if not message.sent:
            message.sent = True
            sea.overheard.hear(self.topic.name, message.payload, sea.loop.now)
        self._last_at = max(self._last_at + STEP_S, sea.loop.now + way_s, self._broker.mute_until)
        sea.loop.call_at(self._last_at, self._arrive, message, self._broker.since_up, context=WORLD)

    def _arrive(self, message: _Message, since_up: int) -> None:
        if since_up != self._broker.since_up or message not in self._under_way or not self._sea.takes(self.topic):
            return
        sea, weather = self._sea, self._sea.weather
        if self.topic.persistent and (writing_s := sea.writing_s()):
            self._written_at = max(self._written_at + STEP_S, sea.loop.now + writing_s)
            sea.loop.call_at(self._written_at, self._written, message, since_up, context=WORLD)
            return
        self._leave(message)
        if self.topic.persistent and sea.happens(weather.unknown):
            # It is slow, or stuck, inside the broker: its sender gives up waiting.
            if sea.happens(0.5):
                after_s = sea.some(2 * weather.unknown_after_s)
                sea.loop.call_later(after_s, self._store, message, context=WORLD)
            return
        self._store(message)
        if self.topic.persistent and sea.happens(weather.twice):
            sea.doubled += 1
            sea.loop.call_later(sea.some(1.0), self._store, message, context=WORLD)
        self._confirm(message)

    def _written(self, message: _Message, since_up: int) -> None:
        if since_up == self._broker.since_up:
            self._leave(message)
            self._store(message)
            self._confirm(message)

    def _leave(self, message: _Message) -> None:
        if message in self._under_way:
            self._under_way.remove(message)
        if not self._under_way:
            self._empty.set()

    def _confirm(self, message: _Message) -> None:
        at = max(self._sea.loop.now + self._sea.some(self._sea.weather.latency_s), self._broker.deaf_until)
        self._sea.loop.call_at(at, self._receipt, message, context=WORLD)

    def _store(self, message: _Message) -> None:
        self._sea.store(self.topic, message.payload, message.published_ms)

    def _receipt(self, message: _Message) -> None:
        if message.receipt is not None and not message.receipt.done():
            message.receipt.set_result(None)

    def _give_up(self, message: _Message) -> None:
        if message in self._under_way:
            self._under_way.remove(message)
        if message.receipt is not None and not message.receipt.done():
            told: BrokerError = SendUnknown("No receipt came in time.")
            if not message.sent:
                told = BrokerUnavailable("The topic could not be reached; the message was not sent.")
            message.receipt.set_exception(told)
