"""A broker connection whose non-persistent messages get lost, as Pulsar's may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.passing_broker import PassingBroker

if TYPE_CHECKING:
    import random

    from broker.interface import Broker, Producer


class LossyBroker(PassingBroker):
    """Loses a share of what is published on non-persistent topics, receipts given all the same."""

    def __init__(self, inner: Broker, chance: random.Random, share: float) -> None:
        super().__init__(inner)
        self._chance, self._share = chance, share
        self.lost = 0

    async def producer(self, topic: str, *, gather_ms: int = 0) -> Producer:
        inner = await super().producer(topic, gather_ms=gather_ms)
        # Presence is repeated every five seconds by design; losing it would only make the test slower.
        careful = topic.startswith("persistent://") or topic.endswith(("presence", "roll-call"))
        return inner if careful else _LossyProducer(self, inner)

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
