"""A listener that hears in the name of its process: not after its death, and later if that is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.sea import short
from tests.simulation.virtual_loop import WORLD
from tests.simulation.words import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.memory import MemoryListener
    from tests.simulation.rough_broker import RoughBroker


class RoughListener:
    """Hears one topic. ``waiting_max`` counts what waits for a frozen process too."""

    def __init__(self, broker: RoughBroker, topic: str, hear: Callable[[bytes], None], waiting_max: int) -> None:
        self.topic = topic
        self.inner: MemoryListener | None = None
        """Set at once: the two know each other."""
        self._broker, self._hear, self._waiting_max = broker, hear, waiting_max
        self._waiting = 0

    def arrive(self, payload: bytes) -> None:
        """A message has come over the network."""
        broker = self._broker
        if broker.deaf_until > broker.sea.loop.now:
            broker.sea.loop.call_at(broker.deaf_until, self._arrive_late, payload, broker.since_up, context=WORLD)
            return
        if self._waiting < self._waiting_max:
            self._waiting += 1
            self._broker.life.soon(self._heard, payload)

    async def aclose(self) -> None:
        if self._broker.life.alive and self.inner is not None:
            await self.inner.aclose()

    def _arrive_late(self, payload: bytes, since_up: int) -> None:
        if since_up == self._broker.since_up:
            self.arrive(payload)

    def _heard(self, payload: bytes) -> None:
        self._waiting -= 1
        trace = self._broker.sea.trace
        if trace.wanted:
            trace.add(self._broker.life.name, f"hears from {short(self.topic)}: {told(payload)}")
        self._hear(payload)
