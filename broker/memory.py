"""The memory broker: everything in one process, nothing durable. The twin of Pulsar in tests and for a first look."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from broker.gather import Gather
from broker.interface import PAYLOAD_BYTES_MAX, BrokerError, BrokerUnavailable, PayloadTooLarge
from broker.mailbox import Mailbox
from broker.memory_server import Entry, MemoryServer, Subscription, Topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Delivery, Kind

__all__ = ["MemoryBroker", "MemoryServer"]


class MemoryDelivery:
    """One message as it was handed to one consumer."""

    __slots__ = ("payload", "published_ms", "sequence")

    def __init__(self, entry: Entry) -> None:
        self.payload = entry.payload
        self.published_ms = entry.published_ms
        self.sequence = entry.sequence


class MemoryProducer:
    """Publishes to one topic of a :class:`MemoryServer`."""

    def __init__(self, broker: MemoryBroker, topic: Topic) -> None:
        self._broker = broker
        self._topic = topic
        self._closed = False

    async def send(self, payload: bytes) -> None:
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(f"The payload has {len(payload)} bytes, the limit is {PAYLOAD_BYTES_MAX}.")
        if self._closed:
            raise BrokerUnavailable(f"This producer of {self._topic.name} is closed.")
        self._broker.check()
        self._topic.publish(payload, time.time_ns() // 1_000_000)
        # A receipt always takes a turn of the loop; without one a sender could starve its consumers.
        await asyncio.sleep(0)

    def post(self, payload: bytes) -> None:
        if len(payload) > PAYLOAD_BYTES_MAX or self._closed or not self._broker.connected:
            return
        try:
            self._topic.publish(payload, time.time_ns() // 1_000_000)
        except BrokerError:
            return

    async def aclose(self) -> None:
        self._closed = True
        self._broker.producers.discard(self)


class MemoryConsumer:
    """One member of a subscription of a :class:`MemoryServer`."""

    def __init__(self, broker: MemoryBroker, subscription: Subscription, prefetch: int) -> None:
        self._broker = broker
        self._subscription = subscription
        self._mailbox: Mailbox[MemoryDelivery] = Mailbox(subscription.dispatch, ahead=prefetch)
        self._nacks: Gather[int] = Gather(self._hand_back_later, broker.server.nack_tick_s)
        self._kind: Kind | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryConsumer permits={self._mailbox.asked} ready={self._mailbox.ready} of {self._subscription!r}>"

    @property
    def permits(self) -> int:
        """How many messages it would take now."""
        return self._mailbox.asked

    def held(self) -> int:
        """How many messages it holds, not acknowledged."""
        return self._subscription.held_by(self)

    def join(self, kind: Kind) -> None:
        """Enter the subscription and ask for what may wait ahead."""
        self._kind = kind
        self._subscription.join(self, kind)
        self._mailbox.top_up()

    def part(self) -> None:
        """The connection is lost: what is held goes to others, and calls that wait go on waiting."""
        self._subscription.leave(self)

    def rejoin(self) -> None:
        """The connection is there again. What it had brought and nobody took comes once more."""
        assert self._kind is not None
        self._subscription.join(self, self._kind)
        self._mailbox.restart()

    def deliver(self, entry: Entry) -> None:
        """Take one message from the server, for one permit."""
        self._mailbox.arrive(MemoryDelivery(entry))

    async def receive(self) -> MemoryDelivery:
        return await self._mailbox.receive()

    def ack(self, delivery: Delivery) -> None:
        assert isinstance(delivery, MemoryDelivery)
        if not self._closed:
            self._subscription.ack(delivery.sequence)

    def nack(self, delivery: Delivery) -> None:
        assert isinstance(delivery, MemoryDelivery)
        if not self._closed:
            self._nacks.add(delivery.sequence)

    def stop(self) -> None:
        """Take nothing more; what is held stays held until :meth:`aclose`."""
        self._closed = True
        self._nacks.cancel()
        self._mailbox.close()

    async def aclose(self) -> None:
        self.stop()
        self._broker.consumers.pop(self, None)
        self._subscription.leave(self)

    def _hand_back_later(self, sequences: list[int]) -> None:
        asyncio.get_running_loop().call_later(
            self._broker.server.nack_delay_s, self._subscription.hand_back, self, sequences
        )


class MemoryListener:
    """Hears one non-persistent topic of a :class:`MemoryServer`."""

    def __init__(self, broker: MemoryBroker, topic: Topic, hear: Callable[[bytes], None], waiting_max: int) -> None:
        self._broker = broker
        self._topic = topic
        self._hear = hear
        self._waiting_max = waiting_max
        self._waiting: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()

    def offer(self, payload: bytes) -> bool:
        """Take one message, to be heard in the next turn of the loop."""
        if len(self._waiting) >= self._waiting_max:
            return False
        self._waiting.append(payload)
        self._loop.call_soon(self._hear_next)
        return True

    async def aclose(self) -> None:
        self._waiting.clear()
        self._broker.listeners.pop(self, None)
        self.part()

    def part(self) -> None:
        """The connection is lost: what is published meanwhile is not heard."""
        if self in self._topic.listeners:
            self._topic.listeners.remove(self)

    def rejoin(self) -> None:
        """Hear what is published from here on."""
        self._topic.listeners.append(self)

    def _hear_next(self) -> None:
        if self._waiting:
            self._hear(self._waiting.popleft())


class MemoryBroker:
    """One connection to a :class:`MemoryServer`; without one given it makes its own."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        self.server = server or MemoryServer()
        self.producers: set[MemoryProducer] = set()
        # In the order of their joining, which is that of their leaving.
        self.consumers: dict[MemoryConsumer, None] = {}
        self.listeners: dict[MemoryListener, None] = {}
        self._lost = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<MemoryBroker producers={len(self.producers)} consumers={len(self.consumers)} {self.server!r}>"

    @property
    def durable(self) -> bool:
        return False

    @property
    def connected(self) -> bool:
        return self.server.available and not self._closed and not self._lost

    def check(self) -> None:
        """Raise :class:`BrokerUnavailable` if this connection cannot be used now."""
        if self._closed:
            raise BrokerUnavailable("This connection to the memory broker is closed.")
        if self._lost:
            raise BrokerUnavailable("This connection to the memory broker is set to be lost.")
        self.server.check_available()

    def set_lost(self, lost: bool) -> None:
        """For tests: lose this connection, so that what its consumers hold goes to others, or find it again."""
        if lost != self._lost:
            self._lost = lost
            members: list[MemoryListener | MemoryConsumer] = [*self.listeners, *self.consumers]
            for member in members:
                if lost:
                    member.part()
                else:
                    member.rejoin()

    async def connect(self) -> None:
        self.check()

    async def ensure(self, topic: str, subscription: str) -> None:
        self.check()
        self.server.topic(topic).subscription(subscription, from_earliest=True)

    async def producer(self, topic: str, *, gather_ms: int = 0) -> MemoryProducer:
        self.check()
        producer = MemoryProducer(self, self.server.topic(topic))
        self.producers.add(producer)
        return producer

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> MemoryConsumer:
        self.check()
        group = self.server.topic(topic).subscription(subscription, from_earliest=from_earliest)
        consumer = MemoryConsumer(self, group, prefetch)
        consumer.join(kind)
        self.consumers[consumer] = None
        return consumer

    async def listen(
        self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int, gathers: bool = False
    ) -> MemoryListener:
        self.check()
        listener = MemoryListener(self, self.server.topic(topic), hear, waiting_max)
        listener.rejoin()
        self.listeners[listener] = None
        return listener

    async def aclose(self) -> None:
        self._closed = True
        for producer in list(self.producers):
            await producer.aclose()
        for listener in list(self.listeners):
            await listener.aclose()
        # All stop before the first one leaves: a dying connection must not hand its messages to itself.
        for consumer in self.consumers:
            consumer.stop()
        for consumer in list(self.consumers):
            await consumer.aclose()
