"""A broker connection whose non-persistent messages get lost, as Pulsar's may."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from broker.interface import Broker, Consumer, Kind, Listener, Producer


class LossyBroker:
    """Loses a share of what is published on non-persistent topics, receipts given all the same."""

    def __init__(self, inner: Broker, chance: random.Random, share: float) -> None:
        self._inner, self._chance, self._share = inner, chance, share
        self.lost = 0

    @property
    def durable(self) -> bool:
        return self._inner.durable

    @property
    def connected(self) -> bool:
        return self._inner.connected

    async def connect(self) -> None:
        await self._inner.connect()

    async def ensure(self, topic: str, subscription: str) -> None:
        await self._inner.ensure(topic, subscription)

    async def producer(self, topic: str, *, gather_ms: int = 0) -> Producer:
        inner = await self._inner.producer(topic, gather_ms=gather_ms)
        # Presence is repeated every five seconds by design; losing it would only make the test slower.
        careful = topic.startswith("persistent://") or topic.endswith(("presence", "roll-call"))
        return inner if careful else _LossyProducer(self, inner)

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> Consumer:
        return await self._inner.consumer(topic, subscription, kind, prefetch=prefetch, from_earliest=from_earliest)

    async def listen(self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int) -> Listener:
        return await self._inner.listen(topic, hear, waiting_max=waiting_max)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def loses(self) -> bool:
        """Whether the next message is lost."""
        lost = self._chance.random() < self._share
        self.lost += lost
        return lost


class _LossyProducer:
    def __init__(self, broker: LossyBroker, inner: Producer) -> None:
        self._broker, self._inner = broker, inner

    async def send(self, payload: bytes) -> None:
        if not self._broker.loses():
            await self._inner.send(payload)

    def post(self, payload: bytes) -> None:
        if not self._broker.loses():
            self._inner.post(payload)

    async def aclose(self) -> None:
        await self._inner.aclose()
