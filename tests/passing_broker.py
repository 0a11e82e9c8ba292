"""A broker that hands every call on to another one, for brokers of tests to do more with some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker, Consumer, Kind, Listener, Producer


class PassingBroker:
    """Over ``inner``."""

    def __init__(self, inner: Broker) -> None:
        self._inner = inner

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
        return await self._inner.producer(topic, gather_ms=gather_ms)

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> Consumer:
        return await self._inner.consumer(topic, subscription, kind, prefetch=prefetch, from_earliest=from_earliest)

    async def listen(
        self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int, gathers: bool = False
    ) -> Listener:
        return await self._inner.listen(topic, hear, waiting_max=waiting_max)

    async def aclose(self) -> None:
        await self._inner.aclose()
