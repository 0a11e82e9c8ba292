"""The connection to a Pulsar broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import _pulsar

from broker.interface import BrokerUnavailable, Kind
from broker.pulsar import handshake
from broker.pulsar.address import Address
from broker.pulsar.channels import Channels
from broker.pulsar.client import PulsarClient
from broker.pulsar.consumer import PulsarConsumer
from broker.pulsar.credential import Credential
from broker.pulsar.failure import PulsarFailure, explain
from broker.pulsar.limits import PulsarLimits, Window
from broker.pulsar.listener import PulsarListener
from broker.pulsar.patience import patiently
from broker.pulsar.prefetching_consumer import PrefetchingConsumer
from broker.pulsar.producer import PulsarProducer
from broker.pulsar.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

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
        credential = Credential(token=token, tls_trust_certs=tls_trust_certs)
        self.channels = Channels(self.address, credential, self.limits)
        self.window = Window(self.limits.pending_sends_max, self.limits.pending_bytes_max)
        self.members: set[Member] = set()
        self.lost = False
        self._token = token
        self._tls_trust_certs = tls_trust_certs
        self._client: PulsarClient | None = None
        self._watch: Watch | None = None
        self._connecting = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._ensured: set[tuple[str, str]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<PulsarBroker {self.address} connected={self.connected} members={len(self.members)}>"

    @property
    def durable(self) -> bool:
        return True

    @property
    def connected(self) -> bool:
        return self._client is not None and not self.lost

    @property
    def client(self) -> PulsarClient:
        """The client in use; raises :class:`BrokerUnavailable` when there is none."""
        if self._client is None:
            raise BrokerUnavailable(f"There is no connection to {self.address}.")
        return self._client

    @property
    def ping_topic(self) -> str:
        """A topic to ask the broker about: one in use, because a permission to ask comes with it."""
        return next((member.topic for member in self.members), _PING_TOPIC)

    async def connect(self) -> None:
        async with self._connecting:
            if self._closed:
                raise BrokerUnavailable(f"This connection to {self.address} is closed.")
            if self._client is not None:
                return
            doing = f"Connecting to the broker at {self.address}"
            try:
                fault = await handshake.fault(self.address, self.channels, self.limits.connect_timeout_s)
            except PulsarFailure as failure:
                raise explain(failure, doing) from None
            if fault is not None:
                raise BrokerUnavailable(f"{doing} failed: {fault}.")
            client = self.new_client()
            try:
                answered = await client.answers(_PING_TOPIC)
            except BaseException:
                self.retire(client)
                raise
            if not answered:
                self.retire(client)
                raise explain(PulsarFailure(_pulsar.Result.Timeout), doing)
            self._client = client
            self._watch = Watch(self)

    async def ensure(self, topic: str, subscription: str) -> None:
        if (topic, subscription) in self._ensured:
            return
        await self._reach()
        try:
            await patiently(lambda: self._join_for_a_moment(topic, subscription), self.limits)
        except PulsarFailure as failure:
            # Consumers of another kind are there, so the subscription is as well.
            if failure.result != _pulsar.Result.ConsumerBusy:
                raise explain(failure, f"Making subscription {subscription!r} of {topic} at {self.address}") from None
        self._ensured.add((topic, subscription))

    async def producer(self, topic: str, *, gather_ms: int = 0) -> PulsarProducer:
        await self._reach()
        producer = PulsarProducer(self, topic, gather_ms)
        await self._admit(producer, producer.join(), f"Opening a producer of {topic} at {self.address}")
        return producer

    async def consumer(
        self, topic: str, subscription: str, kind: Kind, *, prefetch: int = 0, from_earliest: bool = False
    ) -> PulsarConsumer | PrefetchingConsumer:
        await self._reach()
        consumer = (
            PrefetchingConsumer(self, topic, subscription, kind, prefetch)
            if prefetch
            else PulsarConsumer(self, topic, subscription, kind)
        )
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
        client, self._client = self._client, None
        if client is not None:
            self.retire(client)
        # A callback of the client that finds its loop gone has nowhere to go, so all of them end first.
        if self._retiring:
            await asyncio.wait(self._retiring)

    def hurry(self) -> None:
        """A member was lost that does not come back by itself: look now."""
        if self._watch is not None:
            self._watch.hurry()

    def new_client(self) -> PulsarClient:
        """A further client for the same address, not yet in use."""
        return PulsarClient(self.address.text, self.limits, token=self._token, tls_trust_certs=self._tls_trust_certs)

    def replace_client(self, fresh: PulsarClient) -> None:
        """Use ``fresh`` from here on; the members are still to be joined to it."""
        old, self._client = self._client, fresh
        # The silence may have been a broker that came back without its data.
        self._ensured.clear()
        if old is not None:
            self.retire(old)

    def retire(self, client: PulsarClient) -> None:
        """Close a client in the background; :meth:`aclose` waits for it."""
        task = asyncio.create_task(client.aclose(), name="pulsar-client-close")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _join_for_a_moment(self, topic: str, subscription: str) -> None:
        """Without a permit: the subscription comes to be, and nothing is taken."""
        channel = await self.channels.channel(topic, gathers=False)
        consumer = await channel.consume(
            topic, subscription, Kind.SHARED, from_earliest=True, take=lambda _: None, on_lost=lambda: None
        )
        await consumer.aclose()

    async def _reach(self) -> None:
        await self.connect()
        if self.lost:
            raise BrokerUnavailable(f"The connection to the broker at {self.address} is lost.")

    async def _admit(self, member: Member, joining: Coroutine[None, None, None], doing: str) -> None:
        try:
            await joining
        except PulsarFailure as failure:
            raise explain(failure, doing) from None
        self.members.add(member)
