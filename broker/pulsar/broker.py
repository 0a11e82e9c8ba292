"""The connection to a Pulsar broker."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from broker.interface import BrokerUnavailable, Kind
from broker.pulsar import handshake
from broker.pulsar.address import Address
from broker.pulsar.channels import Channels
from broker.pulsar.consumer import PulsarConsumer
from broker.pulsar.credential import Credential
from broker.pulsar.failure import FORBIDDEN, PulsarFailure, Result, explain
from broker.pulsar.library import Library
from broker.pulsar.limits import PulsarLimits, Window
from broker.pulsar.listener import PulsarListener
from broker.pulsar.patience import patiently
from broker.pulsar.producer import PulsarProducer
from broker.pulsar.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker.pulsar.prefetching_consumer import PrefetchingConsumer
    from broker.pulsar.watch import Member

_PING_TOPIC = "persistent://public/default/workernode-ping"
"""Looked up and never made. Any answer will do, also that we may not know."""


class PulsarBroker:
    """One connection; nothing is opened, and no thread started, before :meth:`connect` or the first other call."""

    def __init__(
        self,
        url: str,
        *,
        token: str | Callable[[], str] | None = None,
        tls_trust_certs: str | None = None,
        limits: PulsarLimits | None = None,
    ) -> None:
        self.address = Address(url)
        self.limits = limits or PulsarLimits()
        self._credential = Credential(token=token, tls_trust_certs=tls_trust_certs)
        self.channels = Channels(self.address, self._credential, self.limits)
        self.window = Window(self.limits.pending_sends_max, self.limits.pending_bytes_max)
        self.members: set[Member] = set()
        self.library: Library | None = None
        """Opened with the first consumer that prefetches."""
        self.lost = False
        self._watch: Watch | None = None
        self._connecting = asyncio.Lock()
        self._ensured: defaultdict[str, set[str]] = defaultdict(set)
        """Subscriptions that were asked for, by topic."""
        self._sure: set[tuple[str, str]] = set()
        """Those that are there for all we know."""
        self._closed = False

    def __repr__(self) -> str:
        return f"<PulsarBroker {self.address} connected={self.connected} members={len(self.members)}>"

    @property
    def durable(self) -> bool:
        return True

    @property
    def connected(self) -> bool:
        return self._watch is not None and not self.lost

    @property
    def ping_topic(self) -> str:
        """A topic to ask the broker about: one in use, because a permission to ask comes with it."""
        return next((member.topic for member in self.members), _PING_TOPIC)

    async def connect(self) -> None:
        async with self._connecting:
            if self._closed:
                raise self._is_closed()
            if self._watch is not None:
                return
            doing = f"Connecting to the broker at {self.address}"
            try:
                fault = await handshake.fault(self.address, self.channels, self.limits.connect_timeout_s)
            except PulsarFailure as failure:
                raise explain(failure, doing) from None
            if fault is not None:
                raise BrokerUnavailable(f"{doing} failed: {fault}.")
            if self._closed:
                raise self._is_closed()
            self._watch = Watch(self)

    async def ensure(self, topic: str, subscription: str) -> None:
        if (topic, subscription) in self._sure:
            return
        await self._reach()
        try:
            await patiently(lambda: self.make_sure(topic, subscription), self.limits)
        except PulsarFailure as failure:
            raise explain(failure, f"Making subscription {subscription!r} of {topic} at {self.address}") from None
        self._ensured[topic].add(subscription)

    def doubt(self, topic: str) -> None:
        """A producer of it was closed, by the broker or by us: it may have been deleted, or be from now on without our
        hearing of it, and its subscriptions with it."""
        self._sure.difference_update([(topic, subscription) for subscription in self._ensured.get(topic, ())])

    async def ensure_again(self, topic: str) -> None:
        """Make those of its subscriptions that were ensured before it or the broker was lost, before anything is
        published: both may have come back without their data. Raises :class:`broker.pulsar.failure.PulsarFailure`."""
        for subscription in tuple(self._ensured.get(topic, ())):
            if (topic, subscription) not in self._sure:
                try:
                    await self.make_sure(topic, subscription)
                except PulsarFailure as failure:
                    # Who may only publish by now takes it for made, as at the beginning (broker.reaching.keep).
                    if failure.result not in FORBIDDEN:
                        raise

    async def producer(self, topic: str, *, gather_ms: int = 0) -> PulsarProducer:
        await self._reach()
        producer = PulsarProducer(self, topic, gather_ms)
        await self._admit(producer, producer.join(), f"Opening a producer of {topic} at {self.address}")
        return producer

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> PulsarConsumer | PrefetchingConsumer:
        await self._reach()
        consumer: PulsarConsumer | PrefetchingConsumer
        if prefetch:
            # Imported here so that a process without any does not load the library.
            from broker.pulsar.client import PulsarClient
            from broker.pulsar.prefetching_consumer import PrefetchingConsumer

            self.library = self.library or Library(
                partial(PulsarClient, self.address.text, self.limits, self._credential)
            )
            consumer = PrefetchingConsumer(self, self.library, topic, subscription, kind, prefetch)
        else:
            consumer = PulsarConsumer(self, topic, subscription, kind)
        await self._admit(
            consumer,
            consumer.join(from_earliest=from_earliest),
            f"Joining subscription {subscription!r} of {topic} at {self.address}",
        )
        return consumer

    async def listen(
        self, topic: str, hear: Callable[[bytes], None], *, waiting_max: int, gathers: bool = False
    ) -> PulsarListener:
        await self._reach()
        listener = PulsarListener(self, topic, hear, waiting_max, gathers=gathers)
        await self._admit(listener, listener.join(), f"Listening to {topic} at {self.address}")
        return listener

    async def aclose(self) -> None:
        self._closed = True
        if self._watch is not None:
            await self._watch.stop()
            self._watch = None
        await asyncio.gather(*(member.aclose() for member in list(self.members)))
        await self.channels.aclose()
        if self.library is not None:
            await self.library.aclose()

    def lose(self) -> None:
        """The broker does not answer."""
        self._sure.clear()
        self.lost = True

    def find(self) -> None:
        """The broker answers."""
        if self.lost:
            self._sure.clear()
        self.lost = False

    def hurry(self) -> None:
        """A member was lost that does not come back by itself: look now."""
        if self._watch is not None:
            self._watch.hurry()

    async def make_sure(self, topic: str, subscription: str, *, from_earliest: bool = True) -> None:
        """Join for a moment without a permit: topic and subscription come to be, and nothing is taken. Raises
        :class:`broker.pulsar.failure.PulsarFailure`."""
        channel = await self.channels.channel(topic, gathers=False)
        try:
            consumer = await channel.consume(
                topic, subscription, Kind.SHARED, from_earliest=from_earliest, take=lambda _: None, on_lost=lambda: None
            )
        except PulsarFailure as failure:
            # Consumers of another kind are there, so the subscription is as well.
            if failure.result != Result.ConsumerBusy:
                raise
        else:
            await consumer.aclose()
        self._sure.add((topic, subscription))

    async def _reach(self) -> None:
        await self.connect()
        if self.lost:
            raise BrokerUnavailable(f"The connection to the broker at {self.address} is lost.")

    async def _admit(self, member: Member, joining: Coroutine[None, None, None], doing: str) -> None:
        try:
            await joining
        except PulsarFailure as failure:
            raise explain(failure, doing) from None
        if self._closed:
            raise self._is_closed()  # and it with all connections
        self.members.add(member)

    def _is_closed(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"This connection to {self.address} is closed.")
