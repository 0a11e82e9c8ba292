"""A consumer whose acknowledgements are believed long before they are written down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.memory_server import NON_PERSISTENT
from tests.simulation.sea import short
from tests.simulation.virtual_loop import WORLD
from tests.simulation.words import told

if TYPE_CHECKING:
    from broker.interface import Delivery
    from broker.memory import MemoryConsumer, MemoryDelivery
    from tests.simulation.rough_broker import RoughBroker


class _Ack:
    """Given by the process at some time, with the broker from ``sent_at`` on, and written down by ``timer``."""

    __slots__ = ("delivery", "sent_at", "timer")

    def __init__(self, delivery: Delivery, sent_at: float, timer: asyncio.TimerHandle) -> None:
        self.delivery, self.sent_at, self.timer = delivery, sent_at, timer


class RoughConsumer:
    """One member of a subscription."""

    def __init__(self, broker: RoughBroker, topic: str, inner: MemoryConsumer) -> None:
        self.topic = topic
        self._broker, self._sea, self._inner = broker, broker.sea, inner
        self._passing = topic.startswith(NON_PERSISTENT)
        self._acks: dict[int, _Ack] = {}
        """By sequence number."""

    async def receive(self) -> MemoryDelivery:
        delivery = await self._inner.receive()
        await asyncio.sleep(max(0.0, self._broker.deaf_until - self._sea.loop.now))
        trace = self._sea.trace
        if trace.wanted:
            trace.add(self._broker.life.name, f"hears from {short(self.topic)}: {told(delivery.payload)}")
        return delivery

    def ack(self, delivery: MemoryDelivery) -> None:
        sea = self._sea
        if self._passing or not self._broker.life.alive or delivery.sequence in self._acks:
            return
        sent_at = max(self._broker.mute_until, sea.loop.now + sea.some(sea.weather.acks_gathered_s))
        late_s = sea.some(sea.weather.late_s) if sea.happens(sea.weather.acks_late) else 0.0
        timer = sea.loop.call_at(sent_at + late_s, self._write, delivery, context=WORLD)
        self._acks[delivery.sequence] = _Ack(delivery, sent_at, timer)
        sea.trace.add(self._broker.life.name, f"acknowledges {short(self.topic)} {delivery.sequence}")

    def nack(self, delivery: MemoryDelivery) -> None:
        if self._broker.life.alive:
            self._sea.trace.add(self._broker.life.name, f"hands back {short(self.topic)} {delivery.sequence}")
            self._inner.nack(delivery)

    async def aclose(self) -> None:
        if self._broker.life.alive:
            self.flush()
            await self._inner.aclose()
            self._broker.forget(self)

    def held(self) -> int:
        """How many deliveries it has and has not acknowledged."""
        return self._inner.held()

    def flush(self) -> None:
        """Leaving in order: everything is written down."""
        for ack in list(self._acks.values()):
            self._write(ack.delivery)

    def unsettle(self) -> None:
        """What is not written down is lost, or not."""
        for ack in list(self._acks.values()):
            if self._sea.happens(self._sea.weather.acks_lost):
                self._lose(ack)

    def died(self) -> None:
        """What the process still gathered is lost; the rest is with the broker."""
        for ack in list(self._acks.values()):
            if ack.sent_at > self._sea.loop.now:
                self._lose(ack)
            else:
                self._write(ack.delivery)

    def _lose(self, ack: _Ack) -> None:
        self._sea.trace.add("broker", f"loses the acknowledgement of {short(self.topic)} {self._number(ack.delivery)}")
        ack.timer.cancel()
        del self._acks[self._number(ack.delivery)]

    def _write(self, delivery: Delivery) -> None:
        self._acks.pop(self._number(delivery)).timer.cancel()
        self._inner.ack(delivery)

    def _number(self, delivery: Delivery) -> int:
        number: int = delivery.sequence  # type: ignore[attr-defined]
        return number
