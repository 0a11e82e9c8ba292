"""A broker that tells what was published through it, whichever broker is behind it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.passing_broker import PassingBroker

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.interface import Broker, Consumer, Kind, Listener, Producer


class Watch:
    """What all watched connections of a test did: ``published`` counts messages by topic, ``made`` holds topics."""

    def __init__(self) -> None:
        self.published: Counter[str] = Counter()
        self.made: set[str] = set()

    @property
    def requests(self) -> int:
        """How many messages went into request topics."""
        return sum(count for topic, count in self.published.items() if "/requests." in topic)

    def over(self, broker: Broker) -> WatchedBroker:
        """The same broker, watched."""
        return WatchedBroker(broker, self)


class WatchedBroker(PassingBroker):
    """Remembers which topics are used."""

    def __init__(self, inner: Broker, watch: Watch) -> None:
        super().__init__(inner)
        self._watch = watch

    async def ensure(self, topic: str, subscription: str) -> None:
        self._watch.made.add(topic)
        await super().ensure(topic, subscription)

    async def producer(self, topic: str, *, gather_ms: int = 0) -> WatchedProducer:
        self._watch.made.add(topic)
        return WatchedProducer(await super().producer(topic, gather_ms=gather_ms), topic, self._watch)

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> Consumer:
        self._watch.made.add(topic)
        return await super().consumer(topic, subscription, kind, prefetch=prefetch, from_earliest=from_earliest)

    async def listen(
        self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int, gathers: bool = False
    ) -> Listener:
        self._watch.made.add(topic)
        return await super().listen(topic, hear, waiting_max=waiting_max, gathers=gathers)


class WatchedProducer:
    """Counts, and hands every call on."""

    def __init__(self, inner: Producer, topic: str, watch: Watch) -> None:
        self._inner = inner
        self._topic = topic
        self._watch = watch

    async def send(self, payload: bytes) -> None:
        self._watch.published[self._topic] += 1
        await self._inner.send(payload)

    def post(self, payload: bytes) -> None:
        self._watch.published[self._topic] += 1
        self._inner.post(payload)

    async def aclose(self) -> None:
        await self._inner.aclose()
