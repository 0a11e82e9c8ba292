"""A connection to the memory broker on which everything may happen that Pulsar allows itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.interface import BrokerUnavailable
from broker.memory import MemoryBroker
from tests.simulation.rough_consumer import RoughConsumer
from tests.simulation.rough_listener import RoughListener
from tests.simulation.rough_producer import RoughProducer
from tests.simulation.virtual_loop import WORLD

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Kind
    from tests.simulation.life import Life
    from tests.simulation.sea import Sea

NOTICED_S = 2.0
"""Within so long a process knows that its connection is lost; before that what it sends only waits."""
OPEN_WAIT_S = 10.0


class RoughBroker:
    """One for each life. A dead one's calls return nothing and do nothing."""

    def __init__(self, sea: Sea, life: Life) -> None:
        self.sea, self.life = sea, life
        self.inner = MemoryBroker(sea.server)
        self.up = sea.server.available
        self.since_up = 0
        """Counts the connections: what was under way on an earlier one never arrives by it."""
        self.mute_until = 0.0
        """Loop time until which nothing that it sends gets through; it arrives then."""
        self.deaf_until = 0.0
        """The same of what it should hear."""
        self._known_lost = not self.up
        self._found = asyncio.Event()
        self._producers: list[RoughProducer] = []
        self._consumers: list[RoughConsumer] = []
        sea.connections.append(self)
        life.on_death.append(self._died)
        if self.up:
            self._found.set()
        else:
            sea.loop.call_later(sea.some(NOTICED_S), self._try, context=WORLD)

    @property
    def durable(self) -> bool:
        return True

    @property
    def connected(self) -> bool:
        return not self._known_lost

    async def connect(self) -> None:
        await self._reach()

    async def ensure(self, topic: str, subscription: str) -> None:
        await self._reach()
        await self.inner.ensure(topic, subscription)

    async def producer(self, topic: str, *, gather_ms: int = 0) -> RoughProducer:
        await self._reach()
        producer = RoughProducer(self, self.sea.server.topic(topic), gather_ms / 1000)
        self._producers.append(producer)
        return producer

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> RoughConsumer:
        await self._reach()
        inner = await self.inner.consumer(topic, subscription, kind, prefetch=prefetch, from_earliest=from_earliest)
        consumer = RoughConsumer(self, topic, inner)
        self._consumers.append(consumer)
        return consumer

    async def listen(
        self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int, gathers: bool = False
    ) -> RoughListener:
        await self._reach()
        listener = RoughListener(self, topic, hear, waiting_max)
        listener.inner = await self.inner.listen(topic, listener.arrive, waiting_max=waiting_max)
        return listener

    async def aclose(self) -> None:
        for producer in list(self._producers):
            await producer.aclose()
        for consumer in list(self._consumers):
            consumer.flush()
        await self.inner.aclose()
        self._leave()

    def lose(self, seconds: float) -> None:
        """The connection breaks, and is there again after so long. What is held goes to others."""
        if not self.up:
            return
        self.sea.trace.add(self.life.name, f"loses its connection for {seconds:.3f} s")
        self.up = False
        self.since_up += 1
        self._found.clear()
        self.broke()
        self.inner.set_lost(True)
        loop, count = self.sea.loop, self.since_up
        loop.call_later(self.sea.some(NOTICED_S), self._notice, count, context=WORLD)
        loop.call_later(seconds, self._try, context=WORLD)

    def broke(self) -> None:
        """Receipts and acknowledgements that were under way are lost, or not."""
        for producer in self._producers:
            producer.broke()
        for consumer in self._consumers:
            consumer.unsettle()

    def mute(self, seconds: float) -> None:
        """The network carries nothing from here for so long."""
        self.sea.trace.add(self.life.name, f"is mute for {seconds:.3f} s")
        self.mute_until = self.sea.loop.now + seconds

    def deafen(self, seconds: float) -> None:
        """The network carries nothing to here for so long."""
        self.sea.trace.add(self.life.name, f"is deaf for {seconds:.3f} s")
        self.deaf_until = self.sea.loop.now + seconds

    def blocked(self, topic: str) -> None:
        """A topic takes nothing more."""
        for producer in self._producers:
            if producer.topic.name == topic:
                producer.broke()

    def taken_again(self, topic: str) -> None:
        """It takes messages again."""
        for producer in self._producers:
            if producer.topic.name == topic:
                producer.resume()

    def unsettle(self, topic: str) -> None:
        """The same for one topic, which moves."""
        for producer in self._producers:
            if producer.topic.name == topic:
                producer.broke()
                producer.resume()
        for consumer in self._consumers:
            if consumer.topic == topic:
                consumer.unsettle()

    def held(self) -> int:
        """How many deliveries of persistent topics it has and has not acknowledged."""
        return sum(consumer.held() for consumer in self._consumers)

    def unanswered(self) -> int:
        """How many sends wait for their receipts."""
        return sum(producer.unanswered for producer in self._producers)

    def forget(self, member: RoughProducer | RoughConsumer) -> None:
        """It has left its topic."""
        if isinstance(member, RoughProducer):
            self._producers.remove(member)
        else:
            self._consumers.remove(member)

    async def _reach(self) -> None:
        if not self.life.alive:
            await self.life.silence()
        await asyncio.sleep(self.sea.some(2 * self.sea.weather.latency_s))
        if self.up:
            return
        try:
            async with asyncio.timeout(0.0 if self._known_lost else OPEN_WAIT_S):
                await self._found.wait()
        except TimeoutError:
            raise BrokerUnavailable("The connection to the broker is lost.") from None

    def _notice(self, count: int) -> None:
        if count == self.since_up and not self.up:
            self._known_lost = True

    def _try(self) -> None:
        if self.up or self not in self.sea.connections:
            return
        if not self.sea.server.available:
            self.sea.loop.call_later(self.sea.some(NOTICED_S), self._try, context=WORLD)
            return
        self.sea.trace.add(self.life.name, "is connected")
        self.up, self._known_lost = True, False
        self.inner.set_lost(False)
        for producer in self._producers:
            producer.resume()
        self._found.set()

    def _died(self) -> None:
        """What was given to the network before arrives; what was held goes to others once the broker notices."""
        sea = self.sea
        for producer in self._producers:
            producer.died()
        for consumer in self._consumers:
            consumer.died()
        unseen = sea.happens(sea.weather.death_unseen)
        after_s = sea.some(sea.weather.keep_alive_s) if unseen else sea.some(0.01)
        sea.loop.call_later(after_s, self._leave, context=WORLD)

    def _leave(self) -> None:
        if self in self.sea.connections:
            self.sea.connections.remove(self)
            self.inner.set_lost(True)
            self._consumers.clear()
